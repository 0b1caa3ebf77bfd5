"""Negative-binomial CUSUM: evidence for a rate that rose by a given factor, added up since it began."""

from dataclasses import dataclass

import numpy as np

from crosswind.stream.domain.detect.detector import Scores, strongest
from crosswind.stream.domain.detect.season import Floats
from crosswind.stream.domain.detect.view import View, Window


@dataclass(frozen=True, slots=True)
class Cusum:
    """Log likelihood ratio of mean·rise against mean, the largest over starts at the window edges.

    Höhle and Paul, Count data regression charts for the monitoring of surveillance time series, Comput. Stat. Data
    Anal. 52 (2008). A CUSUM is the maximum over all starts of the evidence since; window-limited, it is a pure
    function of the last hours and needs no state.
    """

    name: str = "cusum"
    version: str = "2"
    widths: tuple[int, ...] = (10, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 600)
    rise: float = 3.0

    def scores(self, view: View) -> Scores:
        """See `Detector.scores`."""
        return strongest([(width, self._evidence(view.window(width))) for width in self.widths])

    def _evidence(self, seen: Window) -> Floats:
        size = 1.0 / np.maximum(seen.excess, 1e-9)
        mean = np.maximum(seen.mean, 1e-9)
        grown = (mean + size) / (self.rise * mean + size)
        ratio = seen.negative * np.log(self.rise * grown) + size * np.log(grown)
        return np.maximum(ratio, 0.0)
