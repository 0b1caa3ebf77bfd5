"""stories, their members, meanings of articles"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _of_article(table: str) -> tuple[sa.Constraint, ...]:
    return (
        sa.ForeignKeyConstraint(
            ["run", "article_id"], ["article.run", "article.article_id"],
            name=f"fk_{table}_run_article_id", ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run", "article_id", name=f"pk_{table}"),
    )


def _has_vectors() -> bool:
    """Whether the server has pgvector and lets us use it; without it there are no stories, and all else works."""
    connection = op.get_bind()
    if connection.exec_driver_sql("SELECT 1 FROM pg_extension WHERE extname = 'vector'").scalar():
        return True
    if not connection.exec_driver_sql("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").scalar():
        return False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("CREATE EXTENSION vector")
    except SQLAlchemyError:  # not allowed to: an administrator may create it before
        return False
    return True


def upgrade() -> None:
    op.create_table(
        "story",
        _text("run"), _text("story_id"), _text("title"), _text("first_source"), _text("first_lang"),
        _time("first_at"), _time("last_at"),
        sa.Column("articles", sa.Integer(), nullable=False),
        sa.Column("sources", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("langs", postgresql.ARRAY(sa.Text()), nullable=False),
        _text("merged_into", nullable=True),
        sa.PrimaryKeyConstraint("run", "story_id", name="pk_story"),
    )
    op.create_index("ix_story_run_last_at", "story", ["run", "last_at"])
    op.create_table(
        "story_member",
        _text("run"), _text("article_id"), _text("story_id"), _text("joined"), _time("at"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        _text("novelty"), _text("reason"),
        sa.Column("similarity_ppm", sa.Integer(), nullable=False),
        *_of_article("story_member"),
    )
    for column in ("story_id", "seq", "at"):
        op.create_index(f"ix_story_member_run_{column}", "story_member", ["run", column])
    if _has_vectors():
        op.execute(
            "CREATE TABLE article_meaning (run text NOT NULL, article_id text NOT NULL, meaning vector NOT NULL, "
            "CONSTRAINT pk_article_meaning PRIMARY KEY (run, article_id), "
            "CONSTRAINT fk_article_meaning_run_article_id FOREIGN KEY (run, article_id) "
            "REFERENCES article (run, article_id) ON DELETE CASCADE)"
        )


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS article_meaning")
    op.drop_table("story_member")
    op.drop_table("story")
