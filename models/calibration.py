"""Temperature scaling per head (Guo et al. 2017) and the threshold below which an answer is `neutral, unsure`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosswind.errors import DataError
from crosswind.models.evaluation import Classifier
from crosswind.models.metrics import f1_from, softmax
from crosswind.models.network import Manifest, read_manifest, write_manifest
from crosswind.models.rows import Row


def log_loss(
    logits: NDArray[np.float32], truth: Sequence[int], temperature: float, weights: NDArray[np.float64] | None = None
) -> float:
    """Mean negative log-likelihood of the right labels at a temperature; rows weigh alike unless `weights` [rows]."""
    right = softmax(logits, temperature)[np.arange(len(truth)), np.asarray(truth)]
    return float(np.average(-np.log(np.maximum(right, 1e-12)), weights=weights))


def fit_temperature(
    logits: NDArray[np.float32], truth: Sequence[int], weights: NDArray[np.float64] | None = None,
    low: float = 0.2, high: float = 8.0, steps: int = 60,
) -> float:  # fmt: skip
    """The temperature that minimises the log-loss, by golden-section search on its logarithm.

    Args:
        logits: [rows, labels].
        truth: [rows], the right label's position.
        weights: [rows]; None: all weigh alike.

    Raises:
        DataError: there are no rows to fit on.
    """
    if not len(truth):
        raise DataError("temperature scaling needs labelled validation rows, and there are none")
    ratio = (5**0.5 - 1) / 2
    a, b = float(np.log(low)), float(np.log(high))
    for _ in range(steps):
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        if log_loss(logits, truth, float(np.exp(c)), weights) < log_loss(logits, truth, float(np.exp(d)), weights):
            b = d
        else:
            a = c
    return float(np.exp((a + b) / 2))


def apply_threshold(probabilities: NDArray[np.float64], threshold: float, neutral: int) -> NDArray[np.int64]:
    """Answers [rows]: the likeliest label, or `neutral` where its probability is below the threshold."""
    chosen: NDArray[np.int64] = probabilities.argmax(1).astype(np.int64)
    chosen[probabilities.max(1) < threshold] = neutral
    return chosen


def fit_threshold(
    probabilities: NDArray[np.float64], truth: Sequence[int], neutral: int, tolerance: float = 0.002
) -> float:
    """The highest threshold whose macro-F1 is within `tolerance` of the best.

    A higher threshold calls more articles unsure; among those that cost nothing the most careful one is taken.

    Args:
        probabilities: [rows, labels], calibrated.
        truth: [rows].
        neutral: position of the label that unsure answers are given as.

    Returns:
        A probability from 1 / labels (never unsure) upwards.
    """
    labels = probabilities.shape[1]
    grid = np.arange(1.0 / labels, 0.9, 0.01)
    answers = np.asarray(truth, dtype=np.int64)
    scores = []
    for threshold in grid:
        flat = answers * labels + apply_threshold(probabilities, float(threshold), neutral)
        scores.append(f1_from(np.bincount(flat, minlength=labels * labels).reshape(labels, labels)))
    best = max(scores, default=0.0)
    return float(max(t for t, s in zip(grid, scores, strict=True) if s >= best - tolerance))


def source_weights(rows: Sequence[Row]) -> NDArray[np.float64]:
    """A weight per row, so that every source weighs alike, however many rows it has."""
    counts = Counter(row.source for row in rows)
    return np.array([1.0 / counts[row.source] for row in rows])


def calibrate(folder: Path, rows: Sequence[Row], classify: Classifier) -> Manifest:
    """Fit the temperature of every head and the unsure threshold of `sentiment`, and write them into a MODEL_DIR.

    For the temperature each source weighs alike: else the largest one decides how sure the model is of all others.

    Args:
        folder: the MODEL_DIR; its `crosswind.json` is rewritten.
        rows: validation rows; a head without labels among them keeps temperature 1.
        classify: texts to logits per task, of this model.

    Returns:
        The new manifest.
    """
    manifest = read_manifest(folder)
    logits = classify([row.text for row in rows])
    for task in manifest.tasks:
        known = [i for i, row in enumerate(rows) if row.label(task.name) is not None]
        if not known:
            continue
        truth = [task.labels.index(str(rows[i].label(task.name))) for i in known]
        temperature = fit_temperature(logits[task.name][known], truth, source_weights([rows[i] for i in known]))
        manifest.temperature[task.name] = round(temperature, 4)
        if task.name == "sentiment" and "neutral" in task.labels:
            probabilities = softmax(logits[task.name][known], temperature)
            threshold = fit_threshold(probabilities, truth, task.labels.index("neutral"))
            manifest.unsure_below[task.name] = round(threshold, 4)
    write_manifest(folder, manifest)
    return manifest
