"""EARS C1, C2 and C3: the last hour against the seven before it."""

from dataclasses import dataclass

import numpy as np

from crosswind.stream.domain.detect.detector import Scores
from crosswind.stream.domain.detect.season import Floats
from crosswind.stream.domain.detect.view import View

REFERENCE = 7
LEAST_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Ears:
    """Hutwagner, Thompson, Seeman and Treadwell, The bioterrorism preparedness and response Early Aberration Reporting
    System (EARS), J. Urban Health 80 (2003). The unit is an hour instead of a day.

    Attributes:
        kind: 1: the seven hours just before; 2: two hours left out between; 3: C2 of the last three hours, summed.
    """

    kind: int = 2
    version: str = "2"
    widths: tuple[int, ...] = (60,)

    @property
    def name(self) -> str:
        """`ears-c1`, `ears-c2` or `ears-c3`."""
        return f"ears-c{self.kind}"

    def scores(self, view: View) -> Scores:
        """See `Detector.scores`."""
        if self.kind == 3:
            score = sum((np.maximum(self._z(view, 2, back) - 1.0, 0.0) for back in range(3)), np.zeros(1))
        else:
            score = np.maximum(self._z(view, 2 if self.kind == 2 else 0, 0), 0.0)
        return Scores(np.round(score, 6), np.full(score.shape, 60, np.int64))

    def _z(self, view: View, gap: int, back: int) -> Floats:
        """Spreads of the hour that ended `back` hours ago above the seven that ended `gap` hours before it."""
        before = [view.negatives(60, 60 * (back + gap + 1 + n)) for n in range(REFERENCE - back)]
        reference = np.stack(before)
        spread = np.maximum(reference.std(axis=0, ddof=1), LEAST_SPREAD)
        return np.asarray((view.negatives(60, 60 * back) - reference.mean(axis=0)) / spread)
