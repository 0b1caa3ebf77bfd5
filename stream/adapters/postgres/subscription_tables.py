"""Tables of subscriptions and of what is sent to them. On the same `Base` as `schema`.

An `outbox` row says that one subscriber is told of one transition; it is written in the transition's transaction. A
`message` is what travels: one per outbox row, or one for all of a digest. `delivery` has every attempt.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


def _subscription(**options: Any) -> Any:
    return mapped_column(ForeignKey("subscription.subscription_id", ondelete="CASCADE"), **options)


class SubscriptionRow(Base):
    """Who is told of what, how. `sealed` is encrypted: the target and the signing keys; `shown` may be shown."""

    __tablename__ = "subscription"
    __table_args__ = (Index("ix_subscription_run_state", "run", "state"),)

    subscription_id: Mapped[str] = mapped_column(primary_key=True)
    run: Mapped[str]
    owner: Mapped[str]
    name: Mapped[str]
    topics: Mapped[list[str]]
    langs: Mapped[list[str]]
    entities: Mapped[list[str]]
    min_severity: Mapped[str]
    channel: Mapped[str]
    lane: Mapped[str]
    shown: Mapped[str]
    sealed: Mapped[str]
    language: Mapped[str]
    quiet: Mapped[dict[str, Any] | None] = mapped_column(type_=JSONB(none_as_null=True))
    cap_per_hour: Mapped[int | None]
    digest_minutes: Mapped[int | None]
    template: Mapped[str | None]
    state: Mapped[str]
    state_reason: Mapped[str]
    failures: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class OutboxRow(Base):
    """One transition of one incident for one subscriber, once."""

    __tablename__ = "outbox"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run", "incident_id", "seq"], ["transition.run", "transition.incident_id", "transition.seq"],
            ondelete="CASCADE",
        ),
        Index("ix_outbox_message_id", "message_id"),
        Index("ix_outbox_subscription_id_seq", "subscription_id", "seq"),
    )  # fmt: skip

    run: Mapped[str] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    subscription_id: Mapped[str] = _subscription(primary_key=True)
    message_id: Mapped[str]


class MessageRow(Base):
    """What is sent, until it is `sent` or `failed`."""

    __tablename__ = "message"
    __table_args__ = (
        Index("ix_message_due_at", "due_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_message_subscription_id_done_at", "subscription_id", "done_at"),
    )

    message_id: Mapped[str] = mapped_column(primary_key=True)
    subscription_id: Mapped[str] = _subscription()
    digest: Mapped[bool]
    state: Mapped[str]
    due_at: Mapped[datetime]
    attempts: Mapped[int]
    leased_by: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class DeliveryRow(Base):
    """One attempt."""

    __tablename__ = "delivery"
    __table_args__ = (Index("ix_delivery_subscription_id_delivery_id", "subscription_id", "delivery_id"),)

    delivery_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    message_id: Mapped[str]
    subscription_id: Mapped[str] = _subscription()
    at: Mapped[datetime]
    attempt: Mapped[int]
    outcome: Mapped[str]
    status: Mapped[int | None]
    detail: Mapped[str]
    milliseconds: Mapped[int]


class ApiTokenRow(Base):
    """A key to the API: only its hash is kept."""

    __tablename__ = "api_token"
    __table_args__ = (Index("ix_api_token_hash", "hash", unique=True),)

    token_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str]
    scopes: Mapped[list[str]]
    per_minute: Mapped[int]
    max_subscriptions: Mapped[int]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
