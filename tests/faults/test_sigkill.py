"""A worker is killed in the middle of the feed, anywhere; after a restart every article counts exactly once."""

import signal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.topics import ensure_topics
from tests.oracle import check, make_feed, send
from tests.processes import count, start_worker, wait_for

FEED = make_feed(1500)


@pytest.mark.parametrize(
    "kill_at",
    ["before-publish:3", "after-publish:3", "before-commit:3", "after-commit:3", "before-ack:4"],
)
def test_killed_at(
    kill_at: str, broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    settings = Settings()
    ensure_topics(settings, broker)
    sent = send(broker, settings.raw_topic, FEED.rows)
    # a model slower than the commit interval: an ack before the publish would be committed by the time of the kill
    pause = 1.2 if "publish" in kill_at else 0.0
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, kill_at, pause=pause)
    assert worker.wait(60) == -signal.SIGKILL
    assert count(engine, "article") < FEED.articles, "it was killed too late to prove anything"
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
        wait_for(lambda: count(engine, "duplicate") == FEED.duplicates, 30, "every duplicate is named")
    finally:
        worker.terminate()
        assert worker.wait(10) == 0
    check(engine, broker, settings.dead_topic, FEED, sent, tiny_bundle)
