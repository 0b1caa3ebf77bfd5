"""Real dispatcher processes that are killed, and a database that goes away: every alert arrives, under one id."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from tests.notify_helpers import KEY, Receiver, alert, fire, receiver, rows, subscribe
from tests.processes import wait_for

pytestmark = pytest.mark.timeout(600)
KINDS = ("ok", "flaky", "drop", "busy")
NONE_WAITS = "SELECT count(*) FROM message WHERE state = 'waiting'"
_DISPATCHER = """
import os, signal
from datetime import timedelta
from crosswind.settings import load_settings
from crosswind.stream.notify import bootstrap

bootstrap.SCHEDULE = tuple(timedelta(seconds=0.2) for _ in range(50))
point, after = os.environ.get("TEST_KILL_AT", ":0").split(":")
seen = 0

async def checkpoint(name):
    global seen
    seen += name == point
    if name == point and seen > int(after):
        os.kill(os.getpid(), signal.SIGKILL)

raise SystemExit(bootstrap.run_notify(load_settings(), checkpoint, send_seconds=2.0, lease_seconds=4.0))
"""
_WRITER = """
import os, signal, sys
from crosswind.stream.adapters.postgres.engine import connect
from tests.notify_helpers import alert, put

engine = connect(os.environ["CROSSWIND_DATABASE_URL"])
with engine.begin() as connection:
    put(connection, alert(1), alert(2, "inc2"))
    if sys.argv[1] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def start(url: str, folder: Path, script: str, *arguments: str, kill_at: str = ":0") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "CROSSWIND_DATABASE_URL": url, "CROSSWIND_SEAL_KEY": KEY,
                   "CROSSWIND_NOTIFY_PRIVATE": "true", "CROSSWIND_DATA_DIR": str(folder), "TEST_KILL_AT": kill_at,
                   "PYTHONPATH": str(Path(__file__).parents[2])}  # fmt: skip
    with (folder / "process.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, stdout=log, stderr=log)


@contextmanager
def dispatcher(url: str, folder: Path, kill_at: str = ":0") -> Iterator[subprocess.Popen[bytes]]:
    process = start(url, folder, _DISPATCHER, kill_at=kill_at)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def all_sent(engine: Engine) -> bool:
    return rows(engine, NONE_WAITS) == [(0,)]


def check_nothing_lost(engine: Engine, there: Receiver, subscribers: int, alerts: int) -> None:
    told = rows(engine, "SELECT incident_id, seq, subscription_id, message_id FROM outbox")
    assert len(told) == len(set(told)) == subscribers * alerts
    assert {message_id for *_, message_id in told} == {message_id for _, message_id in there.got}
    assert rows(engine, "SELECT count(*) FROM message WHERE state <> 'sent'") == [(0,)]


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


@pytest.mark.parametrize("kill_at", ["claimed:0", "sent:2", "recorded:0"])
def test_a_dispatcher_killed_at_any_step_loses_nothing(
    engine: Engine, database_url: str, tmp_path: Path, there: Receiver, kill_at: str
) -> None:
    for n in range(8):
        subscribe(engine, f"{there.address}/{KINDS[n % 4]}/{n}")
    fire(engine, alert(1), alert(2, "inc2"))
    with dispatcher(database_url, tmp_path, kill_at) as first:
        assert first.wait(60) == -signal.SIGKILL
    recorded = [message_id for (message_id,) in rows(engine, "SELECT message_id FROM message WHERE state = 'sent'")]
    before = {message_id: there.taken[message_id] for message_id in recorded}
    with dispatcher(database_url, tmp_path):
        wait_for(lambda: all_sent(engine), 90, "all messages sent")
    check_nothing_lost(engine, there, 8, 2)
    assert {message_id: there.taken[message_id] for message_id in recorded} == before
    assert kill_at != "recorded:0" or recorded


@pytest.mark.parametrize(("moment", "expected"), [("before", 0), ("after", 4)])
def test_an_engine_killed_around_its_commit_tells_all_or_nothing(
    engine: Engine, database_url: str, tmp_path: Path, moment: str, expected: int
) -> None:
    for _ in range(2):
        subscribe(engine, "http://127.0.0.1:1/")
    assert start(database_url, tmp_path, _WRITER, moment).wait(60) == -signal.SIGKILL
    for table in ("outbox", "message"):
        assert rows(engine, f"SELECT count(*) FROM {table}") == [(expected,)]
    assert rows(engine, "SELECT count(*) FROM transition") == [(expected // 2,)]


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5))
def test_dispatchers_killed_again_and_again(
    engine: Engine, database_url: str, tmp_path: Path, there: Receiver, seed: int
) -> None:
    rng = random.Random(seed)
    for n in range(40):
        subscribe(engine, f"{there.address}/{KINDS[n % 4]}/{n}")
    fire(engine, *(alert(n, f"inc{n}") for n in range(1, 6)))
    for _ in range(8):
        kill_at = f"{rng.choice(['claimed', 'sent', 'recorded'])}:{rng.randrange(6)}"
        with dispatcher(database_url, tmp_path, kill_at), dispatcher(database_url, tmp_path, kill_at) as second:
            try:
                second.wait(10)
            except subprocess.TimeoutExpired:
                break
    with dispatcher(database_url, tmp_path):
        wait_for(lambda: all_sent(engine), 120, "all messages sent")
    check_nothing_lost(engine, there, 40, 5)


@pytest.mark.parametrize("away", [3.0, pytest.param(60.0, marks=pytest.mark.full)])
def test_postgres_goes_away_and_nothing_is_lost_or_sent_twice(tmp_path: Path, there: Receiver, away: float) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    url = server.start()
    engine = connect(url)
    migrate(engine)
    try:
        for n in range(8):
            subscribe(engine, f"{there.address}/ok/{n}")
        fire(engine, alert(1))
        with dispatcher(url, tmp_path) as process:
            wait_for(lambda: all_sent(engine), 60, "the first alert sent")
            server.stop()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(away)  # it lives on
            assert server.start() == url
            engine.dispose()
            fire(engine, alert(2, "inc2"))
            wait_for(lambda: all_sent(engine), 60, "the second alert sent")
        check_nothing_lost(engine, there, 8, 2)
        assert set(there.taken.values()) == {1}
    finally:
        engine.dispose()
        server.stop()
