"""The table of translated headlines. On the same `Base` as `schema`."""

from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class TranslationRow(Base):
    """An article's headline in another language, and the very words that were translated: titles get corrected."""

    __tablename__ = "translation"
    __table_args__ = (
        ForeignKeyConstraint(["run", "article_id"], ["article.run", "article.article_id"], ondelete="CASCADE"),
        Index("ix_translation_run_made_at", "run", "made_at"),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    article_id: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]
    model: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
