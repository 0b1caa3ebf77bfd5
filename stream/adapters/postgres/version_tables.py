"""The table of an article's versions. On the same `Base` as `schema`."""

from sqlalchemy import ForeignKeyConstraint, Index
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base, SaidAndScored


class VersionRow(SaidAndScored, Base):
    """One version of an article, whole. An article that was never edited has none: its row in `article` is its version.

    `version` counts from 1 in the order of receipt. `meaning`: as in `news.scored`; None where none is kept.
    """

    __tablename__ = "article_version"
    __table_args__ = (
        ForeignKeyConstraint(["run", "article_id"], ["article.run", "article.article_id"], ondelete="CASCADE"),
        Index("ix_article_version_run_published_at_article_id", "run", "published_at", "article_id"),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    article_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    meaning: Mapped[bytes | None] = mapped_column(BYTEA)
