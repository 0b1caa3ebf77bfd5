"""The role that the dashboard's pages read through: it can change nothing, and sees nobody's secrets.

Whoever owns the server makes the role (`make`, or `CREATE ROLE crosswind_reader LOGIN PASSWORD …`); every migration
gives it the right to read, table by table, so that a new table needs no step by hand. A login role that is a member of
it does as well.
"""

from typing import Final

from sqlalchemy import Connection, Engine, make_url, text

from crosswind.errors import SettingsError
from crosswind.stream.adapters.postgres.errors import database

ROLE: Final = "crosswind_reader"

PRIVATE: Final = frozenset(
    {"account", "identity", "session", "audit", "api_token", "subscription", "outbox", "message", "delivery"}
)
"""Tables that no page reads through it: who may log in, who did what, and where messages go."""

_MAKE = f"""DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN CREATE ROLE {ROLE} LOGIN; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another process made it meanwhile
END $$"""
_TABLES = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition"""
_UNREAD = f"""{_TABLES} AND c.relname <> ALL(:private) AND NOT has_table_privilege('{ROLE}', c.oid, 'SELECT')"""
_WRITABLE = f"""{_TABLES} AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') ORDER BY 1 LIMIT 1"""
_READABLE = """SELECT has_table_privilege(oid, 'SELECT') FROM pg_class WHERE oid = to_regclass('article')"""


def make(engine: Engine) -> None:
    """Makes the role where there is none, without a password: for a server that trusts whoever can connect.

    Raises:
        DatabaseError: the database cannot be reached, or we may not make roles in it.
    """
    with database(f"making the role {ROLE}"), engine.begin() as connection:
        connection.execute(text(_MAKE))


def grant(connection: Connection) -> None:
    """Lets the role, where there is one, read every table that is not private. Changes nothing where it may already."""
    if not connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": ROLE}).scalar():
        return
    unread = connection.execute(text(_UNREAD), {"private": sorted(PRIVATE)}).scalars().all()
    if unread:
        quote = connection.dialect.identifier_preparer.quote
        schema = connection.execute(text("SELECT current_schema()")).scalar_one()
        connection.execute(text(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {ROLE}"))
        connection.execute(text(f"GRANT SELECT ON {', '.join(map(quote, unread))} TO {ROLE}"))


def reader_url(url: str) -> str:
    """The address of the same database for the role, on a server that asks for no password.

    >>> reader_url("postgresql://postgres:@/crosswind?host=/run/here")
    'postgresql://crosswind_reader:@/crosswind?host=/run/here'
    """
    parsed = make_url(url)
    return parsed.set(username=ROLE, password=None).render_as_string(hide_password=False).replace("%2F", "/")


def check(engine: Engine) -> None:
    """Refuses a role that can write, or that cannot read.

    Raises:
        SettingsError: saying which, and what to do.
        DatabaseError: the database cannot be reached.
    """
    with database("reading through CROSSWIND_READ_DATABASE_URL"), engine.connect() as connection:
        writable = connection.execute(text(_WRITABLE)).scalar()
        readable = connection.execute(text(_READABLE)).scalar()
    if writable:
        raise SettingsError(
            f"the role of CROSSWIND_READ_DATABASE_URL may write to the table {writable}; give it a role that only"
            f" reads: CREATE ROLE {ROLE} LOGIN PASSWORD '…', then start a worker, which grants it what it needs"
        )
    if readable is False:
        raise SettingsError(
            f"the role of CROSSWIND_READ_DATABASE_URL may not read the table article; call it {ROLE}, or"
            f" GRANT {ROLE} TO it, and start a worker, which grants {ROLE} what it needs"
        )
