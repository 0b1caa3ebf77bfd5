"""Robust EWMA: recent hours, the latest most, against what the season expects."""

from dataclasses import dataclass

import numpy as np

from crosswind.stream.domain.detect.detector import Scores
from crosswind.stream.domain.detect.view import View


@dataclass(frozen=True, slots=True)
class Ewma:
    """Exponentially weighted mean of standardised residuals of the last `hours`, each held below `most` spreads.

    Lucas and Saccucci, Exponentially weighted moving average control schemes, Technometrics 32 (1990); the bound is
    Huber's, as in Capizzi and Masarotto, An adaptive EWMA control chart, Technometrics 45 (2003).
    """

    name: str = "ewma"
    version: str = "2"
    widths: tuple[int, ...] = (60,)
    weight: float = 0.4
    hours: int = 8
    most: float = 12.0

    def scores(self, view: View) -> Scores:
        """See `Detector.scores`."""
        total = np.zeros((view.negative.shape[0], view.minutes))
        shares = self.weight * (1.0 - self.weight) ** np.arange(self.hours)
        for back, share in enumerate(shares):
            seen = view.window(60, 60 * back)
            spread = np.sqrt(seen.mean * (1.0 + seen.excess * seen.mean) + 0.05)
            total += share * np.clip((seen.negative - seen.mean) / spread, -2.0, self.most)
        score = np.round(np.maximum(total / np.sqrt((shares**2).sum()), 0.0), 6)
        return Scores(score, np.full(score.shape, 60, np.int64))
