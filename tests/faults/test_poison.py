"""Records that no feed of ours would write: none stops a worker, each ends as an article or as a dead letter."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from sqlalchemy import Engine, text

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.dead_letters import SHA256, SIZE
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE, ensure_topics
from crosswind.stream.domain.contract import encode_scored
from tests.builders import scored_article
from tests.oracle import Letter, dead_letters, records
from tests.processes import Worker, count, left, start_worker, wait_for

TOPICS = Settings()
YEARS = timedelta(days=4 * 365)


def article(number: int, published_at: datetime) -> bytes:
    row = {"source": "wire", "title": f"bank falls {number}", "published_at": published_at.isoformat(),
           "id": str(number), "lang": "en"}  # fmt: skip
    return json.dumps(row).encode()


def begin(broker: str, database_url: str, bundle: Path, folder: Path) -> Worker:
    ensure_topics(TOPICS, broker)
    return start_worker(broker, database_url, bundle, folder)


def end(worker: Worker) -> None:
    worker.terminate()
    assert left(worker) == 0


def by_reason(broker: str) -> dict[str, Letter]:
    return {letter.reason: letter for letter in dead_letters(broker, TOPICS.dead_topic)}


def test_times_that_cannot_be_neither_stop_a_worker_nor_condemn_what_they_stamp(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    worker = begin(broker, database_url, tiny_bundle, tmp_path)
    now = datetime.now(UTC)
    milliseconds = int(now.timestamp() * 1000)
    producer = KafkaProducer(bootstrap_servers=broker, acks="all")
    stamps = [milliseconds * 1000, milliseconds // 1000, -1, int((now + YEARS).timestamp() * 1000), milliseconds]
    for number, stamp in enumerate(stamps):
        producer.send(TOPICS.raw_topic, value=article(number, now), timestamp_ms=stamp).get(30)
    producer.send(TOPICS.raw_topic, value=article(9, now + YEARS), timestamp_ms=stamps[3]).get(30)
    producer.close()
    wait_for(lambda: count(engine, "article") == len(stamps), 60, "every article of today is stored")
    with engine.connect() as connection:
        seen = connection.execute(text("SELECT min(first_seen_at), max(first_seen_at) FROM article")).one()
    assert now - timedelta(seconds=1) < seen[0] <= seen[1] <= datetime.now(UTC)
    wait_for(lambda: set(by_reason(broker)) == {"in_the_future"}, 30, "the article of another year is refused")
    end(worker)


def test_a_record_too_large_for_its_own_dead_letter_is_named_by_size_and_digest(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    worker = begin(broker, database_url, tiny_bundle, tmp_path)
    packed = KafkaProducer(bootstrap_servers=broker, acks="all", compression_type="gzip", batch_size=1,
                           max_request_size=2 * MAX_MESSAGE)  # fmt: skip
    bomb, now = b'{"title": "' + b"a" * (MAX_MESSAGE + 2**20) + b'"}', datetime.now(UTC)
    for value in (article(1, now), bomb, article(2, now)):
        packed.send(TOPICS.raw_topic, key=b"k", value=value, partition=0).get(30)
    packed.close()
    wait_for(lambda: count(engine, "article") == 2, 60, "the articles on either side are stored")
    wait_for(lambda: len(records(broker, TOPICS.dead_topic)) == 1, 30, "the letter is there")
    (letter,) = records(broker, TOPICS.dead_topic)
    about = dict(letter.headers)
    assert (letter.value, about["crosswind.reason"]) == (None, b"too_large")
    assert (about[SIZE], about[SHA256]) == (str(len(bomb)).encode(), hashlib.sha256(bomb).hexdigest().encode())
    end(worker)


def test_scored_records_that_the_database_cannot_hold_are_dead_lettered(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    worker = begin(broker, database_url, tiny_bundle, tmp_path)
    good = [encode_scored(scored_article(n)) for n in (1, 2)]
    bad: list[dict[str, Any]] = [
        {"title": "a\0b"}, {"negative_ppm": 2**40}, {"origin_partition": 2**21}, {"origin_offset": 2**70},
        {"published_at": "0001-01-01T00:00:00+02:00"},
    ]  # fmt: skip
    poison = [json.dumps({**json.loads(good[0]), "article_id": f"bad-{n}", **change}).encode()
              for n, change in enumerate(bad)]  # fmt: skip
    producer = KafkaProducer(bootstrap_servers=broker, acks="all")
    for value in (good[0], *poison, good[1]):
        producer.send(TOPICS.scored_topic, value=value, partition=0).get(30)
    producer.close()
    wait_for(lambda: count(engine, "article") == 2, 60, "the articles on either side are stored")
    letters = dead_letters(broker, TOPICS.dead_topic)
    assert {letter.value for letter in letters} == set(poison)
    assert {letter.reason for letter in letters} == {"bad_field"}
    end(worker)
