"""The tables of deployments and of scores by other bundles than the one that judged an article first."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class DeploymentRow(Base):
    """Somebody's wish that a bundle be live, or compared beside the live one, from then on."""

    __tablename__ = "deployment"
    __table_args__ = (Index("ix_deployment_run_slot_seq", "run", "slot", "seq"),)

    run: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    slot: Mapped[str]
    version: Mapped[str]
    address: Mapped[str]
    share_ppm: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    reason: Mapped[str]


class DeploymentEventRow(Base):
    """What became of a deployment in one worker; without `deployment_seq`: what a worker started with by itself."""

    __tablename__ = "deployment_event"
    __table_args__ = (Index("ix_deployment_event_run_slot_kind_at", "run", "slot", "kind", "at"),)

    run: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    deployment_seq: Mapped[int | None] = mapped_column(BigInteger)
    slot: Mapped[str]
    kind: Mapped[str]
    version: Mapped[str]
    address: Mapped[str]
    worker: Mapped[str]
    message: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ScoreVersionRow(Base):
    """What another bundle says of a stored article. The score that was published stays in `article`, as it was."""

    __tablename__ = "score_version"
    __table_args__ = (
        ForeignKeyConstraint(["run", "article_id"], ["article.run", "article.article_id"], ondelete="CASCADE"),
        Index("ix_score_version_run_model_scored_at", "run", "model", "scored_at"),
    )

    run: Mapped[str] = mapped_column(primary_key=True)
    article_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str]
    sentiment: Mapped[str]
    negative_ppm: Mapped[int]
    neutral_ppm: Mapped[int]
    positive_ppm: Mapped[int]
    topic_ppm: Mapped[int]
    unsure: Mapped[bool]
    scored_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
