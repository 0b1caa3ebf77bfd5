"""Tables of what people say to alerts: silences, and verdicts on incidents. On the same `Base` as `schema`."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class SilenceRow(Base):
    """What need not be told for a while, event time; `matchers` is a list of field, operator, value."""

    __tablename__ = "silence"

    run: Mapped[str] = mapped_column(primary_key=True)
    silence_id: Mapped[str] = mapped_column(primary_key=True)
    matchers: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    created_by: Mapped[str]
    comment: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class VerdictRow(Base):
    """What one person thinks of one incident: useful, or not."""

    __tablename__ = "verdict"
    __table_args__ = (
        ForeignKeyConstraint(["run", "incident_id"], ["incident.run", "incident.incident_id"], ondelete="CASCADE"),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(primary_key=True)
    given_by: Mapped[str] = mapped_column(primary_key=True)
    useful: Mapped[bool]
    given_at: Mapped[datetime]
