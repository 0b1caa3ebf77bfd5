"""The integer arithmetic of the export, without a model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("threadpoolctl", reason="needs crosswind[train]")

from crosswind.export.quantise import by_row
from crosswind.export.rounding import by_products, column_scales, to_nearest

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


@settings(max_examples=20)
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
