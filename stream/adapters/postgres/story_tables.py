"""The tables of stories. `article_meaning` is there only where the server has pgvector."""

from datetime import datetime
from typing import Any, cast

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import BigInteger, Connection, ForeignKeyConstraint, Index, Table, text
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class StoryRow(Base):
    """One event, summed up over its articles. A story that was merged keeps its row, and says into which."""

    __tablename__ = "story"
    __table_args__ = (Index("ix_story_run_last_at", "run", "last_at"),)

    run: Mapped[str] = mapped_column(primary_key=True)
    story_id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    first_source: Mapped[str]
    first_lang: Mapped[str]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    articles: Mapped[int]
    sources: Mapped[list[str]]
    langs: Mapped[list[str]]
    merged_into: Mapped[str | None]


class StoryMemberRow(Base):
    """Which story an article tells. `joined` is the story it came to first, `story_id` what that has become."""

    __tablename__ = "story_member"
    __table_args__ = (
        ForeignKeyConstraint(["run", "article_id"], ["article.run", "article.article_id"], ondelete="CASCADE"),
        Index("ix_story_member_run_story_id", "run", "story_id"),
        Index("ix_story_member_run_seq", "run", "seq"),
        Index("ix_story_member_run_at", "run", "at"),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    article_id: Mapped[str] = mapped_column(primary_key=True)
    story_id: Mapped[str]
    joined: Mapped[str]
    at: Mapped[datetime]
    seq: Mapped[int] = mapped_column(BigInteger)
    novelty: Mapped[str]
    reason: Mapped[str]
    similarity_ppm: Mapped[int]


class ArticleMeaningRow(Base):
    """What the bundle says an article means: whole numbers from -127 to 127, of which only the direction counts."""

    __tablename__ = "article_meaning"
    __table_args__ = (
        ForeignKeyConstraint(["run", "article_id"], ["article.run", "article.article_id"], ondelete="CASCADE"),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    article_id: Mapped[str] = mapped_column(primary_key=True)
    meaning: Mapped[Any] = mapped_column(VECTOR(), nullable=False)


_MISSING = text("""
    SELECT to_regtype('vector') IS NOT NULL AND to_regclass('article_meaning') IS NULL
           AND has_schema_privilege(current_schema(), 'CREATE')
           AND has_table_privilege('article', 'REFERENCES')
""")


def make_meanings(connection: Connection) -> None:
    """Makes `article_meaning` where pgvector came to the server after the migration that would have made it.

    Not where we may make no table: all else works without it.
    """
    if connection.execute(_MISSING).scalar_one():
        cast(Table, ArticleMeaningRow.__table__).create(connection)
