"""What a statistic promises, so that rules, benchmark and calibration can use any of them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crosswind.stream.domain.detect.season import Counts, Floats
from crosswind.stream.domain.detect.view import View


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a statistic says of each judged minute.

    Attributes:
        score: float64 [series, minutes], 0 where all is usual; higher is stranger.
        width: int64 [series, minutes], minutes of the window that spoke.
    """

    score: Floats
    width: Counts


class Detector(Protocol):
    """A statistic. Pure; more negatives never lower a score where articles are as many more."""

    @property
    def name(self) -> str:
        """Its name in rules."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever it may score differently."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Minutes of the windows that it may name, ascending."""
        ...

    def scores(self, view: View) -> Scores:
        """Scores of the judged minutes, rounded to six digits."""
        ...


def strongest(found: list[tuple[int, Floats]]) -> Scores:
    """The best of several windows per minute; the shortest of equals.

    >>> best = strongest([(15, np.array([[1.0, 3.0]])), (60, np.array([[2.0, 3.0]]))])
    >>> best.score.tolist(), best.width.tolist()
    ([[2.0, 3.0]], [[60, 15]])
    """
    scores = np.round(np.stack([score for _, score in found]), 6)
    best = scores.argmax(axis=0)
    return Scores(scores.max(axis=0), np.array([width for width, _ in found], np.int64)[best])
