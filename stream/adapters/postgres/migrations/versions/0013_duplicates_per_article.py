"""duplicates per article: an origin that comes again names other articles' copies as well"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ORIGIN = ["run", "origin_topic", "origin_partition", "origin_offset"]


def upgrade() -> None:
    """Puts the article into the key: a broker that forgot, or a topic made anew, begins at offset 0 again."""
    op.drop_constraint("pk_duplicate", "duplicate", type_="primary")
    op.create_primary_key("pk_duplicate", "duplicate", [*_ORIGIN, "article_id"])


def downgrade() -> None:
    """Takes it out; of several notes with one origin the first that was received stays."""
    op.execute("""
        DELETE FROM duplicate d USING duplicate o
        WHERE (d.run, d.origin_topic, d.origin_partition, d.origin_offset)
            = (o.run, o.origin_topic, o.origin_partition, o.origin_offset)
          AND (d.first_seen_at, d.article_id) > (o.first_seen_at, o.article_id)
    """)
    op.drop_constraint("pk_duplicate", "duplicate", type_="primary")
    op.create_primary_key("pk_duplicate", "duplicate", _ORIGIN)
