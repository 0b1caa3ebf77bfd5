"""fp16 graphs, and sequence classifiers that Crosswind did not train."""

import json
import multiprocessing
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from crosswind.errors import BundleError, ModelError
from crosswind.export.bundle import MODEL, verify
from crosswind.export.cli import app
from crosswind.export.inspect import check
from crosswind.export.running import encode, run_graph
from crosswind.models.rows import Row

torch = pytest.importorskip("torch", reason="needs crosswind[train]")
pytest.importorskip("optimum.exporters.onnx", reason="needs crosswind[train]")

from transformers import (  # noqa: E402
    AlbertConfig,
    AlbertForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from crosswind.export.build import Request, export_bundle  # noqa: E402
from crosswind.export.graph import write_graph  # noqa: E402
from crosswind.export.half import to_fp16  # noqa: E402
from crosswind.export.sources import load_source  # noqa: E402
from tests.integration.export.tiny_model import SPECIAL, WORDS, make_tiny_model, sentences  # noqa: E402

LABELS = {0: "POSITIVE", 1: "NEUTRAL", 2: "NEGATIVE"}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_foreign_classifier_with_one_head_becomes_a_bundle(kind: str, model_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    size = len(SPECIAL) + len(WORDS)
    if kind == "bert":
        config = BertConfig(vocab_size=size, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                            intermediate_size=96, id2label=LABELS, initializer_range=0.3)  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(tmp_path / "foreign")
    else:
        small = DistilBertConfig(vocab_size=size, dim=48, n_layers=2, n_heads=4, hidden_dim=96, id2label=LABELS,
                                 initializer_range=0.3)  # fmt: skip
        DistilBertForSequenceClassification(small).save_pretrained(tmp_path / "foreign")
    (tmp_path / "foreign" / "tokenizer.json").write_bytes((model_dir / "tokenizer.json").read_bytes())
    rows = [Row(text=text, lang="en", source="t") for text in sentences(20)]
    export_bundle(Request(tmp_path / "foreign", tmp_path / "b", rows, [], sentences(10), "fp32"))
    manifest = check(tmp_path / "b")
    assert [(head.name, head.labels) for head in manifest.heads] == [("sentiment", ("positive", "neutral", "negative"))]
    shown = json.loads((tmp_path / "b.parity.json").read_text())
    assert shown["precisions"][0]["languages"][0]["largest"] < 1e-4


def test_fp16_keeps_inputs_and_outputs_halves_the_weights_and_comes_close(model_dir: Path, tmp_path: Path) -> None:
    source = load_source(model_dir)
    write_graph(source.module, tmp_path / "fp32.onnx")
    to_fp16(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    ids = encode(source.tokenizer, sentences(40), 64)
    exact = run_graph(tmp_path / "fp32.onnx", ids, source.heads)
    half = run_graph(tmp_path / "fp16.onnx", ids, source.heads)
    for head in ("topic", "sentiment"):
        assert half.logits[head].dtype == np.float32
        difference = np.abs(half.logits[head] - exact.logits[head]).max()
        assert 0 < difference < 0.01 * np.abs(exact.logits[head]).max()
    tensors = onnx.load(str(tmp_path / "fp16.onnx")).graph.initializer
    assert {t.data_type for t in tensors if min(t.dims, default=0) >= 48} == {onnx.TensorProto.FLOAT16}


def _export_on_a_full_disk(request: Request, limit: int, answers: "multiprocessing.Queue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        export_bundle(request)
        answers.put("done")
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}")


def test_a_disk_that_fills_half_way_through_an_export_leaves_the_former_bundle(model_dir: Path, tmp_path: Path) -> None:
    """No file may grow beyond the limit in the child: the graph goes through, the parity report's page does not."""
    rows = [Row(text=text, lang="en", source="t") for text in sentences(20)]
    request = Request(model_dir, tmp_path / "b", rows, [], sentences(10), "fp32")
    export_bundle(request)
    before, size = verify(tmp_path / "b"), (tmp_path / "b" / MODEL).stat().st_size
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=_export_on_a_full_disk, args=(request, size // 2, answers))
    child.start()
    said = answers.get(timeout=120)
    child.join()
    assert "File too large" in said
    assert said.startswith((BundleError.__name__, "ModelError"))
    assert verify(tmp_path / "b") == before
    assert not list(tmp_path.glob(".b.*"))


@pytest.mark.parametrize(("kind", "said"), [("albert", "the architecture albert cannot be brought to int8; .*fp32"),
                                            ("bart", "the architecture bart does not run on one text")])  # fmt: skip
def test_an_architecture_that_does_not_go_is_named(kind: str, said: str, model_dir: Path, tmp_path: Path) -> None:
    size = len(SPECIAL) + len(WORDS)
    if kind == "albert":
        config = AlbertConfig(vocab_size=size, embedding_size=48, hidden_size=48, num_hidden_layers=2,
                              num_attention_heads=4, intermediate_size=96, id2label=LABELS)  # fmt: skip
        AlbertForSequenceClassification(config).save_pretrained(tmp_path / "foreign")
    else:
        bart = BartConfig(vocab_size=size, d_model=48, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
                          decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, id2label=LABELS,
                          pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3)  # fmt: skip
        BartForSequenceClassification(bart).save_pretrained(tmp_path / "foreign")
    (tmp_path / "foreign" / "tokenizer.json").write_bytes((model_dir / "tokenizer.json").read_bytes())
    rows = [Row(text=text, lang="en", source="t") for text in sentences(20)]
    with pytest.raises(ModelError, match=said):
        export_bundle(Request(tmp_path / "foreign", tmp_path / "b", rows, sentences(20), sentences(10), "int8"))
    assert not (tmp_path / "b").exists()


def test_who_exports_a_bundle_of_one_head_is_told_what_it_is_good_for(model_dir: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=len(SPECIAL) + len(WORDS), hidden_size=48, num_hidden_layers=1,
                        num_attention_heads=4, intermediate_size=96, id2label=LABELS)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "foreign")
    (tmp_path / "foreign" / "tokenizer.json").write_bytes((model_dir / "tokenizer.json").read_bytes())
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text, "lang": "en"}) + "\n" for text in sentences(20)))
    for model, told in ((tmp_path / "foreign", True), (model_dir, False)):
        found = CliRunner().invoke(
            app, ["export", str(model), "--out", str(tmp_path / "b"), "--precision", "fp32", "--texts", str(texts)]
        )
        assert found.exit_code == 0, found.exception
        assert ("this bundle has no head topic: Crosswind's worker" in found.output) == told
