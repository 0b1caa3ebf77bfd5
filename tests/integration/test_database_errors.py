"""What Postgres refuses is our error, in one line: what failed, why, what to do next, and never a row."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres import alert_orders, alerts, runs
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.postgres.subscriptions import Subscriptions
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.store import open_store
from crosswind.stream.service.deployment import Slot
from tests.builders import scored_article


@pytest.fixture
def away() -> Iterator[Engine]:
    """An engine on a port where nothing listens."""
    engine = connect("postgresql://nobody@127.0.0.1:9/none")
    yield engine
    engine.dispose()


ASKED: dict[str, Callable[[Engine], object]] = {
    "bringing the database up to date": migrate,
    "storing 1 articles": lambda engine: PostgresTrendStore(engine).ingest("live", [Delivery(scored_article(1), 0)]),
    "reading replays and backtests": runs.kept_runs,
    "keeping replays and backtests": lambda engine: runs.save_run(engine, "one", "done", {}, {}),
    "reading the alerts of run live": lambda engine: alerts.last_seq(engine, "live"),
    "reading the silences": lambda engine: alert_orders.silences(engine, "live"),
    "reading subscriptions": lambda engine: Subscriptions(engine, "live").list(),
    "reading the deployments": lambda engine: PostgresDeployments(engine).wanted("live", Slot.LIVE),
    "reading the articles of run live": lambda engine: list(
        open_store(engine, "live", Filter(), Judge(Unscored), scores_of="x").tables
    ),
}


@pytest.mark.parametrize("what", ASKED)
def test_a_database_that_is_away(what: str, away: Engine) -> None:
    with pytest.raises(DatabaseError) as caught:
        ASKED[what](away)
    said = str(caught.value)
    assert said.startswith(f"{what} failed: connection failed")
    assert said.endswith("; is Postgres running, is its address right?")
    assert len(said.splitlines()) == 1


def refusal(engine: Engine, statement: str, **values: object) -> str:
    with pytest.raises(DatabaseError) as caught, database("asking"), engine.begin() as connection:
        connection.execute(text(statement), values).scalar_one()
    return str(caught.value)


def test_a_refused_row_is_not_told(engine: Engine) -> None:
    said = refusal(engine, "INSERT INTO replay_run (run, state) VALUES (:run, 'done') RETURNING run", run="Acme fails")
    assert said.startswith("asking failed: null value in column")
    assert "Acme" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("statement", ["SELECT 1 FROM tomorrow", "SELECT tomorrow FROM article"])
def test_a_schema_that_is_behind(statement: str, engine: Engine) -> None:
    assert refusal(engine, statement).endswith("does not exist; bring the database up to date with `crosswind migrate`")


def test_an_error_that_is_not_the_drivers_says_what_it_is(engine: Engine) -> None:
    assert refusal(engine, "SELECT 1 WHERE false") == "asking failed: No row was found when one was required"


def test_an_error_without_words_has_its_name() -> None:
    with pytest.raises(DatabaseError, match="asking failed: OperationalError;"), database("asking"):
        raise OperationalError("SELECT 1", {}, psycopg.OperationalError())


def test_what_the_driver_was_asked_itself(engine: Engine) -> None:
    """As the meanings of articles are copied in."""

    def copy() -> None:
        with database("copying"), engine.begin() as connection:
            driver: Any = connection.connection.driver_connection
            with driver.cursor().copy("COPY tomorrow FROM STDIN") as copied:
                copied.write_row(("Acme fails",))

    with pytest.raises(DatabaseError) as caught:
        copy()
    assert str(caught.value).endswith("does not exist; bring the database up to date with `crosswind migrate`")


def test_a_driver_that_lost_its_server() -> None:
    with pytest.raises(DatabaseError, match="asking failed: gone; is Postgres running"), database("asking"):
        raise psycopg.OperationalError("gone")


def test_what_is_no_error_of_the_database_passes() -> None:
    with pytest.raises(KeyError, match="ours"), database("asking"):
        raise KeyError("ours")


def test_a_database_that_a_newer_version_migrated(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=r"newer version of Crosswind \(schema 9999.*: upgrade") as caught:
        migrate(engine)
    assert caught.value.exit_code == 6
    assert len(str(caught.value).splitlines()) == 1
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
        taken = connection.execute(
            text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
        assert taken.scalar_one() == 0
