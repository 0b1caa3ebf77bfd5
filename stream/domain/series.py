"""What is watched: one series of counts, minute by minute of event time, with the negative articles behind it."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import product
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


class Counting(StrEnum):
    """What a rule counts once: a story (a headline where the article has none), a headline, or nothing."""

    STORIES = "stories"
    HEADLINES = "headlines"
    ARTICLES = "articles"


@dataclass(frozen=True, slots=True)
class Mention:
    """What detection needs to know of one negative article.

    Attributes:
        story: the story it was given first, which no later merge changes; empty where it has none.
    """

    minute: datetime
    article_id: str
    source: str
    title_key: str
    topic: str
    lang: str
    negative_ppm: int
    model: str
    entities: tuple[str, ...] = ()
    story: str = ""

    def counted_as(self, counting: Counting) -> str:
        """Mentions of one series that answer alike count once."""
        if counting is Counting.ARTICLES:
            return self.article_id
        return (self.story or self.title_key) if counting is Counting.STORIES else self.title_key


def shared_out(mentions: Sequence[Mention], series: Iterable[Series]) -> dict[Series, list[Mention]]:
    """Each series' mentions, in the order given: its topic's, in its language, of its entity; `ALL` is any.

    Many series and many articles: each article is put where it belongs, no series looks at all of them.
    """
    found: dict[Series, list[Mention]] = {one: [] for one in series}
    places = {(one.topic, one.lang, one.entity): held for one, held in found.items()}
    for mention in mentions:
        for key in product((ALL, mention.topic), (ALL, mention.lang), (ALL, *dict.fromkeys(mention.entities))):
            if key in places:
                places[key].append(mention)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Hours:
    """Counts of whole hours, int64 [hours] each: negatives and articles of a series, and articles of the whole run."""

    negative: Counts
    articles: Counts
    run: Counts


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Closed buckets of one series: minute by minute lately, hour by hour before.

    Attributes:
        start: the first minute, aware, UTC; minute `i` is `start + i` minutes.
        negative, articles: int64 [minutes + 1], running sums of this series; element `i` is the sum before minute `i`.
        run: int64 [minutes + 1], the same over every article of the run: an hour without any says nothing.
        mentions: the negative articles, ascending by minute; at least of the 24 hours before any judged minute.
        past: the hours before `start`, the last of them ending there; None: there are none, and `start` is any minute.
    """

    start: datetime
    negative: Counts
    articles: Counts
    run: Counts
    mentions: Sequence[Mention] = ()
    past: Hours | None = None
    _minutes: list[datetime] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        start: datetime,
        negative: Sequence[int] | Counts,
        articles: Sequence[int] | Counts,
        run: Sequence[int] | Counts,
        mentions: Sequence[Mention] = (),
        past: Hours | None = None,
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
        return cls(start, running(negative), running(articles), running(run), ordered, past, minutes)

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


def running(counts: Sequence[int] | NDArray[Any]) -> Counts:
    """Running sums with a leading zero, int64 [..., n + 1], along the last axis."""
    each = np.asarray(counts, np.int64)
    return np.concatenate([np.zeros((*each.shape[:-1], 1), np.int64), np.cumsum(each, axis=-1)], axis=-1)
