"""Alembic's entry: runs migrations on the connection that `engine.migrate` passes in."""

from alembic import context
from crosswind.stream.adapters.postgres import (  # noqa: F401 - their tables join the metadata
    account_tables,
    alert_tables,
    deployment_tables,
    run_tables,
    story_tables,
    subscription_tables,
    version_tables,
)
from crosswind.stream.adapters.postgres.schema import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
