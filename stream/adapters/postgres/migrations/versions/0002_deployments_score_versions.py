"""deployments, their events, and scores by other bundles"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_now = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "deployment",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("share_ppm", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "seq", name=op.f("pk_deployment")),
    )
    op.create_index("ix_deployment_run_slot_seq", "deployment", ["run", "slot", "seq"])
    op.create_table(
        "deployment_event",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("deployment_seq", sa.BigInteger(), nullable=True),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.PrimaryKeyConstraint("run", "event_id", name=op.f("pk_deployment_event")),
    )
    op.create_index(
        "ix_deployment_event_run_slot_kind_at", "deployment_event", ["run", "slot", "kind", "at"]
    )
    op.create_table(
        "score_version",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("article_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("sentiment", sa.Text(), nullable=False),
        sa.Column("negative_ppm", sa.Integer(), nullable=False),
        sa.Column("neutral_ppm", sa.Integer(), nullable=False),
        sa.Column("positive_ppm", sa.Integer(), nullable=False),
        sa.Column("topic_ppm", sa.Integer(), nullable=False),
        sa.Column("unsure", sa.Boolean(), nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.ForeignKeyConstraint(
            ["run", "article_id"], ["article.run", "article.article_id"],
            name=op.f("fk_score_version_run_article_id"), ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run", "article_id", "model", name=op.f("pk_score_version")),
    )
    op.create_index("ix_score_version_run_model_scored_at", "score_version", ["run", "model", "scored_at"])


def downgrade() -> None:
    op.drop_table("score_version")
    op.drop_table("deployment_event")
    op.drop_table("deployment")
