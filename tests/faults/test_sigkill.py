"""A worker is killed in the middle of the feed, anywhere; after a restart every article counts exactly once."""

import json
import random
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from sqlalchemy import Engine

from crosswind.errors import ContractError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE, ensure_topics
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.bucket import fold
from crosswind.stream.domain.validate import Limits
from crosswind.stream.service.scoring import Message, judge
from tests.processes import count, dump, start_worker, wait_for

ARTICLES, DUPLICATES = 1500, 75
POISON: list[bytes | None] = [
    None,
    b"\xff\xfe",
    b"{",
    b"{}",
    json.dumps({"source": "a", "title": "b", "published_at": "3000-01-01T00:00:00Z"}).encode(),
    json.dumps({"source": "a", "title": "b", "published_at": "2026-03-02T00:00:00Z", "body": "x" * 2**21}).encode(),
]


def _feed() -> list[bytes | None]:
    rng = random.Random(7)
    start = datetime(2026, 3, 2, tzinfo=UTC)
    rows: list[bytes | None] = []
    for number in range(ARTICLES):
        words = f"{rng.choice(['profit', 'bank', 'oil'])} {rng.choice(['rises', 'falls', 'fails', 'stays'])} {number}"
        moment = start + timedelta(seconds=number * 20 + rng.randint(-90, 90))
        entities = rng.choice([[], ["Acme"], ["Acme", "Bolt"]])
        row = {"source": f"s{number % 9}", "title": words, "published_at": moment.isoformat(), "id": str(number),
               "lang": rng.choice(["en", "de"]), "entities": entities}  # fmt: skip
        rows.append(json.dumps(row).encode())
    rows += rng.sample(rows, DUPLICATES)
    rows += POISON
    rng.shuffle(rows)
    return rows


def _oracle(rows: list[bytes | None], bundle: Path) -> dict[tuple[object, ...], tuple[int, ...]]:
    """A pure fold over the input: what the buckets must hold, whatever happened on the way."""
    scorer = OnnxScorer(bundle)
    now = datetime.now(UTC)
    messages = [Message(Origin("oracle", 0, n), now, None, row) for n, row in enumerate(rows)]
    judged = judge(messages, scorer=scorer, detect=lambda text: "und", limits=Limits(2**20, timedelta(hours=1)))
    scorer.close()
    once = {scored.article.article_id: scored for scored in judged.scored}
    assert len(once) == ARTICLES
    assert all(isinstance(letter.error, ContractError) for letter in judged.dead)
    return {
        (key.minute, key.topic, key.lang, key.entity): (
            tally.articles, tally.negative, tally.positive, tally.negative_ppm,
        )
        for key, tally in fold(once.values()).items()
    }  # fmt: skip


def _send(kafka: str, rows: list[bytes | None]) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, max_request_size=MAX_MESSAGE, acks="all")
    for number, row in enumerate(rows):
        producer.send("news.raw", key=str(number).encode(), value=row)
    producer.flush()
    producer.close()


def _dead_letters(kafka: str) -> Iterator[tuple[str, bytes | None]]:
    consumer = KafkaConsumer(
        "news.dead", bootstrap_servers=kafka, auto_offset_reset="earliest", consumer_timeout_ms=3000,
        fetch_max_bytes=4 * MAX_MESSAGE, max_partition_fetch_bytes=MAX_MESSAGE,
    )  # fmt: skip
    for record in consumer:
        yield dict(record.headers)["crosswind.reason"].decode(), record.value
    consumer.close()


def _buckets(engine: Engine) -> dict[tuple[object, ...], tuple[object, ...]]:
    return {row[:4]: row[4:] for row in dump(engine)["bucket"]}


@pytest.mark.parametrize(
    "kill_at",
    ["before-publish:3", "after-publish:3", "before-commit:3", "after-commit:3", "before-ack:4"],
)
def test_killed_at(
    kill_at: str, broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    rows = _feed()
    ensure_topics(Settings(), broker)
    _send(broker, rows)
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path, kill_at)
    assert worker.wait(60) == -signal.SIGKILL
    killed_with = count(engine, "article")
    assert killed_with < ARTICLES, "it was killed too late to prove anything"
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: count(engine, "article") == ARTICLES, 60, "every article is stored")
        wait_for(lambda: count(engine, "duplicate") == DUPLICATES, 30, "every duplicate is named")
    finally:
        worker.terminate()
        assert worker.wait(10) == 0
    assert _buckets(engine) == _oracle(rows, tiny_bundle)
    dead = set(_dead_letters(broker))
    assert dead == {
        ("null_value", None), ("bad_utf8", POISON[1]), ("bad_json", POISON[2]), ("missing_field", POISON[3]),
        ("in_the_future", POISON[4]), ("too_large", POISON[5]),
    }  # fmt: skip
