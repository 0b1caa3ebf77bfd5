"""The table of what a run no longer keeps."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class RetentionRow(Base):
    """From when on a run keeps articles and minutes; never moves back."""

    __tablename__ = "retention"

    run: Mapped[str] = mapped_column(primary_key=True)
    articles_before: Mapped[datetime | None]
    minutes_before: Mapped[datetime | None]
    swept_at: Mapped[datetime]
