"""identities: whose account it is, where an identity provider vouches for people"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table that ties an account to a provider's issuer and its lasting name for somebody."""
    op.create_table(
        "identity",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["name"], ["account.name"], name="fk_identity_name", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("provider", "subject", name="pk_identity"),
        sa.UniqueConstraint("name", name="uq_identity_name"),
    )


def downgrade() -> None:
    """Drops it, and the accounts of those people: no password fits them."""
    op.execute("DELETE FROM account WHERE name IN (SELECT name FROM identity)")
    op.drop_table("identity")
