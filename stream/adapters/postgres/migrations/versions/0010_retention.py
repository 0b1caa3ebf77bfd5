"""retention."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table of what a run no longer keeps."""
    op.create_table(
        "retention",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("articles_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("minutes_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_retention")),
    )


def downgrade() -> None:
    """Drops it: articles that were dropped and are delivered again would count again."""
    op.drop_table("retention")
