"""groups, reminders, silences, verdicts"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NEW = (
    ("group_id", sa.Text(), ""),
    ("leads", sa.Boolean(), sa.text("true")),
    ("silenced", sa.Boolean(), sa.text("false")),
    ("flapping", sa.Boolean(), sa.text("false")),
    ("window_minutes", sa.Integer(), sa.text("60")),
    ("chance", sa.Float(), sa.text("1000")),
)


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    for name, kind, default in _NEW:
        op.add_column("incident", sa.Column(name, kind, nullable=False, server_default=default))
    op.execute("UPDATE incident SET group_id = incident_id")
    # An incident may be told of again in the same state: the number of the transition is the key now.
    op.drop_constraint("pk_transition", "transition", type_="primary")
    op.create_primary_key("pk_transition", "transition", ["run", "incident_id", "seq"])
    op.create_table(
        "silence",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("silence_id", sa.Text(), nullable=False),
        sa.Column("matchers", postgresql.JSONB(), nullable=False),
        _time("starts_at"),
        _time("ends_at"),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        _time("created_at"),
        _time("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("run", "silence_id", name="pk_silence"),
    )
    op.create_table(
        "verdict",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("useful", sa.Boolean(), nullable=False),
        _time("given_at"),
        sa.ForeignKeyConstraint(
            ["run", "incident_id"], ["incident.run", "incident.incident_id"],
            name="fk_verdict_run_incident_id", ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run", "incident_id", "given_by", name="pk_verdict"),
    )


def downgrade() -> None:
    op.drop_table("verdict")
    op.drop_table("silence")
    op.execute("DELETE FROM transition a USING transition b WHERE a.run = b.run AND a.incident_id = b.incident_id "
               "AND a.state = b.state AND a.seq > b.seq")
    op.drop_constraint("pk_transition", "transition", type_="primary")
    op.create_primary_key("pk_transition", "transition", ["run", "incident_id", "state"])
    for name, _, _ in _NEW:
        op.drop_column("incident", name)
