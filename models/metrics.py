"""Measures of classifications, in numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def confusion(truth: Sequence[int], given: Sequence[int], labels: int) -> NDArray[np.int64]:
    """Counts [labels, labels]: rows are the truth, columns the answer."""
    flat = np.asarray(truth, dtype=np.int64) * labels + np.asarray(given, dtype=np.int64)
    return np.bincount(flat, minlength=labels * labels).reshape(labels, labels)


def macro_f1(truth: Sequence[int], given: Sequence[int]) -> float:
    """Mean F1 over the classes that occur in the truth or the answers, as scikit-learn's macro average; 0 for no rows."""
    if not len(truth):
        return 0.0
    return f1_from(confusion(truth, given, int(max(max(truth), max(given))) + 1))


def f1_from(table: NDArray[np.int64]) -> float:
    """Macro-F1 of a confusion table, over the classes that occur."""
    hits, wanted, found = np.diag(table), table.sum(1), table.sum(0)
    present = (wanted + found) > 0
    return float((2 * hits[present] / (wanted + found)[present]).mean()) if present.any() else 0.0
