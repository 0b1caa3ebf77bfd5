"""Farrington's exceedance: this hour against the same hours of the preceding weeks."""

from dataclasses import dataclass

import numpy as np

from crosswind.stream.domain.detect.detector import Scores
from crosswind.stream.domain.detect.season import GAP, WEEK, Floats
from crosswind.stream.domain.detect.view import View


@dataclass(frozen=True, slots=True)
class Farrington:
    """Quasi-Poisson prediction on the 2/3 power scale, reference hours with large residuals weighed down.

    Farrington, Andrews, Beale and Catchpole, A statistical algorithm for the early detection of outbreaks of
    infectious disease, J. R. Stat. Soc. A 159 (1996), sections 3.3-3.6, without the trend; weights and residual bound
    (2.58) as improved by Noufaily et al., Statist. Med. 32 (2013).

    Attributes:
        half: hours on each side of the same hour that are references too.
    """

    name: str = "farrington"
    version: str = "2"
    widths: tuple[int, ...] = (60,)
    half: int = 2

    def scores(self, view: View) -> Scores:
        """See `Detector.scores`."""
        counts = self._same_hours(view)
        if counts.shape[1] == 0:
            return Scores(np.zeros((len(counts), view.minutes)), np.full((len(counts), view.minutes), 60, np.int64))
        mean, spread = _reference(counts)
        count = view.negatives(60)
        transformed = count ** (2 / 3) - mean ** (2 / 3)
        z: Floats = np.maximum(transformed / ((2 / 3) * mean ** (-1 / 3) * spread), 0.0)
        return Scores(np.round(z, 6), np.full(z.shape, 60, np.int64))

    def _same_hours(self, view: View) -> Floats:
        """Counts of the hours that are compared, [series, references]; none in a feed's first week."""
        length = view.reference.shape[1]
        same = np.arange(length // WEEK)[:, None] * WEEK + (GAP + np.arange(-self.half, self.half + 1)) % WEEK
        places = same.ravel() % length
        # Before the feed began nothing was heard; those hours are no zeros.
        return view.reference[:, places[places >= length - view.normal.hours]].astype(np.float64)


def _reference(counts: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of the prediction, [series, 1] each."""
    mean = (counts.sum(axis=1, keepdims=True) + 0.5) / counts.shape[1]
    weight = np.ones_like(counts)
    for _ in range(2):
        dispersion = _dispersion(counts, mean, weight)
        residual = 1.5 * (counts ** (2 / 3) - mean ** (2 / 3)) / (mean ** (1 / 6) * np.sqrt(dispersion))
        weight = np.where(residual > 2.58, 1.0 / np.maximum(residual, 1.0) ** 2, 1.0)
        mean = ((weight * counts).sum(axis=1, keepdims=True) + 0.5) / weight.sum(axis=1, keepdims=True)
    dispersion = _dispersion(counts, mean, weight)
    return mean, np.sqrt(dispersion * mean * (1.0 + 1.0 / counts.shape[1]))


def _dispersion(counts: Floats, mean: Floats, weight: Floats) -> Floats:
    chi = (weight * (counts - mean) ** 2 / mean).sum(axis=1, keepdims=True)
    return np.asarray(np.maximum(chi / max(counts.shape[1] - 1, 1), 1.0), np.float64)
