"""Trends as columns: how a range is divided into bins, and what is known of each bin. Pure.

A bin without articles is 'no data', never zero per cent. A share is drawn over a trailing window, and only where the
window holds enough articles to mean something.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_BINS: Final = 400
"""Points that a trace may have; more cannot be told apart on a card and cost the browser time."""

WINDOW_BINS: Final = 8
"""A share is taken over this many bins back from each bin's end."""

MIN_ARTICLES: Final = 3
"""A share of fewer articles than this is not shown: one bad headline of one is no trend."""

GAP: Final = timedelta(minutes=45)
"""Silence of the whole feed, over all topics and languages, from which on it is marked as 'no data'."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS: Final = tuple(timedelta(minutes=m) for m in (1, 5, 15, 30, 60, 180, 360, 720, 1440, 10080, 40320))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of event time, half open, aware UTC, divided into bins of `step`; both ends lie on the bins' grid."""

    start: datetime
    end: datetime
    step: timedelta

    @property
    def bins(self) -> int:
        """How many bins there are, at most `MAX_BINS`."""
        return (self.end - self.start) // self.step

    @property
    def times(self) -> tuple[datetime, ...]:
        """The start of each bin."""
        return tuple(self.start + index * self.step for index in range(self.bins))

    @property
    def warm_start(self) -> datetime:
        """Where data must begin so that the first bin has a full trailing window."""
        return self.start - (WINDOW_BINS - 1) * self.step


def span_of(length: timedelta | None, now: datetime, earliest: datetime) -> Span:
    """The bins of a range that ends at `now` (the newest event time).

    Args:
        length: how far back; None: to `earliest`.
    """
    reach = length if length is not None else max(now - earliest, timedelta(hours=1))
    step = _step_for(reach)
    end = _floor(now, step) + step
    start = end - length if length is not None else _floor(earliest, step)
    return Span(max(start, end - MAX_BINS * step), end, step)


def _step_for(reach: timedelta) -> timedelta:
    """About a hundred bins: 1 h by the minute, 6 h by 5 minutes, 24 h by a quarter, 48 h by half an hour."""
    return next((step for step in _STEPS if reach / step <= 100), _STEPS[-1])


def _floor(moment: datetime, step: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % step


@dataclass(frozen=True, slots=True)
class Trend:
    """One topic over a span.

    Attributes:
        articles, negative, positive: counts per bin, in the order of `Span.times`.
        share: negative share of the trailing window at each bin, 0 to 1; None where it holds too few articles.
        window: articles in that trailing window.
    """

    topic: str
    articles: tuple[int, ...]
    negative: tuple[int, ...]
    positive: tuple[int, ...]
    share: tuple[float | None, ...]
    window: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Articles in the span."""
        return sum(self.articles)

    @property
    def overall(self) -> float | None:
        """Negative share of the whole span, None with fewer than `MIN_ARTICLES` articles."""
        return share(sum(self.negative), self.total)

    @property
    def latest(self) -> float | None:
        """Negative share of the newest trailing window, None when it holds too few articles."""
        return self.share[-1] if self.share else None

    @property
    def change(self) -> float | None:
        """By how much `latest` lies above the whole span's share (in shares, not per cent); None when unknown."""
        return None if self.latest is None or self.overall is None else self.latest - self.overall


def share(negative: int, articles: int) -> float | None:
    """A negative share, or None where there is too little to tell.

    >>> share(3, 4), share(1, 2)
    (0.75, None)
    """
    return negative / articles if articles >= MIN_ARTICLES else None


def trend_of(topic: str, span: Span, rows: Sequence[tuple[datetime, int, int, int]]) -> Trend:
    """Spreads rows (bin start, articles, negative, positive) over the bins, the trailing window's bins included.

    Rows outside of `warm_start` to `end` are ignored; there is at most one row per bin.
    """
    bins = WINDOW_BINS - 1 + span.bins
    columns = [[0] * bins for _ in range(3)]
    for at, *counts in rows:
        index = (at - span.warm_start) // span.step
        if 0 <= index < bins:
            for column, count in zip(columns, counts, strict=True):
                column[index] = count
    return trend_from(topic, columns)


def trend_from(topic: str, columns: Sequence[Sequence[int]]) -> Trend:
    """The trend of three columns (articles, negative, positive), one count per bin, the trailing window's included."""
    lead, all_articles, all_negative = WINDOW_BINS - 1, columns[0], columns[1]
    articles, negative, positive = (tuple(column[lead:]) for column in columns)
    ends = range(WINDOW_BINS, len(all_articles) + 1)
    window = tuple(sum(all_articles[end - WINDOW_BINS : end]) for end in ends)
    return Trend(topic, articles, negative, positive, _trailing(all_articles, all_negative), window)


def _trailing(articles: Sequence[int], negative: Sequence[int]) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for end in range(WINDOW_BINS, len(articles) + 1):
        window = slice(end - WINDOW_BINS, end)
        # a silent half window is a silence, not a calm: nothing is carried across it
        recent = sum(articles[end - WINDOW_BINS // 2 : end])
        found.append(share(sum(negative[window]), sum(articles[window])) if recent else None)
    return tuple(found)


def gaps(span: Span, totals: Sequence[int]) -> tuple[tuple[datetime, datetime], ...]:
    """Stretches of at least `GAP` and two bins in which no article at all came; `totals` has one count per bin.

    The newest bin is still filling up and starts no gap by itself.
    """
    found: list[tuple[datetime, datetime]] = []
    since: datetime | None = None
    for at, total in zip((*span.times, span.end), (*totals, 1), strict=True):
        if total == 0:
            since = since or at
            continue
        if since is not None and at - since >= max(GAP, 2 * span.step):
            found.append((since, at))
        since = None
    return tuple(found)
