"""What must come out of a feed, whatever happens on the way: a pure fold over its rows, and the account of every input.

Used by every fault test: `make_feed` → `send` → (faults) → `check`.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import Engine, text

from crosswind.errors import ContractError
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.bucket import fold
from crosswind.stream.domain.validate import Limits
from crosswind.stream.service.scoring import Message, judge
from tests.processes import count, dump

Row = bytes | None
Buckets = dict[tuple[object, ...], tuple[object, ...]]
START = datetime(2026, 3, 2, tzinfo=UTC)
_VALID = {"source": "a", "title": "b", "published_at": "2026-03-02T00:00:00Z"}
POISON: dict[str, Row] = {
    "null_value": None,
    "bad_utf8": b"\xff\xfe",
    "bad_json": b"{",
    "missing_field": b"{}",
    "in_the_future": json.dumps({**_VALID, "published_at": "3000-01-01T00:00:00Z"}).encode(),
    "too_old": json.dumps({**_VALID, "published_at": "1969-12-31T23:59:59Z"}).encode(),
    "empty_text": json.dumps({**_VALID, "title": " \u202e\u0000 "}).encode(),
    "bad_field": json.dumps({**_VALID, "published_at": "yesterday"}).encode(),
    "unknown_version": json.dumps({**_VALID, "v": 9}).encode(),
    "too_large": json.dumps({**_VALID, "body": "x" * 2**21}).encode(),
}
"""Reason -> a row that must end in `news.dead` for it."""


@dataclass(frozen=True)
class Feed:
    """Rows of `news.raw`: distinct articles, exact duplicates of some of them, and poison, shuffled."""

    rows: tuple[Row, ...]
    articles: int
    duplicates: int


def make_feed(articles: int, *, duplicates: float = 0.05, late: float = 0.05, seed: int = 7) -> Feed:
    """A feed that is the same for the same arguments; `duplicates` and `late` are shares of the articles."""
    rng = random.Random(seed)
    rows: list[Row] = [_row(number, rng, late) for number in range(articles)]
    copies = round(articles * duplicates)
    rows += rng.sample(rows, copies)
    rows += POISON.values()
    rng.shuffle(rows)
    return Feed(tuple(rows), articles, copies)


def _row(number: int, rng: random.Random, late: float) -> bytes:
    words = f"{rng.choice(['profit', 'bank', 'oil'])} {rng.choice(['rises', 'falls', 'fails', 'stays'])} {number}"
    moment = START + timedelta(seconds=number * 20 + rng.randint(-90, 90))
    if rng.random() < late:
        moment -= timedelta(hours=rng.randint(1, 6))
    row = {"source": f"s{number % 9}", "title": words, "published_at": moment.isoformat(), "id": str(number),
           "lang": rng.choice(["en", "de"]), "entities": rng.choice([[], ["Acme"], ["Acme", "Bolt"]])}  # fmt: skip
    return json.dumps(row).encode()


def expected(feed: Feed, bundle: Path) -> Buckets:
    """What the buckets must hold: every article once, by the same validation and model."""
    scorer = OnnxScorer(bundle)
    now = datetime.now(UTC)
    messages = [Message(Origin("oracle", 0, n), now, None, row) for n, row in enumerate(feed.rows)]
    judged = judge(messages, scorer=scorer, detect=lambda text: "und", limits=Limits(2**20, timedelta(hours=1)))
    scorer.close()
    once = {scored.article.article_id: scored for scored in judged.scored}
    assert len(once) == feed.articles
    assert Counter(letter.error.reason.value for letter in judged.dead) == Counter(POISON.keys())
    assert all(isinstance(letter.error, ContractError) for letter in judged.dead)
    return {
        (key.minute, key.topic, key.lang, key.entity): (
            tally.articles, tally.negative, tally.positive, tally.negative_ppm,
        )
        for key, tally in fold(once.values()).items()
    }  # fmt: skip


def buckets(engine: Engine) -> Buckets:
    """What the database's buckets hold."""
    return {row[:4]: row[4:] for row in dump(engine)["bucket"]}


