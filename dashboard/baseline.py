"""The expected band of a chart: what the alert engine would call normal for a series at that time. Pure.

It is the engine's own lesson (`stream.domain.detect.season.learn`): the share and its overdispersion, learned from up
to five weeks of whole hours that ended two hours before. The band is where about 19 of 20 shares of a window with so
many articles lie: two standard deviations of the beta-binomial share, p(1-p)(1+(n-1)rho)/n.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crosswind.dashboard.series import MIN_ARTICLES, Span, Trend
from crosswind.stream.domain.detect.season import GAP, WEEK, learn

WEEKS: Final = 5
LEARNED_FROM: Final = timedelta(hours=WEEKS * WEEK + GAP)
LEAST_HOURS: Final = 24
"""With fewer hours of a running feed there is no band: nothing is known of what is normal."""

MAX_LESSONS: Final = 50
"""Normals learned for one chart at most; bins between two share the earlier one."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, eq=False)
class Hourly:
    """Counts per whole hour from `first` on.

    Attributes:
        negative, articles: int64 [1, hours] of the series.
        run: int64 [hours], articles of the whole run.
    """

    first: datetime
    negative: NDArray[np.int64]
    articles: NDArray[np.int64]
    run: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Expected:
    """Per bin of a span: the expected share and its usual range, None where nothing is known."""

    share: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]

    @property
    def known(self) -> bool:
        """Whether there is anything to draw."""
        return any(value is not None for value in self.share)


def expected(trend: Trend, span: Span, hours: Hourly) -> Expected:
    """The band of a trend; `hours` begins `LEARNED_FROM` before the hour of the span's start."""
    every = max(_HOUR, span.step * -(-span.bins // MAX_LESSONS))
    lessons: dict[datetime, tuple[float, float] | None] = {}
    rows: list[tuple[float | None, float | None, float | None]] = []
    for at, articles in zip(span.times, trend.window, strict=True):
        judged = span.start + (at - span.start) // every * every
        if judged not in lessons:
            lessons[judged] = _lesson(hours, judged)
        rows.append(_band(lessons[judged], articles))
    share, low, high = zip(*rows, strict=True) if rows else ((), (), ())
    return Expected(share, low, high)


def _lesson(hours: Hourly, at: datetime) -> tuple[float, float] | None:
    """Share and intra-hour correlation that are normal at a time."""
    stop = (at - hours.first) // _HOUR - GAP
    seen = slice(stop - WEEKS * WEEK, stop)
    if int((hours.run[seen] > 0).sum()) < LEAST_HOURS:
        return None
    normal = learn(hours.negative[:, seen], hours.articles[:, seen], hours.run[seen])
    return float(normal.share[0]), float(normal.rho[0])


def _band(lesson: tuple[float, float] | None, articles: int) -> tuple[float | None, float | None, float | None]:
    if lesson is None or articles < MIN_ARTICLES:
        return None, None, None
    share, rho = lesson
    spread = 2.0 * math.sqrt(share * (1.0 - share) * (1.0 + (articles - 1) * rho) / articles)
    return round(share, 4), round(max(0.0, share - spread), 4), round(min(1.0, share + spread), 4)
