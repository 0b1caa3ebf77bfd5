"""From 'at most N false alarms per series and month' to a threshold, and back; and over many series at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crosswind.stream.domain.detect.season import Floats

MONTH_HOURS = 730.0
"""Hours of a month, on average."""


@dataclass(frozen=True, slots=True)
class Table:
    """Heights of a statistic that were passed so and so often where nothing had happened.

    Found by simulation (`bench/calibrate_alerts.py`), on seeds that no test uses.

    Attributes:
        levels: expected negatives per hour, ascending, above 0.
        budgets: false alarms per series and month, descending, above 0.
        heights: heights[level][budget], ascending within a level.
    """

    levels: tuple[float, ...]
    budgets: tuple[float, ...]
    heights: tuple[tuple[float, ...], ...]

    def height(self, typical: Floats, budget: float) -> Floats:
        """The threshold for each series, given its expected negatives per hour.

        >>> table = Table((1.0, 10.0), (1.0, 0.1), ((3.0, 4.0), (5.0, 6.0)))
        >>> table.height(np.array([1.0, 10.0]), 0.1).tolist(), table.height(np.array([1.0]), 0.01).tolist()
        ([4.0, 6.0], [5.0])
        """
        at = -np.log10(budget)
        points = -np.log10(np.array(self.budgets))
        each = np.array([_line(at, points, np.array(row)) for row in self.heights])
        return np.asarray(np.interp(np.log10(np.maximum(typical, 1e-6)), np.log10(np.array(self.levels)), each))

    def budget(self, score: float, typical: float) -> float:
        """False alarms per series and month that a threshold of `score` would give; the inverse of `height`.

        >>> table = Table((1.0, 10.0), (1.0, 0.1), ((3.0, 4.0), (5.0, 6.0)))
        >>> round(table.budget(4.0, 1.0), 6), round(table.budget(6.0, 1.0), 6)
        (0.1, 0.001)
        """
        place = np.log10(max(typical, 1e-6))
        grid = np.log10(np.array(self.levels))
        row = np.array([np.interp(place, grid, column) for column in zip(*self.heights, strict=True)])
        points = -np.log10(np.array(self.budgets))
        return float(10.0 ** -min(_line(score, row, points), 300.0))


def _line(at: float, xs: Floats, ys: Floats) -> float:
    """Linear interpolation, extended at both ends with the slope of the outermost piece."""
    piece = int(np.clip(np.searchsorted(xs, at) - 1, 0, len(xs) - 2))
    run = max(float(xs[piece + 1] - xs[piece]), 1e-9)
    return float(ys[piece] + (at - xs[piece]) * (ys[piece + 1] - ys[piece]) / run)


def together(chances: Sequence[float], budget: float, series: int) -> float:
    """The chance at or below which a series alarms, so that all `series` together keep to one budget; 0: none does.

    Benjamini and Hochberg, Controlling the false discovery rate, J. R. Stat. Soc. B 57 (1995): with nothing going on,
    an alarm anywhere is as likely as one series with the whole budget would give (Simes); when many series are hit at
    once, each has to pass less than a fixed share (Bonferroni's) would ask.

    Args:
        chances: expected false alarms per series and month at each series' score, of the lowest ones at least.
        budget: false alarms per month of all series together.

    >>> together([0.001, 0.5], 0.1, 100), together([0.002, 0.5], 0.1, 100), together([0.0019, 0.0018], 0.1, 100)
    (0.001, 0.0, 0.002)
    """
    passed = [rank for rank, chance in enumerate(sorted(chances), 1) if chance <= rank * budget / series]
    return max(passed, default=0) * budget / series
