"""Fixtures that start the real parts: embedded Postgres, embedded broker, a tiny real bundle."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker
from crosswind.stream.adapters.postgres import reader
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from tests.kafka_server import kafka, kafka_jars, own_kafka  # noqa: F401 - fixtures
from tests.tiny_bundle import make_tiny_bundle

_names = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a real Postgres with a migrated template database `template_crosswind`.

    Not below pytest's own folder: pytest closes that to other users, and as root the server runs as another one.
    """
    folder = Path(tempfile.mkdtemp(prefix="crosswind-postgres-"))
    server = EmbeddedPostgres(folder / "data")
    url = server.start()
    admin = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE template_crosswind"))
    engine = connect(_with_database(url, "template_crosswind"))
    reader.make(engine)
    migrate(engine)
    engine.dispose()
    admin.dispose()
    yield url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """A fresh, migrated database of its own."""
    name = f"test_{next(_names)}"
    admin = create_engine(make_url(postgres).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_crosswind"))
    yield _with_database(postgres, name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    connected = connect(database_url)
    yield connected
    connected.dispose()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of a fresh embedded broker."""
    started = EmbeddedBroker(tmp_path / "broker.log")
    yield started.start()
    started.stop()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny real bundle (see `tiny_bundle.py`)."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    make_tiny_bundle(folder)
    return folder


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
