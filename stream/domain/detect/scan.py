"""The prospective scan: the likeliest of several trailing windows, in volume and in share together."""

from dataclasses import dataclass

import numpy as np

from crosswind.stream.domain.detect.detector import Scores, strongest
from crosswind.stream.domain.detect.deviance import count_spreads, share_spreads
from crosswind.stream.domain.detect.season import Floats
from crosswind.stream.domain.detect.view import View, Window


@dataclass(frozen=True, slots=True)
class Scan:
    """Generalised likelihood ratio of a higher rate that began at one of several moments.

    Kulldorff, Prospective time periodic geographical disease surveillance using a scan statistic, J. R. Stat. Soc. A
    164 (2001); window-limited as in Lai, Sequential changepoint detection in quality control and dynamical systems,
    J. R. Stat. Soc. B 57 (1995), section 3. Here the counts are negative binomial, and the share of negatives among
    articles must be unusual too: a busy morning lifts the first, not the second.

    Attributes:
        widths: minutes of the windows.
        share_weight: how much of the share's spreads is added to the volume's.
        share_floor: spreads of the share below which a window does not count.
    """

    name: str = "scan"
    version: str = "2"
    widths: tuple[int, ...] = (10, 20, 40, 60, 120, 240, 480)
    share_weight: float = 1.0
    share_floor: float = 1.0

    def scores(self, view: View) -> Scores:
        """See `Detector.scores`."""
        share, rho = view.normal.share[:, None], view.normal.rho[:, None]
        return strongest([(width, self._score(view.window(width), share, rho)) for width in self.widths])

    def _score(self, seen: Window, share: Floats, rho: Floats) -> Floats:
        volume = count_spreads(seen.negative, seen.mean, seen.excess)
        worse = share_spreads(seen.negative, seen.articles, share, rho)
        together = np.sqrt(volume**2 + self.share_weight * worse**2)
        return np.where((worse >= self.share_floor) & (volume > 0), together, 0.0)
