"""Measures of classifications, in numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def confusion(truth: Sequence[int], given: Sequence[int], labels: int) -> NDArray[np.int64]:
    """Counts [labels, labels]: rows are the truth, columns the answer."""
    flat = np.asarray(truth, dtype=np.int64) * labels + np.asarray(given, dtype=np.int64)
    return np.bincount(flat, minlength=labels * labels).reshape(labels, labels)


def macro_f1(truth: Sequence[int], given: Sequence[int]) -> float:
    """Mean F1 over the classes that occur in the truth or the answers, as scikit-learn's; 0 for no rows."""
    if not len(truth):
        return 0.0
    return f1_from(confusion(truth, given, int(max(max(truth), max(given))) + 1))


def f1_from(table: NDArray[np.int64]) -> float:
    """Macro-F1 of a confusion table, over the classes that occur."""
    hits, wanted, found = np.diag(table), table.sum(1), table.sum(0)
    present = (wanted + found) > 0
    return float((2 * hits[present] / (wanted + found)[present]).mean()) if present.any() else 0.0


def accuracy(truth: Sequence[int], given: Sequence[int]) -> float:
    """Share of right answers; 0 for no rows."""
    return float(np.mean(np.asarray(truth) == np.asarray(given))) if len(truth) else 0.0


def bootstrap(
    truth: Sequence[int], given: Sequence[int], labels: int, rounds: int = 500, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of macro-F1 over rows drawn with replacement (Efron 1979).

    Returns:
        Lower and upper bound; (0, 0) for no rows.
    """
    count = len(truth)
    if not count:
        return 0.0, 0.0
    flat = np.asarray(truth, dtype=np.int64) * labels + np.asarray(given, dtype=np.int64)
    rng = np.random.default_rng(seed)
    # Drawing rows with replacement is drawing the confusion table from a multinomial: no row is touched twice.
    shares = np.bincount(flat, minlength=labels * labels) / count
    tables = rng.multinomial(count, shares, rounds).reshape(rounds, labels, labels)
    scores = [f1_from(table) for table in tables]
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities [rows, labels], each row summing to 1."""
    scaled = logits.astype(np.float64) / temperature
    exp = np.exp(scaled - scaled.max(-1, keepdims=True))
    probabilities: NDArray[np.float64] = exp / exp.sum(-1, keepdims=True)
    return probabilities


def calibration_error(probabilities: NDArray[np.float64], truth: Sequence[int], bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015): mean gap between confidence and accuracy over equal-width bins.

    Args:
        probabilities: [rows, labels].
        truth: [rows], the right label's position.
    """
    if not len(truth):
        return 0.0
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == np.asarray(truth)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(float(right[place == b].mean() - confidence[place == b].mean())) * float((place == b).mean())
            for b in range(bins) if (place == b).any()]  # fmt: skip
    return float(sum(gaps))
