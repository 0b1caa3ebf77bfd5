"""What an article is, from raw to scored. Pure values: no clock, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

PPM = 1_000_000
"""Probabilities are stored and summed as integers in parts per million, so that folds are exact in any order."""


class Sentiment(StrEnum):
    """The investor's view of an article."""

    POSITIVE = "positive"
    NEUTRAL = "neutral"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an input came from: the record of `news.raw`. Tells a redelivery (same origin) from a duplicate."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Article:
    """A valid, normalised article, not yet scored.

    Attributes:
        article_id: stable identity: the given id, else a hash of the content (`identity.article_id`).
        title, body: NFC, controls removed, whitespace collapsed; `body` may be empty.
        lang: ISO 639-1 where there is one, else 639-3, `und` when unknown.
        published_at: event time, aware, UTC.
        first_seen_at: when Crosswind received it (broker timestamp), aware, UTC.
        title_key: equal for copies of one headline (`identity.title_key`).
    """

    article_id: str
    source: str
    title: str
    body: str
    url: str | None
    lang: str
    published_at: datetime
    first_seen_at: datetime
    entities: tuple[str, ...]
    title_key: str
    origin: Origin

    @property
    def text(self) -> str:
        """What the model reads: title and body."""
        return f"{self.title}\n{self.body}" if self.body else self.title


@dataclass(frozen=True, slots=True)
class Score:
    """What the model says of one article.

    Attributes:
        topic: a label of the taxonomy.
        sentiment: the sentiment that counts; `NEUTRAL` when `unsure`.
        negative_ppm, neutral_ppm, positive_ppm: calibrated probabilities, parts per million, sum to `PPM`.
        topic_ppm: calibrated probability of `topic`, parts per million.
        unsure: the sentiment's probability was under the bundle's threshold.
        model: the bundle's content-addressed version.
        meaning: direction of the text's meaning, see `stories.meaning`; empty where the bundle gives none.
    """

    topic: str
    sentiment: Sentiment
    negative_ppm: int
    neutral_ppm: int
    positive_ppm: int
    topic_ppm: int
    unsure: bool
    model: str
    meaning: bytes = b""


@dataclass(frozen=True, slots=True)
class ScoredArticle:
    """An article with its score: one row of the database, once, whatever is redelivered."""

    article: Article
    score: Score
