"""What Faust is known to do, each with a worker that would lose articles or hang if we fell into it."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from sqlalchemy import Engine

from crosswind.settings import Settings, load_settings
from crosswind.stream.adapters.kafka.embedded import free_port
from crosswind.stream.adapters.kafka.topics import ensure_topics
from tests.faults.stage import offsets
from tests.oracle import check, make_feed, send
from tests.processes import count, left, start_worker, wait_for

FEED = make_feed(600)
LOOKS = 8
"""Answers in a row, half a second apart. A worker looks every two seconds, and has no lag before it holds anything."""
RAISES = """
def raising(method, seen=[]):
    def wrapped(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise ZeroDivisionError("an error that nobody thought of")
        return method(*arguments)
    return wrapped
{what} = raising({what})
"""
FROZEN = """
from crosswind.stream import pipeline
async def put(self, event):
    await asyncio.Event().wait()
pipeline.Backlog.put = put
"""


def _log(folder: Path) -> str:
    return (folder / "worker.log").read_text("utf-8")


@pytest.mark.parametrize("what", ["OnnxScorer.score", "PostgresTrendStore.ingest"])
def test_an_exception_in_an_agent_ends_the_worker_and_loses_nothing(
    what: str, broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Faust acks the event of an agent that raised, and `take` acks in `finally`."""
    ensure_topics(Settings(), broker)
    sent = send(broker, Settings().raw_topic, FEED.rows)
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, pause=0.3, before=RAISES.format(what=what),
                          batch_size="32")  # fmt: skip
    try:
        assert worker.wait(60) == 70
    finally:
        worker.kill()
    assert "neither wait out nor dead-letter" in _log(tmp_path)
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
        wait_for(lambda: count(engine, "duplicate") == FEED.duplicates, 30, "every duplicate is named")
    finally:
        worker.terminate()
        assert left(worker) == 0
    check(engine, broker, Settings().dead_topic, FEED, sent, tiny_bundle)


def test_a_worker_that_is_up_but_consumes_nothing_ends_itself(
    broker: str, database_url: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    ensure_topics(Settings(), broker)
    for row in FEED.rows[:5]:  # one batch each: the embedded broker's ends are wrong by a batch
        send(broker, Settings().raw_topic, [row])
    port = free_port()
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, before=FROZEN, worker_port=str(port),
                          stuck_seconds="6")  # fmt: skip
    answers: set[int] = set()

    def ended() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answers.add(httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=1).status_code)
        return worker.poll() is not None

    wait_for(ended, 60, "the worker ends itself")
    assert worker.returncode == 70
    assert "the worker is stuck" in _log(tmp_path)
    assert 200 in answers, "it was live before"


def test_a_worker_that_is_done_stays(broker: str, database_url: str, engine: Engine, tiny_bundle: Path,
                                     tmp_path: Path) -> None:  # fmt: skip
    """No lag, or a lag that only the embedded broker's wrong ends make up, must not look stuck."""
    ensure_topics(Settings(), broker)
    send(broker, Settings().raw_topic, FEED.rows)
    port = free_port()
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, worker_port=str(port), stuck_seconds="4")
    wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
    time.sleep(8)  # twice as long as it takes to be stuck
    answer = httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5)
    assert (answer.status_code, worker.poll()) == (200, None), answer.text
    assert answer.json() == {"live": True, "lag": 0}
    worker.terminate()
    assert left(worker) == 0


def test_offsets_that_no_record_has_are_no_lag(
    kafka: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    """A transaction's marker takes an offset, and so did what the broker dropped: whoever waits for them is stuck."""
    topics = {f"{name}_topic": f"markers.{name}" for name in ("raw", "scored", "dead", "alerts")}
    settings = Settings(_env_file=None, partitions=1, **topics)  # type: ignore[arg-type]
    ensure_topics(settings, kafka, replication=1)
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id="markers")
    producer.init_transactions()
    producer.begin_transaction()
    for row in FEED.rows[:3]:
        producer.send(settings.raw_topic, value=row)
    producer.commit_transaction()
    producer.close()
    _done(kafka, database_url, tiny_bundle, tmp_path, settings, "markers-1", lambda: count(engine, "article") > 0)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_records({TopicPartition(topic, 0): -1 for topic in (settings.raw_topic, settings.scored_topic)})
    admin.close()
    _done(kafka, database_url, tiny_bundle, tmp_path, settings, "markers-2", lambda: True)


