"""The tables. `alembic` migrations create them; a test compares the two.

Probabilities are integers in parts per million and event times are `timestamptz`, so that any fold over rows is exact.
Every table here has `run` in its key (those of people, and of what is sent to them, have not): `live`, or the id of one
replay; runs never mix.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, DateTime, Float, ForeignKeyConstraint, Index, Integer, MetaData, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Naming convention and types shared by the tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: Text,
        int: Integer,
        bool: Boolean,
        float: Float,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        list[datetime]: ARRAY(DateTime(timezone=True)),
        dict[str, Any]: JSONB,
    }


class SaidAndScored:
    """What an input said, how it was scored and where it came from: of articles and of their versions."""

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


class ArticleRow(SaidAndScored, Base):
    """One scored article, once."""

    __tablename__ = "article"
    __table_args__ = (
        Index("ix_article_run_published_at_article_id", "run", "published_at", "article_id"),
        Index("ix_article_run_topic_published_at", "run", "topic", "published_at"),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    article_id: Mapped[str] = mapped_column(primary_key=True)


class BucketRow(Base):
    """One minute of one series: counts and sums over the articles of `article`."""

    __tablename__ = "bucket"
    __table_args__ = (Index("ix_bucket_run_entity_minute", "run", "entity", "minute"),)

    run: Mapped[str] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(primary_key=True)
    lang: Mapped[str] = mapped_column(primary_key=True)
    entity: Mapped[str] = mapped_column(primary_key=True)
    articles: Mapped[int]
    negative: Mapped[int]
    positive: Mapped[int]
    negative_ppm: Mapped[int] = mapped_column(BigInteger)


class HourRow(Base):
    """One whole hour of one series: the sum of its minutes, moved with them in one transaction.

    Ranges of days and weeks are read from here. The key leads to one series; the index to all series of a time.
    """

    __tablename__ = "bucket_hour"
    __table_args__ = (
        Index("ix_bucket_hour_run_entity_hour", "run", "entity", "hour"),
        # room for the next version of a row beside it: an hour is moved again and again, and no index with it
        {"postgresql_with": {"fillfactor": 70}},
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    entity: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(primary_key=True)
    lang: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    articles: Mapped[int]
    negative: Mapped[int]
    positive: Mapped[int]
    negative_ppm: Mapped[int] = mapped_column(BigInteger)


class DuplicateRow(Base):
    """An input whose article was already there from another input, and that said nothing new."""

    __tablename__ = "duplicate"
    __table_args__ = (Index("ix_duplicate_run_article_id", "run", "article_id"),)

    run: Mapped[str] = mapped_column(primary_key=True)
    origin_topic: Mapped[str] = mapped_column(primary_key=True)
    origin_partition: Mapped[int] = mapped_column(primary_key=True)
    origin_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    article_id: Mapped[str] = mapped_column(primary_key=True)  # an origin comes again when a topic is made anew
    first_seen_at: Mapped[datetime]


class WatermarkRow(Base):
    """How far event time has come on one lane: a pair of `news.raw` and `news.scored` partition."""

    __tablename__ = "watermark"

    run: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[int] = mapped_column(primary_key=True)
    event_time: Mapped[datetime | None]
    ahead: Mapped[list[datetime]]
    moved_at: Mapped[datetime]


class EngineRow(Base):
    """How far the alert engine has evaluated a run, and what it must remember between minutes."""

    __tablename__ = "engine"

    run: Mapped[str] = mapped_column(primary_key=True)
    evaluated_to: Mapped[datetime]
    state: Mapped[dict[str, Any]]


class IncidentRow(Base):
    """One surge of bad news, from pending to resolved. Figures are those of its strongest minute so far."""

    __tablename__ = "incident"
    __table_args__ = (Index("ix_incident_run_started_at", "run", "started_at"),)

    run: Mapped[str] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[str]
    rule_version: Mapped[str]
    topic: Mapped[str]
    lang: Mapped[str]
    entity: Mapped[str]
    state: Mapped[str]
    severity: Mapped[str]
    started_at: Mapped[datetime]
    fired_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    observed: Mapped[int]
    expected: Mapped[float]
    p_value: Mapped[float]
    negative_share: Mapped[float]
    sources: Mapped[int]
    headlines: Mapped[int]
    languages: Mapped[list[str]]
    evidence: Mapped[list[str]]
    model: Mapped[str]
    group_id: Mapped[str] = mapped_column(server_default="")
    leads: Mapped[bool] = mapped_column(server_default=text("true"))
    silenced: Mapped[bool] = mapped_column(server_default=text("false"))
    flapping: Mapped[bool] = mapped_column(server_default=text("false"))
    window_minutes: Mapped[int] = mapped_column(server_default=text("60"))
    chance: Mapped[float] = mapped_column(server_default=text("1000"))


class TransitionRow(Base):
    """One change of an incident, or a reminder. `seq` orders the transitions of a run."""

    __tablename__ = "transition"
    __table_args__ = (
        ForeignKeyConstraint(["run", "incident_id"], ["incident.run", "incident.incident_id"], ondelete="CASCADE"),
        Index("ix_transition_run_seq", "run", "seq", unique=True),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    payload: Mapped[dict[str, Any]]
