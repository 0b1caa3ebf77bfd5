"""article versions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TEXTS = ("source", "title", "body", "lang", "title_key", "topic", "sentiment", "model", "origin_topic")
_NUMBERS = ("negative_ppm", "neutral_ppm", "positive_ppm", "topic_ppm", "origin_partition")


def upgrade() -> None:
    """Makes the table of versions; and copies are found by their article, when it is edited."""
    op.create_table(
        "article_version",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("article_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _TEXTS),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entities", postgresql.ARRAY(sa.Text()), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _NUMBERS),
        sa.Column("unsure", sa.Boolean(), nullable=False),
        sa.Column("origin_offset", sa.BigInteger(), nullable=False),
        sa.Column("meaning", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("run", "article_id", "version", name=op.f("pk_article_version")),
        sa.ForeignKeyConstraint(
            ["run", "article_id"], ["article.run", "article.article_id"],
            name=op.f("fk_article_version_run_article_id"), ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_article_version_run_published_at_article_id", "article_version", ["run", "published_at", "article_id"]
    )
    op.create_index("ix_duplicate_run_article_id", "duplicate", ["run", "article_id"])


def downgrade() -> None:
    """Drops it: what edits said is lost, and the articles that count stay."""
    op.drop_index("ix_duplicate_run_article_id", table_name="duplicate")
    op.drop_index("ix_article_version_run_published_at_article_id", table_name="article_version")
    op.drop_table("article_version")
