"""Real worker processes for tests, and waiting for what they do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, text

PATIENCE = float(os.environ.get("CROSSWIND_TEST_PATIENCE", "1"))
"""Deadlines are so many times longer: for a machine that is busy with something else."""

_WORKER = """
import asyncio, os, signal, time
from crosswind.settings import load_settings
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.worker import run_worker

point, after = os.environ.get("TEST_KILL_AT", ":0").split(":")
pause = float(os.environ.get("TEST_PAUSE", "0"))
seen = 0

async def checkpoint(name):
    global seen
    seen += name == point
    if name == point and seen > int(after):
        await asyncio.sleep(2.5)  # twice the commit interval: what was acked too early is committed by now
        os.kill(os.getpid(), signal.SIGKILL)

def slow(method):
    def wrapped(*arguments):
        time.sleep(pause)
        return method(*arguments)
    return wrapped

OnnxScorer.score, PostgresTrendStore.ingest = slow(OnnxScorer.score), slow(PostgresTrendStore.ingest)
exec(os.environ.get("TEST_BEFORE", ""))
raise SystemExit(run_worker(load_settings(), checkpoint))
"""


class Worker(subprocess.Popen[bytes]):
    """A worker's process, which knows where it writes."""

    log: Path


def start_worker(
    kafka: str,
    database_url: str,
    bundle: Path,
    folder: Path,
    kill_at: str = ":0",
    *,
    pause: float = 0.0,
    before: str = "",
    **settings: str,
) -> Worker:
    """A worker on these parts.

    Args:
        kill_at: `checkpoint:n`, where it SIGKILLs itself the n+1st time it comes by.
        pause: seconds that model and database take longer for each batch, outside the event loop. Offsets are committed
            every second: with a pause near that, an ack that came too early is committed before the work is done.
        before: Python that the process runs before it starts to work, to break something in it.
        settings: any of `Settings`, as text.
    """
    environment = {
        **os.environ,
        "CROSSWIND_KAFKA": kafka,
        "CROSSWIND_DATABASE_URL": database_url,
        "CROSSWIND_MODEL": str(bundle),
        "CROSSWIND_DATA_DIR": str(folder),
        "TEST_KILL_AT": kill_at,
        "TEST_PAUSE": str(pause),
        "TEST_BEFORE": before,
        **{f"CROSSWIND_{name.upper()}": value for name, value in settings.items()},
    }
    with (folder / "worker.log").open("ab") as log:
        worker = Worker([sys.executable, "-c", _WORKER], env=environment, stdout=log, stderr=log)
    worker.log = folder / "worker.log"
    return worker


def wait_for(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.1) -> None:
    """Polls until `condition` holds, `every` so many seconds; fails the test at the deadline."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)


def left(worker: Worker) -> int:
    """The exit status of a worker that was told to end: within ten seconds, as promised. What it said is printed, for
    the report of a test that fails."""
    status = worker.wait(10 * PATIENCE)
    print(worker.log.read_text("utf-8", "replace")[-4000:])
    return status


def count(engine: Engine, table: str) -> int:
    """Rows of a table."""
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def dump(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """Everything that trends are made of, in key order."""
    queries = {
        "article": "SELECT article_id, title, topic, sentiment, negative_ppm, published_at FROM article ORDER BY 1",
        "bucket": "SELECT minute, topic, lang, entity, articles, negative, positive, negative_ppm FROM bucket "
        "ORDER BY 1, 2, 3, 4",
    }
    with engine.connect() as connection:
        return {name: [tuple(row) for row in connection.execute(text(query))] for name, query in queries.items()}
