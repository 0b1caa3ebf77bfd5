"""The int8 graph that is built from the weights: small, close to the model, and the same in any company."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest

from crosswind.errors import ModelError
from crosswind.export.bundle import MODEL, SHIPPED, TOKENIZER
from crosswind.export.inspect import check
from crosswind.export.running import by_length, encode, feed, feed_many, open_graph, together
from crosswind.stream.adapters.onnx_scorer import OnnxScorer

torch = pytest.importorskip("torch", reason="needs crosswind[train]")
pytest.importorskip("optimum.exporters.onnx", reason="needs crosswind[train]")

from crosswind.export.build import Request, export_bundle, run_torch, shape_of  # noqa: E402
from crosswind.export.fused import NAME, Shape, build  # noqa: E402
from crosswind.export.sources import load_source  # noqa: E402
from crosswind.models.meaning_graph import OUTPUT  # noqa: E402
from tests.integration.export.tiny_model import clear_rows, make_tiny_model, sentences  # noqa: E402

TEXTS = sentences(60)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def fused(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "bundle"
    report = export_bundle(Request(model_dir, out, clear_rows(model_dir), sentences(40, seed=1), TEXTS[:20]))
    assert report.chosen.recipe == NAME
    return out


def test_a_layer_is_few_operators_and_no_large_table_is_float(fused: Path) -> None:
    graph = onnx.load(str(fused / MODEL)).graph
    per_layer = sum(node.output[0].startswith("encoder.layer.1") for node in graph.node)
    assert per_layer <= 44
    floats = {t.name: t.dims for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    large = [name for name, dims in floats.items() if np.prod(dims) > 48 * 48]
    assert large == ["embeddings.position_embeddings.weight"]


def test_it_answers_as_the_model_does(model_dir: Path, fused: Path) -> None:
    source = load_source(model_dir)
    ids = encode(source.tokenizer, sentences(80, seed=5), 64)
    session = open_graph(fused / MODEL)
    for head, wanted in run_torch(source, ids).logits.items():
        given = np.concatenate([session.run([head], feed(text))[0] for text in ids])
        assert np.abs(given - wanted).max() < 0.12 * wanted.std()


@pytest.mark.parametrize("shipped", [False, True], ids=["fused", "shipped"])
def test_no_bit_depends_on_the_company(fused: Path, shipped: bool) -> None:
    """The shipped bundle has the output `meaning` as well, and is large enough for other paths through the library."""
    folder = SHIPPED if shipped else fused
    ids = encode(folder / TOKENIZER, sentences(200, seed=6), 64)
    session = open_graph(folder / MODEL)
    assert (OUTPUT in {output.name for output in session.get_outputs()}) == shipped
    shared = [group for group in by_length(ids, 8) if len(group) > 1]
    assert len(shared) > 20
    for group in shared:
        joint = session.run(None, feed_many([ids[place] for place in group]))
        for row, place in enumerate(group):
            alone = session.run(None, feed(ids[place]))
            assert all(np.array_equal(one[row], other[0]) for one, other in zip(joint, alone, strict=True))


def test_a_run_with_padding_gives_no_numbers(fused: Path) -> None:
    """Attention takes no mask: better none than wrong ones."""
    ids = encode(fused / TOKENIZER, TEXTS[:1], 64)[0]
    run = feed_many([ids, ids])
    run["attention_mask"][1, -1] = 0
    topic, embedding = open_graph(fused / MODEL).run(["topic", "embedding"], run)
    for found in (topic, embedding):
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()


def test_the_export_finds_that_out_and_serving_relies_on_it(fused: Path) -> None:
    assert check(fused).together == 8
    texts = sentences(100, seed=7)
    scorer = OnnxScorer(fused, threads=2)
    expected = [scorer.score([text])[0] for text in texts]
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled = scorer.score([texts[place] for place in order])
    assert [shuffled[order.index(place)] for place in range(len(texts))] == expected
    scorer.close()


def test_a_graph_whose_scores_move_is_run_one_by_one(model_dir: Path, tmp_path: Path) -> None:
    export_bundle(Request(model_dir, tmp_path / "b", clear_rows(model_dir), sentences(40, seed=1), [], fused=False))
    assert check(tmp_path / "b").together == 1
    ids = encode(tmp_path / "b" / TOKENIZER, TEXTS[:1], 64)
    assert together(tmp_path / "b" / MODEL, ids) == 1


def test_other_encoders_go_the_other_way(model_dir: Path) -> None:
    source = load_source(model_dir)
    assert shape_of(source) == Shape(2, 4, 1e-12)
    source.module.config.hidden_act = "relu"
    assert shape_of(source) is None


def test_a_missing_weight_is_named() -> None:
    with pytest.raises(ModelError, match=r"no weights .*word_embeddings"):
        build({}, Shape(1, 1, 1e-12), {}, {"topic": 2})
