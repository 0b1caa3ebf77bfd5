"""The integer arithmetic of the export, without a model."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("threadpoolctl", reason="needs crosswind[train]")
onnx = pytest.importorskip("onnx", reason="needs crosswind[train]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from crosswind.export.quantise import by_row, pack, quantise_embedding  # noqa: E402
from crosswind.export.rounding import by_products, column_scales, to_nearest  # noqa: E402

FINITE = st.floats(-100, 100, width=32, allow_subnormal=False)
"""No subnormal numbers: a scale of one loses bits that no weight of a model has."""


@given(arrays(np.float32, (5, 8), elements=FINITE))
def test_rows_come_back_within_half_a_step_of_their_own_scale(table: np.ndarray) -> None:
    rows, scales = by_row(table)
    assert (np.abs(rows * scales - table) <= scales * 0.501).all()


def test_a_row_of_zeros_stays_zero_and_a_small_row_keeps_its_detail() -> None:
    table = np.asarray([[0, 0], [0.001, -0.0005], [90, 1]], np.float32)
    rows, scales = by_row(table)
    assert rows.tolist() == [[0, 0], [127, -64], [127, 1]]
    assert scales[0] == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([63, 127]))
def test_rounding_by_products_stays_in_range_and_beats_rounding_to_nearest(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(64, 64)) * (0.95 ** np.arange(64))  # correlated inputs, as in a real layer
    inputs = (rng.normal(size=(2000, 64)) @ mixing).astype(np.float32)
    weights = rng.normal(size=(64, 16)).astype(np.float32)
    scales = column_scales(weights, limit)
    near, good = to_nearest(weights, scales, limit), by_products(weights, scales, limit, inputs.T @ inputs)
    assert np.abs(good).max() <= limit

    def error(rounded: np.ndarray) -> float:
        return float(np.square(inputs @ (rounded * scales - weights)).mean())

    assert error(good) < error(near)


def test_weights_that_are_on_the_grid_are_not_moved() -> None:
    grid = np.asarray([[127, -3], [5, 127], [-8, 60]], np.int8)
    scales = np.asarray([0.5, 0.25], np.float32)
    found = by_products((grid * scales).astype(np.float32), scales, 127, np.eye(3, dtype=np.float32))
    assert found.tolist() == grid.tolist()


def _four_bit_table(seed: int, rows: int = 6, width: int = 128) -> np.ndarray:
    """A table as llama.cpp's Q4_0 gives it: each block of 32 has a float16 scale, and its largest entry is -8 of it."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-7, 8, (rows, width // 32, 32))
    np.put_along_axis(numbers, rng.integers(0, 32, (rows, width // 32, 1)), -8, 2)
    scales = rng.normal(size=(rows, width // 32, 1)).astype(np.float16).astype(np.float32)
    return (numbers * scales).astype(np.float32).reshape(rows, width)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_a_four_bit_table_packs_and_is_looked_up_without_any_loss(seed: int) -> None:
    table = _four_bit_table(seed)
    table[3] = 0
    node = helper.make_node("Gather", ["words", "input_ids"], ["found"], "look_up")
    graph = helper.make_graph(
        [node], "graph", [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["batch", "length", table.shape[1]])],
        [numpy_helper.from_array(table, "words")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    quantise_embedding(model)
    onnx.checker.check_model(model)
    assert sum(np.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT) == 1
    ids = np.asarray([[0, 5, 3], [2, 2, 1]])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert np.array_equal(session.run(None, {"input_ids": ids})[0], table[ids])


def test_a_table_that_four_bits_would_change_is_not_packed() -> None:
    table = _four_bit_table(0)
    assert pack(table) is not None
    table[2, 40] *= 1.001
    assert pack(table) is None
    assert pack(_four_bit_table(0)[:, :96]) is None
