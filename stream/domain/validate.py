"""From a raw message to a valid article, or to the reason why not."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from crosswind.errors import ContractError, Reason
from crosswind.stream.domain.article import Article, Origin
from crosswind.stream.domain.contract import RawNews
from crosswind.stream.domain.identity import article_id, title_key
from crosswind.stream.domain.normalise import clean, language_code

MAX_ENTITIES = 64
MAX_NAME = 512
"""Characters of a source, id or entity name: such strings become index keys, and Postgres limits those."""
MAX_TITLE = 4096
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still accepted.

    Attributes:
        max_bytes: size of a message.
        future: how far an article may be dated after the moment it was received.
    """

    max_bytes: int
    future: timedelta


def to_article(
    raw: RawNews, *, origin: Origin, seen_at: datetime, limits: Limits, detect: Callable[[str], str]
) -> Article:
    """Normalises and checks one message.

    Args:
        seen_at: when the broker received it, aware.
        detect: names the language of a text, called when the message does not.

    Raises:
        ContractError: with the reason it goes to `news.dead` for.
    """
    published_at = _event_time(raw, seen_at, limits)
    title, body = _required("title", raw.title, MAX_TITLE), clean(raw.body or "")
    source = _required("source", raw.source, MAX_NAME)
    url = _url(raw.url)
    given = _required("id", raw.id, MAX_NAME) if raw.id is not None else None
    return Article(
        article_id=article_id(source=source, given=given, title=title, body=body, url=url, published_at=published_at),
        source=source,
        title=title,
        body=body,
        url=url,
        lang=_language(raw.lang) or detect(f"{title} {body}"),
        published_at=published_at,
        first_seen_at=seen_at.astimezone(UTC),
        entities=_entities(raw.entities),
        title_key=title_key(title),
        origin=origin,
    )


def is_name(text: str) -> bool:
    """Whether an article can name a source or an entity so: any text that is stored as it is.

    >>> is_name("بانک ملی\u200cها"), is_name("Acme "), is_name("")
    (True, False, False)
    """
    return 0 < len(text) <= MAX_NAME and clean(text) == text


def _event_time(raw: RawNews, seen_at: datetime, limits: Limits) -> datetime:
    try:
        published_at = raw.published_at.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ContractError(Reason.BAD_FIELD, "published_at is beyond the calendar") from None
    if published_at > seen_at + limits.future:
        raise ContractError(Reason.IN_THE_FUTURE, f"published_at {published_at.isoformat()} is in the future")
    if published_at < EPOCH:
        raise ContractError(Reason.TOO_OLD, f"published_at {published_at.isoformat()} is before 1970")
    return published_at


def _required(name: str, value: str, limit: int) -> str:
    cleaned = clean(value)
    if not cleaned:
        raise ContractError(Reason.EMPTY_TEXT, f"{name} has no visible text")
    if len(cleaned) > limit:
        raise ContractError(Reason.BAD_FIELD, f"{name} has {len(cleaned):,} characters; the limit is {limit:,}")
    return cleaned


def _url(value: str | None) -> str | None:
    """Only web links are kept: a `javascript:` address must not reach a page."""
    cleaned = clean(value or "")
    return cleaned if cleaned.lower().startswith(("http://", "https://")) else None


def _language(tag: str | None) -> str | None:
    if tag is None or not tag.strip():
        return None
    code = language_code(tag)
    if code is None:
        raise ContractError(Reason.BAD_FIELD, "lang is not a language tag; expected e.g. 'de' or 'pt-BR'")
    return code


def _entities(names: list[str]) -> tuple[str, ...]:
    cleaned = {clean(name) for name in names} - {"", "*"}
    if len(cleaned) > MAX_ENTITIES:
        raise ContractError(Reason.BAD_FIELD, f"{len(cleaned)} entities; the limit is {MAX_ENTITIES}")
    if any(len(name) > MAX_NAME for name in cleaned):
        raise ContractError(Reason.BAD_FIELD, f"an entity has more than {MAX_NAME} characters")
    return tuple(sorted(cleaned))
