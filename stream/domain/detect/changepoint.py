"""Bayesian online changepoint: the odds that the rate has changed for the worse within the last hours."""

from dataclasses import dataclass
from functools import lru_cache
from math import lgamma, log

import numpy as np

from crosswind.stream.domain.detect.detector import Scores
from crosswind.stream.domain.detect.season import Counts, Floats
from crosswind.stream.domain.detect.view import View, Window

SHAPE, RATE = 1.5, 0.5
"""Gamma prior of the rate after a change, in units of what is expected: mean 3."""


@dataclass(frozen=True, slots=True)
class Changepoint:
    """Adams and MacKay, Bayesian online changepoint detection, arXiv:0710.3742 (2007), run lengths up to eight hours,
    geometric hazard. Before a change the rate is the expected one; after it, gamma distributed, so a run's counts are
    negative binomial. Overdispersion tempers the likelihood (a power 1 / (1 + excess·mean)).

    Attributes:
        hazard: probability of a change in ten minutes.
    """

    name: str = "changepoint"
    version: str = "2"
    widths: tuple[int, ...] = (*range(10, 121, 10), *range(150, 481, 30))
    hazard: float = 1e-4

    def scores(self, view: View) -> Scores:
        """The logarithm of the odds, offset so that no evidence is 0."""
        logs = np.stack([_evidence(view.window(width)) for width in self.widths])
        tens = np.array(self.widths, np.float64)[:, None, None] / 10.0
        stood_for = np.diff(tens, axis=0, prepend=0.0)  # beginnings, ten minutes apart, that a width speaks for
        weighed = logs + log(self.hazard) + (tens - 1.0) * log(1.0 - self.hazard) + np.log(stood_for)
        most = weighed.max(axis=0)
        odds = most + np.log(np.exp(weighed - most).sum(axis=0)) - log(self.hazard)
        widths: Counts = np.array(self.widths, np.int64)[weighed.argmax(axis=0)]
        return Scores(np.round(np.maximum(odds, 0.0), 6), widths)


def _evidence(seen: Window) -> Floats:
    """Log Bayes factor of a new rate against the expected one, [series, minutes]."""
    count, mean = seen.negative, np.maximum(seen.mean, 1e-9)
    known = _log_gammas(int(count.max(initial=0)) + 1)[count.astype(np.int64)]
    factor = SHAPE * log(RATE) - lgamma(SHAPE) + known - (SHAPE + count) * np.log(RATE + mean) + count * np.log(mean)
    factor = (factor + mean - count * np.log(mean)) / (1.0 + seen.excess * mean)
    return np.where(count > mean, factor, np.minimum(factor, 0.0))


@lru_cache(maxsize=64)
def _table(size: int) -> Floats:
    return np.array([lgamma(SHAPE + n) for n in range(size)])


def _log_gammas(size: int) -> Floats:
    """lgamma(SHAPE + n) for n below a power of two that holds `size`."""
    return _table(1 << max(size - 1, 1).bit_length())
