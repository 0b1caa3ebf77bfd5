"""The role that pages read through: it reads what they show, and neither changes anything nor sees a secret."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from crosswind.errors import SettingsError
from crosswind.stream.adapters.postgres import reader
from crosswind.stream.adapters.postgres.engine import connect, migrate
from tests.newsroom import fill

TABLES = """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    AND NOT relispartition AND relname <> 'alembic_version' ORDER BY 1"""


@pytest.fixture
def reading(database_url: str) -> Iterator[Engine]:
    """Not in read-only sessions: what is refused is refused to the role."""
    engine = connect(reader.reader_url(database_url))
    yield engine
    engine.dispose()


@pytest.fixture
def member(engine: Engine, database_url: str) -> Iterator[str]:
    """The address for a role of its own, with no rights yet."""
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE desk LOGIN"))
    yield make_url(database_url).set(username="desk").render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY desk"))
        connection.execute(text("DROP ROLE desk"))


def refused(engine: Engine, statement: str) -> bool:
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    except ProgrammingError as error:
        return "permission denied" in str(error.orig) or "must be owner" in str(error.orig)
    return False


def test_every_table_is_read_or_private_and_none_is_written(engine: Engine, reading: Engine) -> None:
    fill(engine, 50)
    with engine.connect() as connection:
        tables = list(connection.execute(text(TABLES)).scalars())
        articles = connection.execute(text("SELECT count(*) FROM article")).scalar_one()
    assert len(tables) > 20
    assert set(tables) >= reader.PRIVATE
    for table in tables:
        assert refused(reading, f'SELECT * FROM "{table}" LIMIT 1') == (table in reader.PRIVATE), table
        assert refused(reading, f'DELETE FROM "{table}"'), table
        assert refused(reading, f'TRUNCATE "{table}"'), table
        assert refused(reading, f'DROP TABLE "{table}"'), table
    assert refused(reading, "CREATE TABLE mine (n int)")
    reader.check(reading)
    with reading.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM article")).scalar() == articles > 0


def test_a_migration_lets_it_read_what_is_new(engine: Engine, reading: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE coming (n int)"))
    assert refused(reading, "SELECT * FROM coming")
    migrate(engine)
    assert not refused(reading, "SELECT * FROM coming")
    assert refused(reading, "INSERT INTO coming VALUES (1)")


def test_a_role_that_can_write_is_refused(engine: Engine) -> None:
    with pytest.raises(SettingsError, match=r"may write to the table \w+; give it a role that only reads"):
        reader.check(engine)


def test_a_role_of_ones_own_needs_to_be_a_member(engine: Engine, member: str) -> None:
    desk = connect(member)
    with pytest.raises(SettingsError, match="GRANT crosswind_reader TO it"):
        reader.check(desk)
    with engine.begin() as connection:
        connection.execute(text("GRANT crosswind_reader TO desk"))
    reader.check(desk)
    desk.dispose()


def test_making_it_twice_is_the_same_as_once(engine: Engine) -> None:
    reader.make(engine)
    migrate(engine)
