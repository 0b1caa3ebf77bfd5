"""What was delivered long ago is dropped in batches; what was not delivered, or is still needed, never is."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres.outbox_upkeep import Pruned, prune, waiting
from crosswind.stream.adapters.postgres.subscriptions import Subscriptions
from crosswind.stream.notify.adapters.upkeep import run_upkeep
from crosswind.stream.notify.domain.subscription import Channel, Standing
from tests.notify_helpers import KEY, Receiver, alert, fire, receiver, rows, scrape, subscribe

TABLES = ("message", "outbox", "delivery")


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def put(engine: Engine, statement: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), values)


def delivered(engine: Engine, days: int, which: str = "true") -> None:
    """Messages were taken so many days ago, at the second attempt."""
    put(engine, f"UPDATE message SET state = 'sent', done_at = now() - make_interval(days => {days}) WHERE {which}")
    put(
        engine,
        f"""INSERT INTO delivery (message_id, subscription_id, at, attempt, outcome, status, detail,
        milliseconds) SELECT message_id, subscription_id, now() - make_interval(days => {days}), n, 'x', 200, '', 1
        FROM message, generate_series(1, 2) AS n WHERE {which}""",
    )


def over(engine: Engine) -> None:
    put(engine, "UPDATE incident SET state = 'resolved', resolved_at = now()")


def swept(engine: Engine, days: int = 90, batch: int = 3) -> tuple[Pruned, int]:
    total, more, calls = Pruned(), True, 0
    while more:
        found, more = prune(engine, days, batch)
        assert found.messages <= batch
        total, calls = total + found, calls + 1
        assert calls < 50
    return total, calls


def counts(engine: Engine) -> tuple[int, ...]:
    return tuple(rows(engine, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES)


def test_old_deliveries_go_in_batches_with_their_log(engine: Engine) -> None:
    for n in range(8):
        subscribe(engine, f"http://127.0.0.1:1/{n}")
    fire(engine, alert(1), alert(2, "inc2"))
    over(engine)
    delivered(engine, 91, "message_id IN (SELECT message_id FROM outbox WHERE incident_id = 'inc1')")
    delivered(engine, 89, "message_id IN (SELECT message_id FROM outbox WHERE incident_id = 'inc2')")
    total, calls = swept(engine)
    assert total == Pruned(8, 8, 16)
    assert calls == 3
    assert counts(engine) == (8, 8, 16)
    assert rows(engine, "SELECT DISTINCT incident_id FROM outbox") == [("inc2",)]
    assert swept(engine) == (Pruned(), 1)


@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_what_was_not_delivered_stays_with_its_log(engine: Engine, state: str) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    fire(engine, alert())
    over(engine)
    delivered(engine, 900)
    put(engine, "UPDATE message SET state = :state, due_at = '2000-01-01', created_at = '2000-01-01'", state=state)
    assert swept(engine) == (Pruned(), 1)
    assert counts(engine) == (1, 1, 2)


def test_those_who_were_told_are_told_of_the_end_however_late(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    fire(engine, alert(1))
    delivered(engine, 400)
    assert swept(engine) == (Pruned(), 1)
    fire(engine, alert(2, state="resolved", cause="resolved"))
    assert rows(engine, "SELECT seq FROM outbox ORDER BY seq") == [(1,), (2,)]
    over(engine)
    assert swept(engine)[0] == Pruned(1, 1, 2)
    assert rows(engine, "SELECT seq FROM outbox") == [(2,)]


def test_a_digest_stays_while_one_of_its_incidents_goes_on(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/", digest_minutes=60)
    fire(engine, alert(1), alert(2, "inc2"))
    delivered(engine, 100)
    put(engine, "UPDATE incident SET state = 'resolved' WHERE incident_id = 'inc1'")
    assert swept(engine) == (Pruned(), 1)
    over(engine)
    assert swept(engine)[0] == Pruned(1, 2, 2)


def test_streams_resume_from_any_number_and_old_tests_go(engine: Engine) -> None:
    new = subscribe(engine, channel=Channel.STREAM)
    fire(engine, alert())
    over(engine)
    put(engine, """INSERT INTO delivery (message_id, subscription_id, at, attempt, outcome, status, detail,
        milliseconds) SELECT 'test_' || n, :id, now() - make_interval(days => n), 1, 'failed', 500, '', 1
        FROM generate_series(81, 100) AS n WHERE n <> 90""", id=new)  # fmt: skip
    assert swept(engine)[0] == Pruned(0, 0, 10)
    assert counts(engine) == (0, 1, 9)
    assert [found.seq for found in Subscriptions(engine, "live").after(new, 0)] == [1]


def test_two_at_once_drop_each_row_once(engine: Engine) -> None:
    rng = random.Random(5)
    for n in range(20):
        subscribe(engine, f"http://127.0.0.1:1/{n}")
    fire(engine, *(alert(n, f"inc{n}") for n in range(1, 11)))
    over(engine)
    delivered(engine, 100)
    found: list[Pruned] = []

    def work(batch: int) -> None:
        found.append(swept(engine, batch=batch)[0])

    threads = [threading.Thread(target=work, args=(rng.randrange(11, 30),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] + found[1] == Pruned(200, 200, 400)
    assert counts(engine) == (0, 0, 0)


def test_the_upkeep_sweeps_again_and_again_and_survives_an_outage(engine: Engine) -> None:
    answers: list[Pruned | DatabaseError] = [Pruned(1, 1, 1), DatabaseError("away"), Pruned(2, 2, 2), Pruned()]
    told: list[Pruned] = []

    def drop() -> tuple[Pruned, bool]:
        answer = answers.pop(0) if answers else Pruned()
        if isinstance(answer, DatabaseError):
            raise answer
        return answer, answer == Pruned(1, 1, 1)

    async def work() -> None:
        task = asyncio.create_task(run_upkeep(drop, told.append, interval=0.01))
        async with asyncio.timeout(20):
            while len(told) < 3:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(work())
    assert told[:2] == [Pruned(1, 1, 1), Pruned(2, 2, 2)]


def test_what_waits_is_what_active_subscriptions_have(engine: Engine) -> None:
    assert waiting(engine).count == 0
    assert waiting(engine).oldest_seconds == waiting(engine).overdue_seconds == 0.0
    new = subscribe(engine, "http://127.0.0.1:1/")
    fire(engine, alert(1), alert(2, "inc2"))
    put(engine, "UPDATE message SET created_at = now() - interval '1 hour', due_at = now() + interval '1 hour'")
    found = waiting(engine)
    assert found.count == 2
    assert 3600 <= found.oldest_seconds < 3700
    assert found.overdue_seconds == 0.0
    Subscriptions(engine, "live").stand(new, Standing.PAUSED)
    assert waiting(engine).count == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_running_dispatcher_counts_and_prunes(
    engine: Engine, database_url: str, there: Receiver, tmp_path: Path
) -> None:
    """The real process: its metrics on loopback, and old rows gone without anybody asking."""
    old = subscribe(engine, there.address + "/ok/old")
    fire(engine, alert(9, "inc9"))
    over(engine)
    delivered(engine, 200, f"subscription_id = '{old}'")
    Subscriptions(engine, "live").stand(old, Standing.PAUSED)
    for kind in ("ok", "gone"):
        subscribe(engine, f"{there.address}/{kind}")
    fire(engine, alert(1))
    port = free_port()
    environment = {
        **os.environ, "CROSSWIND_DATABASE_URL": database_url, "CROSSWIND_SEAL_KEY": KEY,
        "CROSSWIND_NOTIFY_PRIVATE": "true", "CROSSWIND_DATA_DIR": str(tmp_path), "CROSSWIND_NOTIFY_PORT": str(port),
    }  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "crosswind", "notify"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline, found = time.monotonic() + 60, dict[str, float]()
        while (
            found.get('crosswind_notify_failed_total{reason="gone"}') != 1.0
            or found.get('crosswind_notify_pruned_rows_total{what="messages"}') != 1.0
        ):
            assert time.monotonic() < deadline, (found, (tmp_path / "log").read_text())
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
            found = scrape(f"http://127.0.0.1:{port}/metrics")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert found['crosswind_notify_delivered_total{channel="webhook"}'] == 1.0
    assert rows(engine, "SELECT count(*) FROM outbox WHERE incident_id = 'inc9'") == [(0,)]
    assert there.ids("/ok/old") == []
