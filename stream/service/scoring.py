"""A micro-batch from `news.raw`: every message ends as a scored article or as a dead letter, none in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from crosswind.errors import ContractError
from crosswind.stream.domain.article import Article, Origin, ScoredArticle
from crosswind.stream.domain.contract import decode_raw
from crosswind.stream.domain.validate import Limits, to_article
from crosswind.stream.domain.watchlist import Watchlist, with_watched
from crosswind.stream.service.ports import Scorer

AHEAD = timedelta(days=1)
"""How far a record's time may lie after the worker's clock: clocks differ, and whole time zones are mistaken."""
_FIRST = datetime(1971, 1, 1, tzinfo=UTC)
"""Nothing was received before: a time in seconds, taken for milliseconds, lies in the first weeks of 1970."""
_END = 253_370_764_800_000
"""The year 9999 in milliseconds, the last one of the calendar."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record as the broker delivered it.

    Attributes:
        timestamp: when it was received (`received`), aware.
        headers: name and value; empty for most.
    """

    origin: Origin
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def moment(milliseconds: int | None) -> datetime:
    """A record's timestamp, aware, UTC; the epoch when it has none, the year 9999 when it lies beyond.

    >>> moment(1_772_323_200_500).isoformat()
    '2026-03-01T00:00:00.500000+00:00'
    """
    return datetime.fromtimestamp(min(max(0, milliseconds or 0), _END) / 1000, UTC)


def received(milliseconds: int | None, now: datetime) -> datetime:
    """When a record was received: its timestamp, or `now` (aware) where that cannot be, so that a producer which stamps
    its records in another unit, or with a date of its own, neither stops the stream nor has its articles refused.

    >>> now = datetime(2026, 3, 2, tzinfo=UTC)
    >>> [received(at, now) == now for at in (1_772_323_200_500, 1_772_323_200, 1_772_323_200_500_000, -1)]
    [False, True, True, True]
    """
    at = moment(milliseconds)
    return at if _FIRST <= at <= now + AHEAD else now


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that breaks its contract, and why."""

    message: Message
    error: ContractError


@dataclass(frozen=True, slots=True)
class Judged:
    """What a batch became: `len(scored) + len(dead)` is its length."""

    scored: list[ScoredArticle]
    dead: list[DeadLetter]


def judge(
    messages: Sequence[Message],
    *,
    scorer: Scorer,
    detect: Callable[[str], str],
    limits: Limits,
    watchlist: Watchlist | None = None,
) -> Judged:
    """Validates and scores a batch, and adds the watched entities that a text names, if there is a watchlist.

    Blocking: runs in the inference executor, beside the event loop.
    """
    articles: list[Article] = []
    dead: list[DeadLetter] = []
    for message in messages:
        try:
            raw = decode_raw(message.value, limits.max_bytes)
            article = to_article(raw, origin=message.origin, seen_at=message.timestamp, limits=limits, detect=detect)
            articles.append(article if watchlist is None else _watched(article, watchlist))
        except ContractError as error:
            dead.append(DeadLetter(message, error))
    scores = scorer.score([article.text for article in articles]) if articles else []
    scored = [ScoredArticle(article, score) for article, score in zip(articles, scores, strict=True)]
    return Judged(scored, dead)


def _watched(article: Article, watchlist: Watchlist) -> Article:
    entities = with_watched(article.entities, article.text, article.lang, watchlist)
    return article if entities is article.entities else replace(article, entities=entities)
