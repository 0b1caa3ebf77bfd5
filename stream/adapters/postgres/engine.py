"""Connecting to Postgres, and bringing its schema up to date."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from crosswind.errors import DatabaseError, SettingsError
from crosswind.stream.adapters.postgres import reader, story_tables
from crosswind.stream.adapters.postgres.errors import database

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x63726F7373  # "cross": one migrator at a time


def connect(url: str, *, pool_size: int = 4, read_only: bool = False) -> Engine:
    """An engine on `url` (`postgresql://…`), driver psycopg 3; connects on first use.

    Raises:
        SettingsError: the address is not a Postgres URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number, as where a password holds @ and :
        expected = "expected postgresql://user@host/database, with %40 for an @ in the password"
        raise SettingsError(f"CROSSWIND_DATABASE_URL is not a URL; {expected}") from None
    if parsed.get_backend_name() != "postgresql":
        raise SettingsError(f"CROSSWIND_DATABASE_URL is for {parsed.get_backend_name()}; expected postgresql://…")
    options = "-c timezone=UTC" + (" -c default_transaction_read_only=on" if read_only else "")
    said = parsed.query.get("options", ())  # as a search path; ours come after them, and so hold
    arguments = {"connect_timeout": 5, "application_name": "crosswind"}
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,  # articles never go into error messages or logs
        connect_args={
            "options": " ".join([*([said] if isinstance(said, str) else said), options]),
            **{name: value for name, value in arguments.items() if name not in parsed.query},
        },
    )


def migrate(engine: Engine) -> None:
    """Brings the schema to the newest version; waits for another process that does the same. The reading role, where
    there is one, may then read what is new. Where pgvector was added since the last time, stories get their table.

    Raises:
        DatabaseError: the database cannot be reached or refuses, or a newer version of Crosswind has migrated it.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with database("bringing the database up to date"), engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        try:
            _refuse_newer(connection, ScriptDirectory.from_config(config))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            story_tables.make_meanings(connection)
            reader.grant(connection)
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")


def _refuse_newer(connection: Connection, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    newer = set(MigrationContext.configure(connection).get_current_heads()) - known
    if newer:
        raise DatabaseError(
            f"the database is of a newer version of Crosswind (schema {', '.join(sorted(newer))}, this one knows"
            f" {max(known)}): upgrade Crosswind here too, or use another database; docs/operations.md, Upgrade"
        )
