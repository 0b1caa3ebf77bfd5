"""OpenVINO in ONNX Runtime's place: the same answers, the same bits in any company, refused where it is not fit."""

import random
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from structlog.testing import capture_logs

from crosswind.errors import BundleError, ModelError, ProviderError
from crosswind.export.bundle import MODEL, SHIPPED, TOKENIZER
from crosswind.export.running import by_length, encode, feed, open_graph
from crosswind.export.standard import is_fused, standard
from crosswind.export.texts import written_test
from crosswind.stream.adapters import openvino_session
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.openvino_session import OPENVINO, TOGETHER, OpenVinoSession
from crosswind.stream.adapters.providers import CPU, open_session

ROOT = Path(__file__).resolve().parents[3]
OUTPUTS = ["topic", "sentiment", "embedding", "meaning"]
TEXTS = [row.text for row in written_test()][::9]


def _why_not() -> str:
    try:
        openvino_session._core()
    except ProviderError as error:
        return str(error)
    return ""


WHY_NOT = _why_not()
there = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture(scope="module")
def ids() -> list[list[int]]:
    return encode(SHIPPED / TOKENIZER, TEXTS, 96)


def test_the_graph_in_standard_operators_gives_what_the_int8_graph_gives(ids: list[list[int]], tmp_path: Path) -> None:
    given = onnx.load(str(SHIPPED / MODEL))
    before = given.SerializeToString()
    assert is_fused(given)
    made = standard(given)
    onnx.checker.check_model(made)
    assert given.SerializeToString() == before
    assert not is_fused(made)
    assert {node.domain for node in made.graph.node} == {""}
    onnx.save(made, str(tmp_path / "standard.onnx"))
    one, other = open_graph(SHIPPED / MODEL), open_graph(tmp_path / "standard.onnx")
    for name in OUTPUTS:
        expected, found = (np.concatenate([s.run([name], feed(text))[0] for text in ids]) for s in (one, other))
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ProviderError, match=r"needs onnx, too: pip install 'crosswind\[openvino\]'"):
        openvino_session._graph(SHIPPED / MODEL)


def test_an_operator_that_the_export_does_not_make_is_refused() -> None:
    model = onnx.load(str(SHIPPED / MODEL))
    next(node for node in model.graph.node if node.op_type == "MultiHeadAttention").op_type = "PackedAttention"
    with pytest.raises(ModelError, match=r"PackedAttention of com\.microsoft"):
        standard(model)


@there
def test_it_gives_the_labels_that_onnx_runtime_gives(ids: list[list[int]]) -> None:
    one, other = OnnxScorer(SHIPPED, "cpu", threads=2), OnnxScorer(SHIPPED, "openvino", threads=2)
    assert (one.provider, other.provider) == (CPU, OPENVINO)
    pairs = list(zip(one.score(TEXTS), other.score(TEXTS), strict=True))
    assert sum(a.topic == b.topic for a, b in pairs) >= 0.97 * len(pairs)
    assert sum(a.sentiment == b.sentiment for a, b in pairs) >= 0.97 * len(pairs)
    assert all(len(b.meaning) == len(a.meaning) > 0 for a, b in pairs)
    one.close()
    other.close()


@there
def test_no_bit_depends_on_the_company(ids: list[list[int]]) -> None:
    session = OpenVinoSession(SHIPPED / MODEL, 2, ids[:12])
    assert session.together == TOGETHER
    shared = [group for group in by_length(ids, session.together, session.step) if len(group) > 1]
    assert len(shared) > 10
    scorer = OnnxScorer(SHIPPED, "openvino", threads=2)
    alone = [scorer.score([text])[0] for text in TEXTS]
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = scorer.score([TEXTS[place] for place in order])
    assert [shuffled[order.index(place)] for place in range(len(TEXTS))] == alone
    scorer.close()


