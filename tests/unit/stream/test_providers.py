"""Where inference runs: an order, no silent fall-back, and runs on bound buffers that give the same scores."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from structlog.testing import capture_logs

from crosswind.errors import ProviderError, SettingsError
from crosswind.settings import load_settings
from crosswind.stream.adapters.bound_runs import ROWS, BoundRuns, fill, padded_length
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.providers import CPU, PROVIDERS, check_active, open_session, order_of


def graph(path: Path) -> Path:
    """Mean over the tokens that the mask leaves, through a layer that mixes: padding and company must not show."""
    rng = np.random.default_rng(3)
    table, layer = (rng.normal(size=shape).astype(np.float32) for shape in ((50, 64), (64, 5)))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["wide"]),
        helper.make_node("Mul", ["rows", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "first"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["kept", "first"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "layer"], ["topic"]),
    ]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
           for name in ("input_ids", "attention_mask")]  # fmt: skip
    outputs = [helper.make_tensor_value_info("topic", TensorProto.FLOAT, ["batch", 5])]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in
                 {"table": table, "layer": layer, "last": np.array([2], np.int64), "first": np.array([1], np.int64)
                  }.items()]  # fmt: skip
    model = helper.make_model(helper.make_graph(nodes, "masked", ids, outputs, constants),
                              opset_imports=[helper.make_opsetid("", 17)], ir_version=9)  # fmt: skip
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def session(tmp_path: Path) -> ort.InferenceSession:
    return open_session(graph(tmp_path / "m.onnx"), "cpu", "fp32")


def texts(number: int) -> list[list[int]]:
    rng = np.random.default_rng(7)
    return [rng.integers(1, 50, int(size)).tolist() for size in rng.integers(1, 70, number)]


def test_bound_runs_give_what_single_runs_give(session: ort.InferenceSession) -> None:
    given = texts(3 * ROWS + 5)
    for ids, row in zip(given, BoundRuns(session, ["topic"], "cpu").run(given), strict=True):
        feed = {"input_ids": np.asarray([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        (alone,) = session.run(["topic"], feed)
        assert row[0].shape == (1, 5)
        assert np.allclose(row[0], alone, atol=1e-6)


def test_a_bound_run_does_not_depend_on_company_or_place(session: ort.InferenceSession) -> None:
    runs, given = BoundRuns(session, ["topic"], "cpu"), texts(ROWS + 9)
    together = runs.run(given)
    backwards = runs.run(given[::-1])[::-1]
    alone = [runs.run([ids])[0] for ids in given]
    for one, other, third in zip(together, backwards, alone, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[0], third[0])


def test_nothing_gives_nothing(session: ort.InferenceSession) -> None:
    assert BoundRuns(session, ["topic"], "cpu").run([]) == []


def test_shapes_follow_from_the_text_alone() -> None:
    tokens, mask = fill([[5, 6], [7]], padded_length(2))
    assert tokens.shape == mask.shape == (ROWS, 16)
    assert tokens[1, :2].tolist() == [7, 0]
    assert (mask[2:] == mask[0]).all()


def test_the_first_provider_that_is_there_is_used_and_the_others_are_named(tmp_path: Path) -> None:
    with capture_logs() as logs:
        session = open_session(graph(tmp_path / "m.onnx"), "tensorrt,cuda,cpu", "fp32")
    assert session.get_providers()[0] == CPU
    assert [(log["log_level"], log["wanted"], log["active"]) for log in logs] == [
        ("warning", PROVIDERS["tensorrt"], CPU)
    ] * 2
    assert "CUDAExecutionProvider is not available" in logs[1]["reason"]


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "tensorrt,cuda"])
def test_a_device_that_is_not_there_is_refused(device: str, tiny_bundle: Path) -> None:
    with pytest.raises(ProviderError, match="is not available; this ONNX Runtime has"):
        OnnxScorer(tiny_bundle, device)


def test_a_fall_back_of_onnx_runtime_is_noticed() -> None:
    with pytest.raises(ProviderError, match="fell back to CPUExecutionProvider"):
        check_active([CPU], PROVIDERS["cuda"])
    check_active([PROVIDERS["cuda"], CPU], PROVIDERS["cuda"])


def test_int8_is_refused_off_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [PROVIDERS["cuda"], CPU])
    with pytest.raises(ProviderError, match="--precision fp16"):
        open_session(graph(tmp_path / "m.onnx"), "cuda", "int8")


def test_a_session_never_retries_on_the_cpu_by_itself(session: ort.InferenceSession) -> None:
    assert session._enable_fallback is False


@pytest.mark.parametrize("device", ["gpu", "cuda,cuda", "", "cpu,"])
def test_an_order_that_cannot_be_read_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="the preferred first"):
        order_of(device)


def test_the_setting_takes_an_order() -> None:
    assert load_settings({"device": "tensorrt,cuda"}).device == "tensorrt,cuda"
    with pytest.raises(SettingsError, match="--device"):
        load_settings({"device": "gpu"})
