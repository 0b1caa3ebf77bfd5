"""What a feed reader yields: rows that are articles, and rows that are not, with the line they stand on."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from crosswind.errors import ContractError, Reason
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.domain.contract import RawNews, decode_raw, encode

FIELDS = ("source", "title", "published_at", "id", "url", "lang", "body", "entities")
REQUIRED = FIELDS[:3]
ENTITY_SEPARATOR = "|"
"""Between the entities of one CSV cell."""

MAX_KEY = 256
"""Bytes. A hostile id must not double the size of its message."""


@dataclass(frozen=True, slots=True)
class Row:
    """One article.

    Attributes:
        line: where it stands, from 1; for feeds without lines, its number.
        value: the `news.raw` message: for JSON Lines the original bytes, unchanged.
        key: Kafka's key: the article's id, else its source, so that copies of one article keep their order.
        at: event time, UTC.
    """

    line: int
    value: bytes
    key: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no article.

    Attributes:
        value: the original bytes.
        is_message: it was meant as a `news.raw` message as it stands (a JSON line): it goes there, unchanged, and the
            worker dead-letters it like any other. Otherwise no worker could read it, and the player dead-letters it.
    """

    line: int
    value: bytes
    error: ContractError
    is_message: bool = False


AnyRow: TypeAlias = Row | BadRow


def from_line(line: int, value: bytes) -> AnyRow:
    """A row of JSON Lines; its bytes are kept as they are."""
    try:
        return _row(line, value, decode_raw(value, MAX_MESSAGE))
    except ContractError as error:
        return BadRow(line, value, error, is_message=True)


def from_fields(line: int, fields: dict[str, Any], original: bytes) -> AnyRow:
    """A row of named values (from CSV, Parquet, RSS, GDELT), checked as strictly as a message.

    Args:
        fields: values by the names in `FIELDS`; None is as good as absent.
        original: what is dead-lettered when it is no article.
    """
    given = {name: value for name, value in fields.items() if name in FIELDS and value is not None}
    try:
        news = msgspec.convert(given, RawNews)
        if news.published_at.tzinfo is None:
            raise ContractError(Reason.BAD_FIELD, "published_at has no time zone; expected e.g. 2026-11-06T10:00:00Z")
        return _row(line, encode(news), news)
    except msgspec.ValidationError as error:
        reason = Reason.MISSING_FIELD if "missing required field" in str(error) else Reason.BAD_FIELD
        return BadRow(line, original, ContractError(reason, str(error)))
    except ContractError as error:
        return BadRow(line, original, error)


def _row(line: int, value: bytes, news: RawNews) -> Row:
    try:
        at = news.published_at.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ContractError(Reason.BAD_FIELD, "published_at is beyond the calendar") from None
    return Row(line, value, (news.id or news.source).encode("utf-8", "replace")[:MAX_KEY], at)
