"""hourly buckets.

The hours are filled from the minutes that are there. Workers of the version before do not keep them: stop those first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the roll-up, and fills it while nobody moves the minutes."""
    op.create_table(
        "bucket_hour",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("lang", sa.Text(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("articles", sa.Integer(), nullable=False),
        sa.Column("negative", sa.Integer(), nullable=False),
        sa.Column("positive", sa.Integer(), nullable=False),
        sa.Column("negative_ppm", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", "entity", "topic", "lang", "hour", name=op.f("pk_bucket_hour")),
        postgresql_with={"fillfactor": 70},
    )
    op.execute("LOCK TABLE bucket IN SHARE MODE")
    op.execute("""
        INSERT INTO bucket_hour
        SELECT run, entity, topic, lang, date_bin('1 hour', minute, 'epoch'), sum(articles), sum(negative),
               sum(positive), sum(negative_ppm)
        FROM bucket GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 5, 2, 3, 4
    """)
    op.create_index("ix_bucket_hour_run_entity_hour", "bucket_hour", ["run", "entity", "hour"])


def downgrade() -> None:
    """Drops the roll-up; the minutes hold everything that it did."""
    op.drop_index("ix_bucket_hour_run_entity_hour", table_name="bucket_hour")
    op.drop_table("bucket_hour")
