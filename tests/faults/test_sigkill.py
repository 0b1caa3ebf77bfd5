"""A worker is killed at every named point; its committed offsets keep the contract, and nothing is lost or doubled."""

import signal
from pathlib import Path

import pytest
from kafka import TopicPartition
from sqlalchemy import Engine

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import decode_scored
from tests.faults.stage import offsets
from tests.oracle import check, dead_letters, make_feed, origins, records, send
from tests.processes import count, left, start_worker, wait_for

FEED = make_feed(1500)
POINTS = ("before-publish", "after-publish", "before-ack-raw", "before-commit", "after-commit", "before-ack-scored")
RAW, SCORED, DEAD = Settings().raw_topic, Settings().scored_topic, Settings().dead_topic


@pytest.fixture
def killed(
    request: pytest.FixtureRequest, broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> list[Origin]:
    """A worker that was killed at the parametrized point, in the middle of the feed; where the feed's rows lie."""
    ensure_topics(Settings(), broker)
    sent = send(broker, RAW, FEED.rows)
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, f"{request.param}:3", pause=0.3, batch_size="64")
    try:
        assert worker.wait(60) == -signal.SIGKILL
    finally:
        worker.kill()
    assert count(engine, "article") < FEED.articles, "it was killed too late to prove anything"
    return sent


@pytest.mark.parametrize("killed", POINTS, indirect=True)
def test_killed_at(
    killed: list[Origin], broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    _check_offsets(broker, engine, killed, request.node.callspec.params["killed"])
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
        wait_for(lambda: count(engine, "duplicate") == FEED.duplicates, 30, "every duplicate is named")
    finally:
        worker.terminate()
        assert left(worker) == 0
    check(engine, broker, DEAD, FEED, killed, tiny_bundle)


def _check_offsets(broker: str, engine: Engine, sent: list[Origin], point: str) -> None:
    """What is committed is durable; and the batch in hand, at whatever point it is, is not committed."""
    committed, _ = offsets(broker, (RAW, SCORED), Settings().group)
    published = {letter.origin for letter in dead_letters(broker, DEAD)}
    stored = {*origins(engine, "article"), *origins(engine, "duplicate")}
    done: dict[str, set[bool]] = {RAW: set(), SCORED: set()}
    for record in records(broker, SCORED):
        origin = decode_scored(record.value).article.origin
        published.add(origin)
        if record.offset < committed.get(TopicPartition(SCORED, record.partition), 0):
            assert origin in stored, f"{SCORED}-{record.partition}:{record.offset} is committed, not stored"
        elif origin in stored:
            done[SCORED].add(True)
    for origin in sent:
        if origin.offset < committed.get(TopicPartition(RAW, origin.partition), 0):
            assert origin in published, f"{origin} is committed, not published"
        elif origin in published:
            done[RAW].add(True)
    if point in ("after-publish", "before-ack-raw"):
        assert done[RAW], "the batch was acked before this point"
    if point in ("after-commit", "before-ack-scored"):
        assert done[SCORED], "the batch was acked before this point"
