"""The whole export on a tiny real model: PyTorch to ONNX to int8 to a sealed bundle that serving reads."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from crosswind.errors import ModelError
from crosswind.export.bundle import MODEL, verify
from crosswind.export.inspect import check
from crosswind.export.running import encode, run_graph
from crosswind.models.rows import Row
from crosswind.stream.adapters.onnx_scorer import OnnxScorer

torch = pytest.importorskip("torch", reason="needs crosswind[train]")
pytest.importorskip("optimum.exporters.onnx", reason="needs crosswind[train]")

from crosswind.export.build import Request, export_bundle, run_torch  # noqa: E402
from crosswind.export.calibration import calibrate  # noqa: E402
from crosswind.export.graph import write_graph  # noqa: E402
from crosswind.export.quantise import Recipe, quantise, quantise_embedding  # noqa: E402
from crosswind.export.sources import load_source  # noqa: E402
from tests.integration.export.tiny_model import WORDS, clear_rows, make_tiny_model, sentences  # noqa: E402

TEXTS = sentences(30)


@pytest.fixture(scope="module")
def rows(model_dir: Path) -> list[Row]:
    return clear_rows(model_dir)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def request_int8(model_dir: Path, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Request:
    out = tmp_path_factory.mktemp("out") / "bundle"
    return Request(model_dir, out, rows, sentences(40, seed=1), TEXTS[:20], recipes=(Recipe(8, 4, True),),
                   fused=False)  # fmt: skip


@pytest.fixture(scope="module")
def int8(request_int8: Request) -> Path:
    export_bundle(request_int8)
    return request_int8.out


def test_int8_bundle_verifies_serves_and_answers_its_smoke_sentences(int8: Path) -> None:
    manifest = check(int8)
    assert manifest.precision == "int8"
    assert len(manifest.smoke) >= 1
    scorer = OnnxScorer(int8, threads=1)
    for sentence, score in zip(manifest.smoke, scorer.score([s["text"] for s in manifest.smoke]), strict=True):
        assert (score.topic, score.sentiment) == (sentence["topic"], sentence["sentiment"])
    scorer.close()


def test_int8_score_is_the_same_alone_in_company_and_on_any_number_of_threads(int8: Path) -> None:
    one, many = OnnxScorer(int8, threads=1), OnnxScorer(int8, threads=4)
    alone = [one.score([text])[0] for text in TEXTS]
    assert one.score(TEXTS) == alone
    assert many.score(list(reversed(TEXTS))) == list(reversed(alone))
    one.close()
    many.close()


def test_int8_graph_multiplies_integers_and_keeps_no_large_float_table(int8: Path) -> None:
    graph = onnx.load(str(int8 / MODEL)).graph
    assert [node.op_type for node in graph.node].count("MatMulInteger") == 12  # six products in each of two layers
    floats = {t.name: list(t.dims) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    assert not [name for name, dims in floats.items() if "word_embeddings" in name and dims[-1] != 1]
    assert not [name for name, dims in floats.items() if len(dims) == 2 and "/apart" not in name and min(dims) >= 48
                and "position" not in name]  # fmt: skip


def test_report_lies_beside_and_names_every_language(int8: Path) -> None:
    report = json.loads((int8.parent / "bundle.parity.json").read_text())
    assert report["version"] == verify(int8).version
    assert [p["precision"] for p in report["precisions"]] == ["fp32", "int8"]
    assert {row["lang"] for row in report["precisions"][1]["languages"]} == {"*", "en", "de"}
    page = (int8.parent / "bundle.parity.html").read_text()
    assert "Plotly.newPlot" in page
    assert "<script src" not in page


def test_fp32_graph_gives_pytorch_logits_and_embedding(model_dir: Path, rows: list[Row], tmp_path: Path) -> None:
    report = export_bundle(Request(model_dir, tmp_path / "b", rows, [], TEXTS[:5], "fp32"))
    assert all(c.largest < 1e-4 for c in report.chosen.comparisons)
    source = load_source(model_dir)
    ids = encode(source.tokenizer, TEXTS, 64)
    exported = run_graph(tmp_path / "b" / MODEL, ids, source.heads)
    np.testing.assert_allclose(exported.embedding, run_torch(source, ids).embedding, atol=1e-4)


def test_fine_activations_come_closer_to_fp32(model_dir: Path, rows: list[Row], tmp_path: Path) -> None:
    source, fp32, int8 = load_source(model_dir), tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    write_graph(source.module, fp32)
    ids = encode(source.tokenizer, [row.text for row in rows], 64)
    exact, inputs = run_graph(fp32, ids, source.heads).logits, calibrate(fp32, ids[:40])
    moved = []
    for fine in ("none", "narrowing", "all"):
        quantise(fp32, int8, Recipe(8, 4, True, fine), inputs)
        moved.append(float(np.abs(run_graph(int8, ids, source.heads).logits["topic"] - exact["topic"]).mean()))
    assert moved[0] > moved[1] > moved[2]


def test_failed_gate_writes_no_bundle_keeps_the_former_and_names_the_language(
    request_int8: Request, int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verify(int8).version

    def ruin(model: object) -> None:
        quantise_embedding(model)
        for tensor in model.graph.initializer:  # type: ignore[attr-defined]
            if tensor.name.endswith("_scales") and "word_embeddings" in tensor.name:
                tensor.raw_data = bytes(len(tensor.raw_data))

    monkeypatch.setattr("crosswind.export.quantise.quantise_embedding", ruin)
    with pytest.raises(ModelError, match=r"no bundle was written.*en, topic: agreement \d+\.\d+%, limit 99%"):
        export_bundle(request_int8)
    assert check(int8).version == before
    assert (int8.parent / "bundle.rejected.html").is_file()


def test_the_same_model_gives_the_same_version(request_int8: Request, int8: Path, tmp_path: Path) -> None:
    again = replace(request_int8, out=tmp_path / "bundle")
    assert export_bundle(again).version == verify(int8).version


def test_tokenizer_of_another_model_is_refused(model_dir: Path, rows: list[Row], tmp_path: Path) -> None:
    foreign = shutil.copytree(model_dir, tmp_path / "foreign")
    tokenizer = Tokenizer.from_file(str(foreign / "tokenizer.json"))
    tokenizer.add_tokens([f"new{index}" for index in range(len(WORDS))])
    tokenizer.save(str(foreign / "tokenizer.json"))
    with pytest.raises(ModelError, match="another model's tokenizer"):
        export_bundle(Request(foreign, tmp_path / "b", rows, [], [], "fp32"))
    assert not (tmp_path / "b").exists()


def test_labels_that_do_not_fit_the_weights_are_refused(model_dir: Path, rows: list[Row], tmp_path: Path) -> None:
    changed = shutil.copytree(model_dir, tmp_path / "changed")
    content = json.loads((changed / "crosswind.json").read_text())
    content["heads"][0]["labels"].append("weather")
    (changed / "crosswind.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="heads do not fit"):
        export_bundle(Request(changed, tmp_path / "b", rows, [], [], "fp32"))
