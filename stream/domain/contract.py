"""The messages on the wire, version 1. The JSON Schemas in `docs/contracts` say the same; a test compares them.

Unknown fields are ignored. An unknown major version is not guessed at: it is a `ContractError`.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from crosswind.errors import ContractError, Reason
from crosswind.stream.domain.article import PPM, Article, Origin, Score, ScoredArticle, Sentiment

VERSION = 1
_FIRST, _END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class RawNews(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`news.raw` v1: one article as a feed delivers it."""

    source: str
    title: str
    published_at: datetime
    v: int = VERSION
    id: str | None = None
    url: str | None = None
    body: str | None = None
    lang: str | None = None
    entities: list[str] = []


class ScoredNews(msgspec.Struct, kw_only=True):
    """`news.scored` v1: a normalised article, its origin and its score."""

    v: int = VERSION
    article_id: str
    source: str
    title: str
    body: str
    url: str | None
    lang: str
    published_at: datetime
    first_seen_at: datetime
    entities: list[str]
    title_key: str
    origin_topic: str
    origin_partition: int
    origin_offset: int
    topic: str
    sentiment: Sentiment
    negative_ppm: int
    neutral_ppm: int
    positive_ppm: int
    topic_ppm: int
    unsure: bool
    model: str
    meaning: bytes = b""


