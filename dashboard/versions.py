"""The versions of one article: what it said when, and who scored that. Texts are what strangers wrote."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import literal, select

from crosswind.dashboard.queries import Reader
from crosswind.stream.adapters.postgres.schema import ArticleRow
from crosswind.stream.adapters.postgres.version_tables import VersionRow

MAX_VERSIONS: Final = 100
"""The newest of them; a text that changes more often is a ticker."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an article, numbered from 1 in the order of receipt. Whatever it says, its article counts once."""

    version: int
    first_seen_at: datetime
    published_at: datetime
    source: str
    title: str
    body: str
    url: str | None
    lang: str
    entities: list[str]
    topic: str
    sentiment: str
    negative_ppm: int
    neutral_ppm: int
    positive_ppm: int
    unsure: bool
    model: str


def versions(reader: Reader, article_id: str, as_of: datetime | None = None) -> list[Version]:
    """The versions of an article, oldest first, or those that were known at a moment; none when there is no such one.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    found = _read(reader, VersionRow, VersionRow.version, article_id, as_of)
    edited = found or _read(reader, VersionRow, VersionRow.version, article_id, None)
    return found if edited else _read(reader, ArticleRow, literal(1).label("version"), article_id, as_of)


def _read(reader: Reader, table: Any, number: Any, article_id: str, as_of: datetime | None) -> list[Version]:
    columns = [getattr(table, name) for name in Version.__dataclass_fields__ if name != "version"]
    query = select(number, *columns).where(table.run == reader.run, table.article_id == article_id)
    query = query if as_of is None else query.where(table.first_seen_at <= as_of)
    rows = reader.rows(query.order_by(number.desc()).limit(MAX_VERSIONS))
    return [Version(**row._asdict()) for row in reversed(rows)]
