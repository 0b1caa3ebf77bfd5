"""What is watched: one series of counts, minute by minute of event time, with the negative articles behind it."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.bucket import ALL

MINUTE = timedelta(minutes=1)
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """A topic (or all) × a language (or all) × an entity (or all); `ALL` is `*`."""

    topic: str
    lang: str = ALL
    entity: str = ALL

    @property
    def parent(self) -> "Series | None":
        """The series over all languages that one language's series is part of; None for any other."""
        return None if self.lang == ALL else Series(self.topic, ALL, self.entity)

    def holds(self, mention: "Mention") -> bool:
        """Whether an article counts in this series."""
        return (
            self.topic in (ALL, mention.topic)
            and self.lang in (ALL, mention.lang)
            and (self.entity == ALL or self.entity in mention.entities)
        )


@dataclass(frozen=True, slots=True)
class Mention:
    """What detection needs to know of one negative article."""

    minute: datetime
    article_id: str
    source: str
    title_key: str
    topic: str
    lang: str
    negative_ppm: int
    model: str
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Counts of equally long stretches of time, int64 [blocks] each: negatives and articles of a series, and articles
    of the whole run."""

    negative: Counts
    articles: Counts
    run: Counts

    def __len__(self) -> int:
        return len(self.run)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Closed one-minute buckets of one series. Minute `i` is `start + i` minutes; sums are running, for fast windows.

    Attributes:
        start: the first minute, aware, UTC.
        negative, articles: int64 [minutes + 1], running sums of this series; element `i` is the sum before minute `i`.
        run: int64 [minutes + 1], the same over every article of the run: an hour without any says nothing.
        mentions: the negative articles of the last part of the history, ascending by minute; at least of every window
            that is evaluated.
    """

    start: datetime
    negative: Counts
    articles: Counts
    run: Counts
    mentions: Sequence[Mention] = ()
    _minutes: list[datetime] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        start: datetime,
        negative: Sequence[int] | Counts,
        articles: Sequence[int] | Counts,
        run: Sequence[int] | Counts,
        mentions: Sequence[Mention] = (),
    ) -> "History":
        """From counts per minute, three arrays of one length; mentions in any order.

        >>> from datetime import UTC
        >>> start = datetime(2026, 3, 2, tzinfo=UTC)
        >>> history = History.of(start, [1, 0, 2], [1, 1, 2], [5, 5, 5])
        >>> history.sums(start + 2 * MINUTE, 2)
        (2, 3)
        """
        ordered = sorted(mentions, key=lambda mention: (mention.minute, mention.article_id))
        minutes = [mention.minute for mention in ordered]
        return cls(start, _running(negative), _running(articles), _running(run), ordered, minutes)

    def index(self, at: datetime) -> int:
        """The position of minute `at`."""
        return (at - self.start) // MINUTE

    def sums(self, at: datetime, width: int) -> tuple[int, int]:
        """Negatives and articles of the `width` minutes that end with minute `at`, inclusive."""
        stop = self.index(at) + 1
        first = max(0, stop - width)
        return (
            int(self.negative[stop] - self.negative[first]),
            int(self.articles[stop] - self.articles[first]),
        )

    def mentioned(self, at: datetime, width: int) -> Sequence[Mention]:
        """The negative articles of the `width` minutes that end with minute `at`, inclusive."""
        first = bisect_left(self._minutes, at - (width - 1) * MINUTE)
        return self.mentions[first : bisect_left(self._minutes, at + MINUTE)]

    def blocks(self, at: datetime, skip: int, width: int, most: int) -> "Blocks":
        """Up to `most` blocks of `width` minutes, the latest ending `skip` minutes before the end of minute `at`.

        Blocks in which the whole run is silent are left out: no feed is no evidence of calm.
        """
        stop = self.index(at) + 1 - skip
        count = min(most, max(0, stop // width))
        edges = stop - width * np.arange(count, -1, -1)
        run = np.diff(self.run[edges])
        heard = run > 0
        return Blocks(np.diff(self.negative[edges])[heard], np.diff(self.articles[edges])[heard], run[heard])

    def run_sum(self, at: datetime, width: int) -> int:
        """Articles of the whole run in the `width` minutes that end with minute `at`, inclusive."""
        stop = self.index(at) + 1
        return int(self.run[stop] - self.run[max(0, stop - width)])

    def busy(self, first: datetime, last: datetime, width: int, least: int) -> list[bool]:
        """For each minute from `first` to `last`, whether its window of `width` minutes has `least` negatives."""
        stops = np.arange(self.index(first) + 1, self.index(last) + 2)
        sums = self.negative[stops] - self.negative[np.maximum(0, stops - width)]
        return [bool(value) for value in sums >= least]


def _running(counts: Sequence[int] | NDArray[Any]) -> Counts:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, np.int64))])