def _done(
    kafka: str, url: str, bundle: Path, folder: Path, settings: Settings, group: str, well: Callable[[], bool]
) -> None:
    """A worker of that group says by and by that nothing waits for it."""
    port = free_port()
    names = {name: str(value) for name, value in settings.model_dump(exclude_unset=True).items()}
    worker = start_worker(kafka, url, bundle, folder, worker_port=str(port), group=group, **names)
    said: dict[str, object] = {}

    def looked() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            ready = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).status_code == 200
            said.update(httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5).json() if ready and well() else {})
        looks.append(said.get("lag"))
        return looks[-LOOKS:] == [0] * LOOKS

    looks: list[object] = []
    try:
        wait_for(looked, 60, "no lag is left", every=0.5)
    finally:
        worker.terminate()
    assert left(worker) == 0


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.0, 3.5, 5.0])
def test_sigterm_while_it_starts(
    seconds: float, broker: str, database_url: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, before=(
        f"import pathlib, crosswind.stream.worker as w\n"
        f"signal.signal(signal.SIGTERM, w._leave); pathlib.Path({str(begun)!r}).touch()"
    ))  # fmt: skip
    wait_for(begun.exists, 60, "the worker begins")
    time.sleep(seconds)  # the moment is what is tried here
    os.kill(worker.pid, signal.SIGTERM)
    assert left(worker) == 0


def test_a_log_that_lost_its_end_is_read_all_the_same(
    kafka: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Faust drops records before the committed offset, and their chunks would block every commit behind them."""
    settings = load_settings({"raw_topic": "short.raw", "scored_topic": "short.scored", "dead_topic": "short.dead",
                              "alerts_topic": "short.alerts", "group": "short"})  # fmt: skip
    ensure_topics(settings, kafka)
    ahead = KafkaConsumer(bootstrap_servers=kafka, group_id=settings.group, enable_auto_commit=False)
    parts = [TopicPartition(settings.raw_topic, n) for n in ahead.partitions_for_topic(settings.raw_topic) or ()]
    ahead.assign(parts)
    ahead.commit({part: OffsetAndMetadata(10_000, "", -1) for part in parts})
    ahead.close()
    sent = send(kafka, settings.raw_topic, FEED.rows)
    names = ("raw_topic", "scored_topic", "dead_topic", "alerts_topic", "group")
    worker = start_worker(kafka, database_url, tiny_bundle, tmp_path, **{n: getattr(settings, n) for n in names})
    try:
        wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
        wait_for(lambda: _left(kafka, settings) == 0, 30, "what was read is committed")
    finally:
        worker.terminate()
        assert left(worker) == 0
    check(engine, kafka, settings.dead_topic, FEED, sent, tiny_bundle)


def _left(kafka: str, settings: Settings) -> int:
    """How far committed offsets of the raw topic are from its ends, either way."""
    committed, ends = offsets(kafka, (settings.raw_topic,), settings.group)
    return sum(abs(end - committed.get(part, 0)) for part, end in ends.items())


def test_a_worker_makes_its_data_folder(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Faust makes the last folder of its own only, and ends the worker where another is missing."""
    ensure_topics(Settings(), broker)
    send(broker, Settings().raw_topic, FEED.rows[:20])
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, data_dir=str(tmp_path / "not" / "there"))
    try:
        wait_for(lambda: count(engine, "article") > 0, 60, "articles are stored")
    finally:
        worker.terminate()
        assert left(worker) == 0
