"""What a statistic sees: the minutes of one hour to be judged, for many series at once, and what is normal there.

Counts are running sums of integers, expected counts too (in billionths), so that a window's figures are the same
bits whatever else was loaded with it: live and replay must not differ in the last digit of a score.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.detect.season import BLOCKS, REACH, Counts, Floats, Normal

NANO = 1_000_000_000
PACE_ARTICLES = 8.0
"""Weight, in articles, of the assumption that the run is as busy as usual."""
MOST_PACE = 3.0
"""The most that the rest of the run speeds up what is expected, and slows it down."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Figures of the windows that end at each judged minute, [series, minutes] each.

    Attributes:
        negative, articles: counts, as floats.
        mean: expected negatives, at the pace of the rest of the run.
        excess: `a` in variance = mean + a·mean².
    """

    negative: Floats
    articles: Floats
    mean: Floats
    excess: Floats


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The judged minutes of one hour.

    Attributes:
        negative, articles: int64 [series, REACH * 60 + minutes + 1], running; the last `minutes` steps are judged.
        run: int64 [REACH * 60 + minutes + 1], the same of every article of the run.
        normal: of the judged hour.
        reference: int64 [series, hours], negatives of the whole hours that `normal` was learned from.
        minutes: how many minutes are judged.
        offset: the first judged minute's place in its hour.
    """

    negative: Counts
    articles: Counts
    run: Counts
    normal: Normal
    reference: Counts
    minutes: int
    offset: int = 0
    _expectations: list[Counts] = field(default_factory=list)

    def window(self, width: int, lag: int = 0) -> Window:
        """Windows of `width` minutes that end `lag` minutes before each judged one; width + lag <= REACH * 60."""
        now, before = self._ends(lag), self._ends(lag + width)
        negative = self.negative[:, now] - self.negative[:, before]
        articles = self.articles[:, now] - self.articles[:, before]
        mean, usual = self._expected(now, before)
        others = np.maximum(self.run[now] - self.run[before] - articles, 0)
        rest = np.maximum(usual - self.normal.articles[:, None] * (width / 60.0), 0.0)
        pace = np.clip((others + PACE_ARTICLES) / (rest + PACE_ARTICLES), 1.0 / MOST_PACE, MOST_PACE)
        excess = np.broadcast_to(self._excess(width)[:, None], mean.shape)
        return Window(negative.astype(np.float64), articles.astype(np.float64), mean * pace, excess)

    def negatives(self, width: int, lag: int = 0) -> Floats:
        """Only the counts of `window`, [series, minutes]."""
        found = self.negative[:, self._ends(lag)] - self.negative[:, self._ends(lag + width)]
        return np.asarray(found, np.float64)

    def silent(self, width: int) -> Floats:
        """Articles of the run that were expected in the trailing `width` minutes where none came, else 0; [minutes]."""
        now, before = self._ends(0), self._ends(width)
        _, usual = self._expected(now, before)
        return np.where(self.run[now] == self.run[before], usual, 0.0)

    def only(self, rows: NDArray[np.intp], negative: Counts, articles: Counts) -> "View":
        """Some of the series, with other counts."""
        normal = self.normal
        some = Normal(
            normal.mean[rows], normal.run, normal.excess[rows], normal.share[rows], normal.rho[rows],
            normal.articles[rows], normal.typical[rows], normal.hours,
        )  # fmt: skip
        return View(negative, articles, self.run, some, self.reference[rows], self.minutes, self.offset)

    def _ends(self, lag: int) -> slice:
        """Places in the running sums of the minutes `lag` before the judged ones."""
        stop = self.run.shape[0] - lag
        return slice(stop - self.minutes, stop)

    def _expected(self, now: slice, before: slice) -> tuple[Floats, Floats]:
        """Expected negatives [series, minutes] and articles of the run [minutes] between two moments."""
        if not self._expectations:  # the same for every window
            self._expectations.extend((self._minutely(self.normal.mean), self._minutely(self.normal.run[None, :])))
        negative, run = self._expectations
        return (negative[:, now] - negative[:, before]) / NANO, (run[0, now] - run[0, before]) / NANO

    def _minutely(self, hourly: Floats) -> Counts:
        """Running sums per minute, in billionths, from hourly means whose column `i` is `i` hours back."""
        length = self.run.shape[0] - 1
        first = length - self.minutes - self.offset  # where the judged hour begins
        back = np.clip((first - np.arange(length) + 59) // 60, 0, REACH)
        each = np.rint(hourly * (NANO / 60.0)).astype(np.int64)[:, back]
        return np.concatenate([np.zeros((len(each), 1), np.int64), np.cumsum(each, axis=1)], axis=1)

    def _excess(self, width: int) -> Floats:
        """Measured at `BLOCKS` hours, in between by the logarithm of the width."""
        at = np.interp(np.log(max(width, 60) / 60.0), np.log(np.array(BLOCKS, np.float64)), np.arange(len(BLOCKS)))
        low = min(int(at), len(BLOCKS) - 2)
        share = float(at) - low
        excess = self.normal.excess
        return np.asarray(excess[:, low] * (1.0 - share) + excess[:, low + 1] * share)
