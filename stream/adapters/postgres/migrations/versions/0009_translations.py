"""translations."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table of translated headlines."""
    op.create_table(
        "translation",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("article_id", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("run", "article_id", "target", name=op.f("pk_translation")),
        sa.ForeignKeyConstraint(
            ["run", "article_id"], ["article.run", "article.article_id"], name=op.f("fk_translation_run_article_id"),
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_translation_run_made_at", "translation", ["run", "made_at"])


def downgrade() -> None:
    """Drops it; translations can be made again."""
    op.drop_index("ix_translation_run_made_at", table_name="translation")
    op.drop_table("translation")