_Share = Annotated[int, msgspec.Meta(ge=0, le=PPM)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Storable(ScoredNews, kw_only=True):
    """`news.scored` as far as the database can hold it: what it cannot would be tried again for ever.

    These bounds are the reader's. The schema keeps none: within version 1 it may not become stricter.
    """

    article_id: Annotated[str, msgspec.Meta(max_length=256)]  # this and the names below are parts of index keys
    lang: Annotated[str, msgspec.Meta(max_length=16)]
    published_at: _Moment
    first_seen_at: _Moment
    entities: list[Annotated[str, msgspec.Meta(max_length=512)]]
    origin_topic: Annotated[str, msgspec.Meta(max_length=249)]
    origin_partition: Annotated[int, msgspec.Meta(ge=0, lt=2**21)]  # `ingest.LANES` of them are numbered in 31 bits
    origin_offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    topic: Annotated[str, msgspec.Meta(max_length=100)]
    negative_ppm: _Share
    neutral_ppm: _Share
    positive_ppm: _Share
    topic_ppm: _Share
    meaning: Annotated[bytes, msgspec.Meta(max_length=16_000)] = b""  # an entry a byte; more pgvector does not take


class Alert(msgspec.Struct, kw_only=True):
    """`alerts` v1: one transition of one incident."""

    v: int = VERSION
    run: str
    incident_id: str
    seq: int
    state: str
    at: datetime
    rule: str
    rule_version: str
    severity: str
    topic: str
    lang: str
    entity: str
    observed: int
    expected: float
    p_value: float
    negative_share: float
    sources: int
    headlines: int
    languages: list[str]
    evidence: list[str]
    model: str
    cause: str = ""
    group: str = ""
    leads: bool = True
    silenced: bool = False
    flapping: bool = False
    window: int = 60
    chance: float = 1000.0


class _Version(msgspec.Struct):
    v: int = VERSION


_raw = msgspec.json.Decoder(RawNews)
_scored = msgspec.json.Decoder(_Storable)
_version = msgspec.json.Decoder(_Version)
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(message: RawNews | ScoredNews | Alert) -> bytes:
    """Canonical JSON, UTF-8."""
    return _encoder.encode(message)


def decode_raw(value: bytes | None, max_bytes: int) -> RawNews:
    """One `news.raw` message.

    Raises:
        ContractError: with the reason it goes to `news.dead` for.
    """
    message: RawNews = _decode(_raw, value, max_bytes)
    if message.published_at.tzinfo is None:
        raise ContractError(Reason.BAD_FIELD, "published_at has no time zone; expected RFC 3339, e.g. …T10:00:00Z")
    return message


def decode_scored(value: bytes | None) -> ScoredArticle:
    """One `news.scored` message.

    Raises:
        ContractError: with the reason it goes to `news.dead` for; also for what the database cannot hold.
    """
    news: ScoredNews = _decode(_scored, value, None)
    if value and rb"\u0000" in value:  # else there is none: JSON has no other way to write it
        _refuse_nul(news)
    article = Article(
        article_id=news.article_id,
        source=news.source,
        title=news.title,
        body=news.body,
        url=news.url,
        lang=news.lang,
        published_at=_held("published_at", news.published_at),
        first_seen_at=_held("first_seen_at", news.first_seen_at),
        entities=tuple(news.entities),
        title_key=news.title_key,
        origin=Origin(news.origin_topic, news.origin_partition, news.origin_offset),
    )
    score = Score(
        topic=news.topic,
        sentiment=news.sentiment,
        negative_ppm=news.negative_ppm,
        neutral_ppm=news.neutral_ppm,
        positive_ppm=news.positive_ppm,
        topic_ppm=news.topic_ppm,
        unsure=news.unsure,
        model=news.model,
        meaning=news.meaning,
    )
    return ScoredArticle(article, score)


def _refuse_nul(news: ScoredNews) -> None:
    for name in news.__struct_fields__:
        found = getattr(news, name)
        if any("\0" in text for text in (found if isinstance(found, list) else [found]) if isinstance(text, str)):
            raise ContractError(Reason.BAD_FIELD, f"{name} holds a NUL, which the database cannot")


def _held(name: str, time: datetime) -> datetime:
    """A time in UTC; within the years that can be counted with on either side."""
    try:
        found = time.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ContractError(Reason.BAD_FIELD, f"{name} is beyond the calendar") from None
    if not _FIRST <= found < _END:
        raise ContractError(Reason.BAD_FIELD, f"{name} {found.isoformat()} is not between 1970 and 9998")
    return found


def encode_scored(scored: ScoredArticle) -> bytes:
    """The `news.scored` message of a scored article; `decode_scored` reads it back equal."""
    article, score = scored.article, scored.score
    return encode(
        ScoredNews(
            article_id=article.article_id,
            source=article.source,
            title=article.title,
            body=article.body,
            url=article.url,
            lang=article.lang,
            published_at=article.published_at,
            first_seen_at=article.first_seen_at,
            entities=list(article.entities),
            title_key=article.title_key,
            origin_topic=article.origin.topic,
            origin_partition=article.origin.partition,
            origin_offset=article.origin.offset,
            topic=score.topic,
            sentiment=score.sentiment,
            negative_ppm=score.negative_ppm,
            neutral_ppm=score.neutral_ppm,
            positive_ppm=score.positive_ppm,
            topic_ppm=score.topic_ppm,
            unsure=score.unsure,
            model=score.model,
            meaning=score.meaning,
        )
    )


def _decode(decoder: "msgspec.json.Decoder[Any]", value: bytes | None, max_bytes: int | None) -> Any:
    if value is None:
        raise ContractError(Reason.NULL_VALUE, "the message has no value")
    if max_bytes is not None and len(value) > max_bytes:
        raise ContractError(Reason.TOO_LARGE, f"the message has {len(value):,} bytes; the limit is {max_bytes:,}")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ContractError(Reason.BAD_UTF8, f"byte {error.start} is not UTF-8") from None
    try:
        _check_version(value)
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        missing = "missing required field" in str(error)
        raise ContractError(Reason.MISSING_FIELD if missing else Reason.BAD_FIELD, str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ContractError(Reason.BAD_JSON, str(error) or type(error).__name__) from None


def _check_version(value: bytes) -> None:
    version = _version.decode(value).v
    if version != VERSION:
        raise ContractError(Reason.UNKNOWN_VERSION, f"version {version}; this worker knows version {VERSION}")