def send(kafka: str, topic: str, rows: Sequence[Row], first: int = 0) -> list[Origin]:
    """Produces the rows, numbered from `first`, spread over the partitions; returns where each one lies."""
    producer = KafkaProducer(bootstrap_servers=kafka, max_request_size=MAX_MESSAGE, acks="all")
    sent = [producer.send(topic, key=str(number).encode(), value=row) for number, row in enumerate(rows, first)]
    producer.flush()
    found = [future.get(30) for future in sent]
    producer.close()
    return [Origin(meta.topic, meta.partition, meta.offset) for meta in found]


@dataclass(frozen=True)
class Letter:
    """A dead letter: why, which bytes, and which input it was."""

    reason: str
    value: Row
    origin: Origin


def dead_letters(kafka: str, topic: str, silence_ms: int | None = 2000) -> list[Letter]:
    """Everything in the dead-letter topic; `silence_ms` as in `records`."""
    letters = []
    for record in records(kafka, topic, silence_ms):
        found = {name: value.decode() for name, value in record.headers}
        origin = Origin(found["__connect.errors.topic"], int(found["__connect.errors.partition"]),
                        int(found["__connect.errors.offset"]))  # fmt: skip
        letters.append(Letter(found["crosswind.reason"], record.value, origin))
    return letters


def records(kafka: str, topic: str, silence_ms: int | None = 2000) -> list[Any]:
    """Everything in a topic.

    Args:
        silence_ms: it has ended when nothing came for so long: the embedded broker's ends are wrong. None: up to the
            ends that the broker names.
    """
    consumer = KafkaConsumer(bootstrap_servers=kafka, group_id=None, consumer_timeout_ms=silence_ms or 15_000,
                             fetch_max_bytes=4 * MAX_MESSAGE, max_partition_fetch_bytes=MAX_MESSAGE)  # fmt: skip
    parts = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = dict(consumer.end_offsets(parts)) if silence_ms is None else None
    found = list(consumer) if ends is None else list(_up_to(ends, consumer))
    consumer.close()
    assert ends is None or len(found) == sum(ends.values()), f"read {len(found)} of {ends} records of {topic}"
    return found


def _up_to(ends: dict[TopicPartition, int], consumer: KafkaConsumer) -> Iterator[Any]:
    """Each partition's records before its end; what workers write meanwhile to one must not stand in for another's."""
    left = {part for part, end in ends.items() if end}
    for record in consumer if left else ():
        part = TopicPartition(record.topic, record.partition)
        if record.offset < ends[part]:
            yield record
        if record.offset + 1 >= ends[part]:
            left.discard(part)
        if not left:
            return


def origins(engine: Engine, table: str) -> list[Origin]:
    """The inputs that a table (`article` or `duplicate`) names."""
    query = text(f"SELECT origin_topic, origin_partition, origin_offset FROM {table}")
    with engine.connect() as connection:
        return [Origin(*row) for row in connection.execute(query)]


def check(engine: Engine, kafka: str, dead_topic: str, feed: Feed, sent: Sequence[Origin], bundle: Path) -> None:
    """Every count and sum is the oracle's, and every input is an article, a named duplicate or a dead letter."""
    found, wanted = buckets(engine), expected(feed, bundle)
    differing = {key: (found.get(key), wanted.get(key)) for key in found.keys() | wanted.keys()
                 if found.get(key) != wanted.get(key)}  # fmt: skip
    counts = {table: count(engine, table) for table in ("article", "duplicate", "article_version")}
    assert not differing, (f"{len(differing)} buckets are (found, wanted): {dict(list(differing.items())[:2])}; "
                           f"{counts} of {feed.articles} and {feed.duplicates}, "
                           f"{Counter(letter.reason for letter in dead_letters(kafka, dead_topic))}")  # fmt: skip
    assert (count(engine, "article"), count(engine, "duplicate")) == (feed.articles, feed.duplicates)
    assert count(engine, "article_version WHERE version > 1") == 0, "a copy was taken for an edit"
    poison = {origin: row for origin, row in zip(sent, feed.rows, strict=True) if row in POISON.values()}
    stored, named = origins(engine, "article"), origins(engine, "duplicate")
    assert Counter(stored + named) == Counter(set(sent) - poison.keys())
    letters = dead_letters(kafka, dead_topic)
    assert {letter.origin: letter.value for letter in letters} == poison
    assert {(letter.reason, letter.value) for letter in letters} == set(POISON.items())
