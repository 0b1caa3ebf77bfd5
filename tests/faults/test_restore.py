"""An older dump is restored: articles since then come back as docs/operations.md says, and not by themselves."""

import time
from pathlib import Path

import httpx
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata
from sqlalchemy import Engine, text

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.embedded import free_port
from crosswind.stream.adapters.kafka.topics import ensure_topics
from tests.oracle import check, make_feed, send
from tests.processes import count, left, start_worker, wait_for

pytestmark = pytest.mark.timeout(600)
FEED = make_feed(200)


def _settings() -> Settings:
    names = {f"{name}_topic": f"restore.{name}" for name in ("raw", "scored", "dead", "alerts")}
    return Settings(_env_file=None, group="restore", **names)  # type: ignore[arg-type]


def _work(kafka: str, database_url: str, bundle: Path, folder: Path, engine: Engine, articles: int, group: str) -> None:
    """A worker runs until so many articles are stored and nothing waits."""
    settings = _settings()
    topics = {name: getattr(settings, name) for name in ("raw_topic", "scored_topic", "dead_topic", "alerts_topic")}
    port = free_port()
    worker = start_worker(kafka, database_url, bundle, folder, group=group, worker_port=str(port), **topics)
    try:
        wait_for(lambda: _ready(port), 90, "the worker has its partitions")
        wait_for(lambda: count(engine, "article") == articles, 90, f"{articles} articles are stored")
        wait_for(lambda: _lag(kafka, group) == 0, 60, "nothing waits")
    finally:
        worker.terminate()
        assert left(worker) == 0


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _parts(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]


def _lag(kafka: str, group: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    parts = [part for topic in ("restore.raw", "restore.scored") for part in _parts(consumer, topic)]
    lag = sum(end - (consumer.committed(part) or 0) for part, end in consumer.end_offsets(parts).items())
    consumer.close()
    return int(lag)


def _set_back(kafka: str, group: str, topic: str, moment_ms: int) -> None:
    """What `kafka-consumer-groups --reset-offsets --to-datetime` does."""
    consumer = KafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    parts = _parts(consumer, topic)
    ends, found = consumer.end_offsets(parts), consumer.offsets_for_times(dict.fromkeys(parts, moment_ms))
    wanted = {part: found[part].offset if found[part] else ends[part] for part in parts}
    consumer.assign(parts)
    consumer.commit({part: OffsetAndMetadata(offset, "", -1) for part, offset in wanted.items()})
    consumer.close()


def _restore(engine: Engine) -> None:
    """A dump from before all articles."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE article, bucket, bucket_hour, duplicate, watermark CASCADE"))


def test_articles_since_a_dump_come_back(
    kafka: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    settings = _settings()
    ensure_topics(settings, kafka)
    before = time.time_ns() // 1_000_000 - 1000
    sent = send(kafka, settings.raw_topic, FEED.rows)

    def work(articles: int, group: str = settings.group) -> None:
        _work(kafka, database_url, tiny_bundle, tmp_path, engine, articles, group)

    work(FEED.articles)
    _restore(engine)
    work(0)  # the group is beyond them
    _set_back(kafka, settings.group, settings.scored_topic, before)
    work(FEED.articles)
    check(engine, kafka, settings.dead_topic, FEED, sent, tiny_bundle)
    _restore(engine)
    work(FEED.articles, "restore-anew")
    assert count(engine, "article") == FEED.articles
