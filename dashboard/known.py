"""Which version of an article counts for a reader: the one that was counted, or the newest that was known at a moment.

An article that was never edited has no versions of its own: its row in `article` is its only one.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from crosswind.stream.adapters.postgres.schema import ArticleRow
from crosswind.stream.adapters.postgres.version_tables import VersionRow


def versions() -> Any:
    """The column that says how many versions of the article of a row in `article` there are."""
    query = select(func.greatest(func.count(), 1)).where(_of_article())
    return query.scalar_subquery().label("versions")


def unedited(as_of: datetime) -> tuple[Any, ...]:
    """The conditions of a row in `article` that it was known at a moment, and is its article's only version."""
    return ArticleRow.first_seen_at <= as_of, ~select(VersionRow.version).where(_of_article()).exists()


def newest(as_of: datetime) -> tuple[Any, ...]:
    """The conditions of a version that it was known at a moment, and none after it was."""
    later = aliased(VersionRow)
    newer = select(later.version).where(
        later.run == VersionRow.run, later.article_id == VersionRow.article_id, later.version > VersionRow.version,
        later.first_seen_at <= as_of,
    )  # fmt: skip
    return VersionRow.first_seen_at <= as_of, ~newer.exists()


def _of_article() -> Any:
    return (VersionRow.run == ArticleRow.run) & (VersionRow.article_id == ArticleRow.article_id)