@there
def test_many_threads_share_a_session(ids: list[list[int]]) -> None:
    session = OpenVinoSession(SHIPPED / MODEL, 2, ids[:3])
    expected = [session.run(["topic"], feed(text))[0] for text in ids]
    wrong: list[int] = []

    def work(seed: int) -> None:
        picked = random.Random(seed).choices(range(len(ids)), k=60)
        wrong.extend(p for p in picked if not np.array_equal(session.run(["topic"], feed(ids[p]))[0], expected[p]))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@there
def test_a_graph_that_it_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch, ids: list[list[int]]) -> None:
    """A wrong weight stands for an operator that OpenVINO gets wrong, which there have been."""
    right = openvino_session._graph

    def wrong(path: Path) -> bytes:
        model = onnx.load_from_string(right(path))
        spoilt = next(tensor for tensor in model.graph.initializer if tensor.name == "encoder.layer.3/key/matrix")
        value = numpy_helper.to_array(spoilt)
        spoilt.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value[::-1]), spoilt.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(openvino_session, "_graph", wrong)
    with pytest.raises(ProviderError, match="away from ONNX Runtime's"):
        OnnxScorer(SHIPPED, "openvino")
    with capture_logs() as logs:
        scorer = OnnxScorer(SHIPPED, "openvino,cpu")
    assert scorer.provider == CPU
    assert [(log["log_level"], log["wanted"], log["active"]) for log in logs] == [("warning", OPENVINO, CPU)]
    scorer.close()


@there
def test_texts_run_alone_where_company_would_change_a_bit(
    monkeypatch: pytest.MonkeyPatch, ids: list[list[int]]
) -> None:
    own = OpenVinoSession.run

    def moved(self: OpenVinoSession, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [value * (1 + 1e-6 * (len(value) > 2)) for value in own(self, names, feed)]

    monkeypatch.setattr(OpenVinoSession, "run", moved)
    assert OpenVinoSession(SHIPPED / MODEL, 1, ids[:3]).together == 1


@there
def test_a_graph_of_an_older_export_is_refused_and_runs_on_onnx_runtime(ids: list[list[int]], tmp_path: Path) -> None:
    """Its attention took a bias: not what the rewriting knows."""
    model, path = onnx.load(str(SHIPPED / MODEL)), tmp_path / "m.onnx"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3 * 384, np.float32), "bias"))
    for node in model.graph.node:
        if node.op_type == "MultiHeadAttention":
            node.input.append("bias")
    onnx.save(model, str(path))
    with pytest.raises(ProviderError, match="older export"):
        open_session(path, "openvino", "int8", 1, ids[:3])
    assert open_session(path, "openvino,cpu", "int8", 1, ids[:3]).get_providers() == [CPU]


@there
@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_file_that_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="cannot load"):
        open_session(tmp_path / "m.onnx", "openvino", "int8", 1, [[1, 2]])


@there
def test_its_statistics_service_is_never_loaded() -> None:
    code = (
        "import sys; from crosswind.stream.adapters import openvino_session as o; o._core(); "
        "assert 'openvino' in sys.modules; "
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@there
def test_it_needs_no_package_that_only_training_has() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = {name: {_package(line) for line in lines} for name, lines in project["optional-dependencies"].items()}
    missing = sorted(extras["train"] - extras["openvino"] - {_package(line) for line in project["dependencies"]})
    assert {"torch", "transformers"} <= set(missing)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r})); "
        "from crosswind.export.bundle import SHIPPED; from crosswind.stream.adapters.onnx_scorer import OnnxScorer; "
        "OnnxScorer(SHIPPED, 'openvino', 1).close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _package(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement)[0].replace("-", "_")


def test_where_it_is_not_installed_the_error_says_how(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ProviderError, match=r"pip install 'crosswind\[openvino\]'"):
        OnnxScorer(tiny_bundle, "openvino")


@there
def test_a_processor_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    import openvino

    class Old:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "Core", Old)
    with pytest.raises(ProviderError, match="does not compute in bfloat16"):
        OnnxScorer(tiny_bundle, "openvino")
