"""Cursors of the API's pages: a moment and an id, which strangers may hand back changed."""

import base64
import binascii
from datetime import UTC, datetime

from crosswind.errors import DataError

MAX_CURSOR = 400
"""Characters."""

LAST = 2**62
"""No event has a greater number; Postgres would refuse one of twice that."""


def cursor_of(at: datetime, ident: str) -> str:
    """The cursor that stands after one row.

    >>> parse_cursor(cursor_of(datetime(2026, 3, 2, tzinfo=UTC), "i1"))
    (datetime.datetime(2026, 3, 2, 0, 0, tzinfo=datetime.timezone.utc), 'i1')
    """
    return base64.urlsafe_b64encode(f"{at.astimezone(UTC).isoformat()} {ident}".encode()).decode()


def event_id(text: str) -> int:
    """The number of the last event that a client of a stream has.

    Raises:
        DataError: it is none that an event can have.
    """
    if not (text.isascii() and text.isdigit()) or int(text) > LAST:
        raise DataError("Last-Event-ID must be an event's id: a whole number")
    return int(text)


def parse_cursor(text: str) -> tuple[datetime, str] | None:
    """Where a page begins; None for the empty text: at the newest.

    Raises:
        DataError: it is no cursor of ours.
    """
    if not text:
        return None
    try:
        moment, ident = base64.urlsafe_b64decode(text.encode()).decode().split(" ", 1)
        at = datetime.fromisoformat(moment)
    except (ValueError, binascii.Error):
        raise DataError("`before` is no cursor; take it from a page's `next`") from None
    if at.tzinfo is None or not 1970 <= at.year < 9000 or not ident.isprintable():
        raise DataError("`before` is no cursor; take it from a page's `next`")
    return at, ident
