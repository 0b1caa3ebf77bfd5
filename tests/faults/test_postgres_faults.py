"""What befalls Postgres: away, frozen, cut off during a COMMIT, out of disk. The stream waits and loses nothing."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from tests.faults.stage import Setter
from tests.oracle import check, make_feed, send
from tests.processes import count, left, start_worker, wait_for

pytestmark = pytest.mark.timeout(900)
FEED = make_feed(600)
GROWTH = 150 * 2**20
"""Bytes that two workers may grow by while the database is away: their backlogs are bounded."""
CUT = """
import threading
from psycopg import OperationalError
from sqlalchemy.engine.default import DefaultDialect
commit, commits = DefaultDialect.do_commit, []
def cut(self, connection):
    ours = threading.current_thread().name.startswith("store")
    commits.extend([1] * ours)
    if ours and len(commits) % 4 == 1:  # the backend dies before it commits
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    commit(self, connection)
    if ours and len(commits) % 4 == 3:  # it commits, and the answer is lost
        connection.dbapi_connection.close()
        raise OperationalError("the connection was cut during COMMIT")
DefaultDialect.do_commit = cut
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres of the test's own."""
    made = EmbeddedPostgres(tmp_path / "postgres")
    yield made
    made.stop()


@contextmanager
def _database(server: EmbeddedPostgres) -> Iterator[tuple[str, Engine]]:
    url = server.start()
    engine = connect(url)
    migrate(engine)
    try:
        yield url, engine
    finally:
        engine.dispose()


def _processes(folder: Path) -> list[psutil.Process]:
    """The server's processes, its postmaster first."""
    postmaster = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
    return [postmaster, *postmaster.children(recursive=True)]


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
@pytest.mark.parametrize("seconds", [8.0, pytest.param(60.0, marks=pytest.mark.full)])
def test_postgres_is_away(
    fault: str, seconds: float, kafka: str, server: EmbeddedPostgres, tmp_path: Path, stages: Setter
) -> None:
    with _database(server) as (url, engine):
        stage = stages(kafka, url, engine)
        stage.wait_until_shared()  # one that finds no database as it starts ends, and says so: not what this is about
        stage.play(2)
        stage.wait_for_progress(200)
        before, frozen = stage.memory(), []
        if fault == "frozen":
            frozen = _processes(tmp_path / "postgres")
            for process in frozen:
                process.suspend()
        else:
            server.stop()
        stage.play()
        time.sleep(seconds)  # the outage
        assert stage.memory() < before + GROWTH
        for process in frozen:
            process.resume()
        if fault == "stopped":
            assert server.start() == url
        stage.drain()
        assert stage.ended() == [], "no worker needs a restart by hand"
        assert stage.stop() == [0, 0]
        stage.check()


def test_the_connection_is_cut_during_a_commit(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    ensure_topics(Settings(), broker)
    sent = send(broker, Settings().raw_topic, FEED.rows)
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, pause=0.25, before=CUT, batch_size="32")
    try:
        wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
        wait_for(lambda: count(engine, "duplicate") == FEED.duplicates, 30, "every duplicate is named")
    finally:
        worker.terminate()
        assert left(worker) == 0
    retries = (tmp_path / "worker.log").read_text("utf-8").count('"event": "retrying"')
    assert retries >= 4, "the connection was cut too seldom to prove anything"
    check(engine, broker, Settings().dead_topic, FEED, sent, tiny_bundle)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 160 MB."""
    folder = Path(tempfile.mkdtemp(prefix="crosswind-disk-"))
    try:
        if os.geteuid() != 0:
            pytest.skip("no small disk: only root may mount a tmpfs")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=777", "tmpfs", str(folder)],
                                 capture_output=True, check=False)  # fmt: skip
        if mounted.returncode:
            pytest.skip("no small disk: a tmpfs cannot be mounted here")
        folder.chmod(0o777)
        yield folder
        subprocess.run(["umount", "-l", str(folder)], check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_disk_under_postgres_is_full(small_disk: Path, broker: str, tiny_bundle: Path, tmp_path: Path) -> None:
    server = EmbeddedPostgres(small_disk / "postgres")
    try:
        with _database(server) as (url, engine):
            ensure_topics(Settings(), broker)
            filler = small_disk / "filler"
            with filler.open("wb") as out:
                free = shutil.disk_usage(small_disk).free
                out.write(b"\0" * (free - 64 * 1024))
                out.flush()
            sent = send(broker, Settings().raw_topic, FEED.rows)
            worker = start_worker(broker, url, tiny_bundle, tmp_path)
            log = tmp_path / "worker.log"
            wait_for(lambda: '"event": "retrying"' in log.read_text("utf-8"), 60, "the worker waits for the database")
            filler.unlink()
            if not server.running:  # without room for its log Postgres ends itself; its own supervisor starts it again
                server.start()
            wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
            wait_for(lambda: count(engine, "duplicate") == FEED.duplicates, 30, "every duplicate is named")
            worker.send_signal(signal.SIGTERM)
            assert left(worker) == 0
            check(engine, broker, Settings().dead_topic, FEED, sent, tiny_bundle)
    finally:
        server.stop()
