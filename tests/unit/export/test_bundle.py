"""Each way a bundle can be wrong is one clear error. The bundle is the tiny real one of `tiny_bundle.py`."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto
from typer.testing import CliRunner

from crosswind.errors import BundleError, ProviderError
from crosswind.export.bundle import MANIFEST, MODEL, TOKENIZER, seal, verify
from crosswind.export.cli import app
from crosswind.export.inspect import check, diff
from crosswind.models.rows import Row
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from tests.integration.deployment.bundles import opposite


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    seal(folder, manifest)


def test_flipped_bit(bundle: Path) -> None:
    raw = bytearray((bundle / MODEL).read_bytes())
    raw[len(raw) // 2] ^= 1
    (bundle / MODEL).write_bytes(raw)
    with pytest.raises(BundleError, match="was altered"):
        verify(bundle)


def test_truncated_file(bundle: Path) -> None:
    os.truncate(bundle / TOKENIZER, 100)
    with pytest.raises(BundleError, match="was altered"):
        verify(bundle)


def test_truncated_graph_that_was_sealed_so(bundle: Path) -> None:
    os.truncate(bundle / MODEL, (bundle / MODEL).stat().st_size // 2)
    with pytest.raises(BundleError, match="is not an ONNX graph"):
        reseal(bundle, lambda manifest: None)


@pytest.mark.parametrize("labels", [["positive", "negative"], ["positive", "neutral", "negative", "mixed"]])
def test_missing_and_extra_label(bundle: Path, labels: list[str]) -> None:
    reseal(bundle, lambda manifest: manifest["heads"][1].update(labels=labels))
    with pytest.raises(BundleError, match="sentiment"):
        OnnxScorer(bundle)
    with pytest.raises(BundleError, match=f"expected {len(labels)} labels"):
        check(bundle)


def test_wrong_opset(bundle: Path) -> None:
    with pytest.raises(BundleError, match="is for opset 17, its manifest says 18"):
        reseal(bundle, lambda manifest: manifest.update(opset=18))


def test_opset_that_the_runtime_does_not_know(bundle: Path) -> None:
    model = onnx.load(str(bundle / MODEL))
    model.opset_import[0].version = 99
    (bundle / MODEL).write_bytes(model.SerializeToString())
    reseal(bundle, lambda manifest: manifest.update(opset=99))
    with pytest.raises(BundleError, match=r"cannot load .*Opset 99 .*till opset"):
        OnnxScorer(bundle)


def test_tokenizer_of_another_model_with_as_many_entries(bundle: Path) -> None:
    """Nothing but the answers can tell: the smoke sentences do."""
    tokenizer = json.loads((bundle / TOKENIZER).read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["falls"], vocabulary["rises"] = vocabulary["rises"], vocabulary["falls"]
    (bundle / TOKENIZER).write_text(json.dumps(tokenizer))
    reseal(bundle, lambda manifest: None)
    with pytest.raises(BundleError, match=r"gives sentiment 'positive'.*sealed with 'negative'"):
        check(bundle)


def test_foreign_tokenizer(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"tokenizer.*7 entries.*6 rows"):
        reseal(bundle, lambda manifest: manifest.update(vocabulary=6))


def test_newer_manifest_format(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(BundleError, match="format 2; this Crosswind reads format 1"):
        verify(bundle)


def test_link(bundle: Path) -> None:
    (bundle / MODEL).rename(bundle.parent / MODEL)
    (bundle / MODEL).symlink_to(bundle.parent / MODEL)
    with pytest.raises(BundleError, match="not a plain file"):
        verify(bundle)


def test_extra_file(bundle: Path) -> None:
    (bundle / "weights.pickle").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"weights\.pickle"):
        verify(bundle)


def test_external_data(bundle: Path) -> None:
    model = onnx.load(str(bundle / MODEL))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../elsewhere.bin")
    (bundle / MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"data outside .*topic_rows"):
        reseal(bundle, lambda manifest: None)


def test_no_cuda_where_it_is_demanded(bundle: Path) -> None:
    with pytest.raises(ProviderError, match="CUDAExecutionProvider is not available"):
        OnnxScorer(bundle, device="cuda")


def test_answers_that_are_not_the_sealed_ones(bundle: Path) -> None:
    check(bundle)
    reseal(bundle, lambda manifest: manifest["smoke"][0].update(sentiment="positive"))
    with pytest.raises(BundleError, match=r"gives sentiment 'negative'.*sealed with 'positive'"):
        check(bundle)


def test_version_follows_content(bundle: Path, tiny_bundle: Path) -> None:
    assert diff(bundle, tiny_bundle)["fields"] == {}
    reseal(bundle, lambda manifest: manifest.update(unsure_below=0.5))
    assert set(diff(bundle, tiny_bundle)["fields"]) == {"version", "unsure_below"}


ROWS = [Row(text=text, lang="en", source="t") for text in ("profit falls", "bank rises", "oil today")]


def flips(one: Path, other: Path) -> dict[str, int]:
    return {row["head"]: row["flips"] for row in diff(one, other, ROWS)["answers"] if row["lang"] == "en"}


@pytest.mark.parametrize("change", [
    lambda manifest: manifest.update(unsure_below=0.9999999),
    lambda manifest: manifest["heads"][1].update(temperature=1000.0),
])  # fmt: skip
def test_each_bundle_answers_by_its_own_threshold_and_temperature(
    change: Callable[[dict[str, Any]], None], bundle: Path, tiny_bundle: Path
) -> None:
    reseal(bundle, change)
    assert flips(tiny_bundle, bundle) == flips(bundle, tiny_bundle) == {"topic": 0, "sentiment": 2}


def test_labels_are_compared_by_name(tiny_bundle: Path, tmp_path: Path) -> None:
    other = opposite(tiny_bundle, tmp_path / "other")
    assert flips(tiny_bundle, other)["sentiment"] == 2
    reseal(other, lambda manifest: manifest["heads"][1]["labels"].reverse())
    assert flips(tiny_bundle, other) == {"topic": 0, "sentiment": 0}
    assert diff(tiny_bundle, other, ROWS)["not_compared"] == []


def test_heads_that_cannot_be_compared_are_named(bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    reseal(bundle, lambda manifest: manifest["heads"][1].update(labels=["up", "flat", "down"], name="sentiment"))
    reseal(bundle, lambda manifest: manifest.update(smoke=[]))
    assert flips(tiny_bundle, bundle) == {"topic": 0}
    (row,) = diff(tiny_bundle, bundle, ROWS)["not_compared"]
    assert row == {"head": "sentiment", "before": ("positive", "neutral", "negative"), "after": ("up", "flat", "down")}
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "profit falls", "lang": "en"}))
    said = CliRunner().invoke(app, ["bundle", "diff", str(tiny_bundle), str(bundle), "--texts", str(texts)]).output
    assert "sentiment: not compared, the labels differ: positive, neutral, negative -> up, flat, down" in said
