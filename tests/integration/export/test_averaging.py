"""The mean of models: weights, calibration, what shaped it, and models that do not fit."""

import json
from pathlib import Path

import pytest

from crosswind.errors import ModelError
from crosswind.models.rows import Row

torch = pytest.importorskip("torch", reason="needs crosswind[train]")

from tokenizers import Tokenizer  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

from crosswind.models.averaging import average, held_out_scores  # noqa: E402
from crosswind.models.network import load_model, read_manifest, save_model  # noqa: E402
from tests.integration.export.tiny_model import make_tiny_model, sentences  # noqa: E402

LABELS = ("positive", "neutral", "negative")
ROWS = [Row(text=text, lang="en", source="t", sentiment=LABELS[n % 3]) for n, text in enumerate(sentences(30))]


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "first")


@pytest.fixture
def second(first: Path) -> Path:
    """The first, trained on: its upper layer has moved by 2, and it has seen more rows."""
    network, tokenizer, manifest = load_model(first)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "layer.1." in name:
                parameter += 2
    manifest.data = [{"name": "a", "rows": 7}, {"name": "b", "rows": 1}]
    save_model(first.with_name("second"), network, tokenizer, manifest)
    return first.with_name("second")


def test_what_moved_is_half_way_and_what_stood_still_is_the_same(first: Path, second: Path, tmp_path: Path) -> None:
    average([first, second], tmp_path / "mean", ROWS)
    before, after = (load_model(folder)[0].state_dict() for folder in (first, tmp_path / "mean"))
    for name, tensor in after.items():
        moved = "layer.1." in name and tensor.is_floating_point()
        assert torch.allclose(tensor, before[name] + 1) if moved else torch.equal(tensor, before[name]), name


def test_it_is_calibrated_and_says_what_shaped_it(first: Path, second: Path, tmp_path: Path) -> None:
    manifest = average([first, second], tmp_path / "mean", ROWS)
    assert read_manifest(tmp_path / "mean").to_json() == manifest.to_json()
    assert manifest.temperature["sentiment"] > 0
    assert manifest.metrics == {}, "what was measured of one of them is not true of the mean"
    assert {entry["name"]: entry.get("rows") for entry in manifest.data if entry["name"] in "ab"} == {"a": 7, "b": 1}
    assert manifest.command == "crosswind average first second"


def test_one_model_or_others_that_do_not_fit_are_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="two MODEL_DIRs"):
        average([first], tmp_path / "mean", ROWS)
    network, tokenizer, manifest = load_model(first)
    manifest.tasks = manifest.tasks[:1]
    network.heads = torch.nn.ModuleDict({manifest.tasks[0].name: network.heads[manifest.tasks[0].name]})
    save_model(tmp_path / "other", network, tokenizer, manifest)
    with pytest.raises(ModelError, match="trained from one base"):
        average([first, tmp_path / "other"], tmp_path / "mean", ROWS)
    assert not (tmp_path / "mean").exists()


def test_it_speaks_the_languages_of_all(first: Path, second: Path, tmp_path: Path) -> None:
    network, tokenizer, manifest = load_model(second)
    known = set(manifest.languages)
    manifest.languages = ["ro", "de"]
    save_model(second, network, tokenizer, manifest)
    mean = average([first, second], tmp_path / "mean", ROWS)
    assert mean.languages == sorted(known | {"ro", "de"}) != sorted(known)


def _other_vocabulary(folder: Path, out: Path, moved: float = 0.0) -> Path:
    """The same model with two pieces of its vocabulary in each other's place, embeddings and all."""
    network, _, manifest = load_model(folder)
    raw = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    pieces = raw["model"]["vocab"]
    one, two = len(pieces) - 1, len(pieces) - 2
    if isinstance(pieces, dict):
        names = {number: piece for piece, number in pieces.items()}
        pieces[names[one]], pieces[names[two]] = two, one
    else:
        pieces[one], pieces[two] = pieces[two], pieces[one]
    weight = network.encoder.get_input_embeddings().weight
    with torch.no_grad():
        weight[[one, two]] = weight[[two, one]]
        weight[one] += moved
        network.heads["sentiment"].bias += 2
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(raw)), pad_token="<pad>")
    save_model(out, network, tokenizer, manifest)
    return out


def test_models_of_two_vocabularies_share_their_pieces(first: Path, tmp_path: Path) -> None:
    second = _other_vocabulary(first, tmp_path / "second")
    average([first, second], tmp_path / "mean", ROWS)
    (mine, pieces, _), (mean, theirs, _) = load_model(first), load_model(tmp_path / "mean")
    assert theirs.get_vocab() == pieces.get_vocab() != load_model(second)[1].get_vocab()
    assert torch.equal(mean.encoder.get_input_embeddings().weight, mine.encoder.get_input_embeddings().weight)
    assert torch.allclose(mean.heads["sentiment"].bias, mine.heads["sentiment"].bias + 1)


def test_another_vocabulary_whose_pieces_have_moved_is_refused(first: Path, tmp_path: Path) -> None:
    second = _other_vocabulary(first, tmp_path / "second", moved=0.5)
    with pytest.raises(ModelError, match="word embeddings have moved"):
        average([first, second], tmp_path / "mean", ROWS)
    assert not (tmp_path / "mean").exists()


def test_models_are_compared_by_the_mean_over_languages(first: Path) -> None:
    network, _, manifest = load_model(first)
    with torch.no_grad():
        network.heads["sentiment"].weight.zero_()
        network.heads["sentiment"].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))  # everything is positive
    save_model(first, network, load_model(first)[1], manifest)
    rows = [Row(text="a", lang="en", source="t", sentiment="positive"),
            *(Row(text="b", lang="de", source="t", sentiment=label) for label in ("positive", "negative", "negative")),
            Row(text="c", lang="fr", source="t")]  # fmt: skip
    assert held_out_scores(first, rows) == {"sentiment": pytest.approx((1 + (0.5 + 0) / 2) / 2)}
