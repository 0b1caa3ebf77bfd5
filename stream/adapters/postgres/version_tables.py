"""The table of an article's versions. On the same `Base` as `schema`."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class VersionRow(Base):
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
    source: Mapped[str]
    title: Mapped[str]
    body: Mapped[str]
    url: Mapped[str | None]
    lang: Mapped[str]
    published_at: Mapped[datetime]
    first_seen_at: Mapped[datetime]
    entities: Mapped[list[str]]
    title_key: Mapped[str]
    topic: Mapped[str]
    sentiment: Mapped[str]
    negative_ppm: Mapped[int]
    neutral_ppm: Mapped[int]
    positive_ppm: Mapped[int]
    topic_ppm: Mapped[int]
    unsure: Mapped[bool]
    model: Mapped[str]
    origin_topic: Mapped[str]
    origin_partition: Mapped[int]
    origin_offset: Mapped[int] = mapped_column(BigInteger)
    meaning: Mapped[bytes | None] = mapped_column(BYTEA)
