"""Rounds a matrix of weights to integers so that its products, not its entries, stay close. Pure numpy."""

import numpy as np
from numpy.typing import NDArray

from crosswind.export.calibration import Floats

BLOCK = 128
DAMPING = 0.01
"""Share of the mean diagonal added to the moment, as in the paper: channels that never fired would make it singular."""


def column_scales(weights: Floats, limit: int) -> Floats:
    """One scale per output, [outputs]: the largest weight of its column becomes `limit`."""
    largest = np.abs(weights).max(0)
    scales: Floats = np.where(largest > 0, largest / limit, 1).astype(np.float32)
    return scales


def to_nearest(weights: Floats, scales: Floats, limit: int) -> NDArray[np.int8]:
    """Every weight to its nearest step: float32 [inputs, outputs] to int8 within ±`limit`."""
    rounded: NDArray[np.int8] = np.clip(np.rint(weights / scales), -limit, limit).astype(np.int8)
    return rounded


def by_products(weights: Floats, scales: Floats, limit: int, moment: Floats) -> NDArray[np.int8]:
    """Rounds input by input; what one rounding spoils, the inputs still to come make good (GPTQ, Frantar et al. 2023).

    Args:
        weights: [inputs, outputs].
        moment: of the inputs, see `calibration.Inputs`; the strongest inputs are rounded first.

    Returns:
        int8 [inputs, outputs] within ±`limit`.
    """
    order = np.argsort(-np.diag(moment), kind="stable")
    upper = _inverse_factor(moment[np.ix_(order, order)].astype(np.float64))
    left, rounded = weights[order].astype(np.float32), np.zeros(weights.shape, np.int8)
    for start in range(0, len(left), BLOCK):
        stop = min(start + BLOCK, len(left))
        errors = np.zeros((stop - start, weights.shape[1]), np.float32)
        for i in range(start, stop):
            step = np.clip(np.rint(left[i] / scales), -limit, limit)
            rounded[order[i]] = step
            errors[i - start] = (left[i] - step * scales) / upper[i, i]
            left[i + 1 : stop] -= np.outer(upper[i, i + 1 : stop], errors[i - start])
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return rounded


def _inverse_factor(moment: NDArray[np.float64]) -> Floats:
    """The upper triangle U with U.T @ U = inverse of the damped moment."""
    damped = moment + np.eye(len(moment)) * max(DAMPING * float(np.diag(moment).mean()), 1e-9)
    factor: Floats = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return factor
