"""Minute buckets: the fold that trends are made of. Exact: counts and fixed-point sums, no floats."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from crosswind.stream.domain.article import ScoredArticle, Sentiment

ALL = "*"
"""The key of a series over every entity."""


@dataclass(frozen=True, slots=True, order=True)
class BucketKey:
    """One minute of event time of one series.

    Attributes:
        minute: the minute's start, aware, UTC.
        entity: an entity's name, or `ALL`.
    """

    minute: datetime
    topic: str
    lang: str
    entity: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and sums of a bucket; a commutative monoid under `+`, `Tally()` its zero."""

    articles: int = 0
    negative: int = 0
    positive: int = 0
    negative_ppm: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.articles + other.articles,
            self.negative + other.negative,
            self.positive + other.positive,
            self.negative_ppm + other.negative_ppm,
        )

    @property
    def neutral(self) -> int:
        """Articles that are neither positive nor negative."""
        return self.articles - self.negative - self.positive


def minute_of(moment: datetime) -> datetime:
    """The start of the UTC minute that `moment` (aware) lies in.

    >>> from datetime import datetime, timezone, timedelta
    >>> minute_of(datetime(2026, 3, 1, 5, 31, 59, tzinfo=timezone(timedelta(hours=5, minutes=30))))
    datetime.datetime(2026, 3, 1, 0, 1, tzinfo=datetime.timezone.utc)
    """
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def tally_of(scored: ScoredArticle) -> Tally:
    """What one article adds to each of its buckets."""
    sentiment = scored.score.sentiment
    return Tally(
        articles=1,
        negative=int(sentiment is Sentiment.NEGATIVE),
        positive=int(sentiment is Sentiment.POSITIVE),
        negative_ppm=scored.score.negative_ppm,
    )


def keys_of(scored: ScoredArticle) -> list[BucketKey]:
    """The buckets that one article belongs to: its topic and language over all entities, and once per entity."""
    article = scored.article
    minute = minute_of(article.published_at)
    return [
        BucketKey(minute, scored.score.topic, article.lang, entity)
        for entity in (ALL, *sorted(set(article.entities) - {ALL}))
    ]


def fold(articles: Iterable[ScoredArticle]) -> dict[BucketKey, Tally]:
    """Counts articles into buckets; any order of the same articles gives the same result.

    The caller passes each article once: what is new is decided by the database (`ON CONFLICT DO NOTHING`).
    """
    buckets: dict[BucketKey, Tally] = {}
    for scored in articles:
        tally = tally_of(scored)
        for key in keys_of(scored):
            buckets[key] = buckets.get(key, Tally()) + tally
    return buckets
