"""subscriptions, outbox, messages, deliveries, API tokens"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXTS = sa.ARRAY(sa.Text())


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _int(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of_subscription(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["subscription_id"], ["subscription.subscription_id"], name=f"fk_{table}_subscription_id", ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "subscription",
        _text("subscription_id"), _text("run"), _text("owner"), _text("name"),
        sa.Column("topics", _TEXTS, nullable=False), sa.Column("langs", _TEXTS, nullable=False),
        sa.Column("entities", _TEXTS, nullable=False),
        _text("min_severity"), _text("channel"), _text("lane"), _text("shown"), _text("sealed"), _text("language"),
        sa.Column("quiet", postgresql.JSONB(), nullable=True),
        _int("cap_per_hour", True), _int("digest_minutes", True), _text("template", True),
        _text("state"), _text("state_reason"), _int("failures"), _time("created_at"), _time("updated_at"),
        sa.PrimaryKeyConstraint("subscription_id", name="pk_subscription"),
    )
    op.create_index("ix_subscription_run_state", "subscription", ["run", "state"])
    op.create_table(
        "outbox",
        _text("run"), _text("incident_id"), sa.Column("seq", sa.BigInteger(), nullable=False),
        _text("subscription_id"), _text("message_id"),
        sa.ForeignKeyConstraint(
            ["run", "incident_id", "seq"], ["transition.run", "transition.incident_id", "transition.seq"],
            name="fk_outbox_run_incident_id_seq", ondelete="CASCADE",
        ),
        _of_subscription("outbox"),
        sa.PrimaryKeyConstraint("run", "incident_id", "seq", "subscription_id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_message_id", "outbox", ["message_id"])
    op.create_index("ix_outbox_subscription_id_seq", "outbox", ["subscription_id", "seq"])
    op.create_table(
        "message",
        _text("message_id"), _text("subscription_id"), sa.Column("digest", sa.Boolean(), nullable=False),
        _text("state"), _time("due_at"), _int("attempts"), _text("leased_by", True), _time("leased_until", True),
        _time("created_at"), _time("done_at", True),
        _of_subscription("message"),
        sa.PrimaryKeyConstraint("message_id", name="pk_message"),
    )
    op.create_index("ix_message_due_at", "message", ["due_at"], postgresql_where=sa.text("state = 'waiting'"))
    op.create_index("ix_message_subscription_id_done_at", "message", ["subscription_id", "done_at"])
    op.create_table(
        "delivery",
        sa.Column("delivery_id", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("message_id"), _text("subscription_id"), _time("at"), _int("attempt"), _text("outcome"),
        _int("status", True), _text("detail"), _int("milliseconds"),
        _of_subscription("delivery"),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_delivery"),
    )
    op.create_index("ix_delivery_subscription_id_delivery_id", "delivery", ["subscription_id", "delivery_id"])
    op.create_table(
        "api_token",
        _text("token_id"), _text("name"), _text("hash"), sa.Column("scopes", _TEXTS, nullable=False),
        _int("per_minute"), _int("max_subscriptions"), _time("created_at"), _time("revoked_at", True),
        sa.PrimaryKeyConstraint("token_id", name="pk_api_token"),
    )
    op.create_index("ix_api_token_hash", "api_token", ["hash"], unique=True)


def downgrade() -> None:
    for name in ("api_token", "delivery", "message", "outbox", "subscription"):
        op.drop_table(name)
