"""A Kafka topic as the source of a replay: it ends, also while it is written, and gives what was asked for."""

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from crosswind.errors import BrokerError
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.topic import Stretch, open_topic

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ROWS, MANY = 20, 600
END = T0 + timedelta(minutes=ROWS)
_names = itertools.count(1)


@pytest.fixture(params=["broker", "kafka"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def topic(address: str) -> str:
    """A topic of the test's own; of its three partitions the last one stays empty."""
    name = f"news-{next(_names)}"
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic(name, 3, 1)])
    admin.close()
    return name


@pytest.fixture
def write(address: str, topic: str) -> Iterator[Callable[..., None]]:
    """Appends articles T`first`, T`first + 1`, …, a minute apart, to two partitions."""
    producer = KafkaProducer(bootstrap_servers=address, linger_ms=20)

    def append(first: int, end: int, step: timedelta = timedelta(minutes=1)) -> None:
        for number in range(first, end):
            at = T0 + step * number
            news = {"source": "s", "id": str(number), "title": f"T{number}", "published_at": at.isoformat()}
            stamp = int(at.timestamp() * 1000)
            producer.send(topic, json.dumps(news).encode(), partition=number % 2, timestamp_ms=stamp)
        producer.flush()

    yield append
    producer.close()


def _numbers(address: str, topic: str, stretch: Stretch, **options: Any) -> list[int]:
    source = open_topic(address, topic, stretch, Filter(), Judge(Unscored), options=options)
    return sorted(int(title[1:]) for table in source.tables for title in table["title"].to_pylist())


@pytest.mark.parametrize("stretch", [Stretch(), Stretch(until=END), Stretch(end_offset=10**9)], ids=str)
def test_a_topic_that_is_written_on_ends_where_it_stood(
    address: str, topic: str, write: Callable[..., None], stretch: Stretch
) -> None:
    write(0, ROWS)
    more = iter(range(ROWS, MANY))

    def answer(value: bytes) -> bytes:
        """Each record that is read is the cause of another one; all of them are of the stretch."""
        for number in itertools.islice(more, 1):
            write(number, number + 1, timedelta(milliseconds=1))
        return value

    found = _numbers(address, topic, stretch, value_deserializer=answer)
    assert found[:ROWS] == list(range(ROWS))
    assert len(found) < MANY // 2


@pytest.mark.parametrize(
    ("stretch", "expected"),
    [
        (Stretch(), range(ROWS)),
        (Stretch(since=T0 + timedelta(minutes=15)), range(15, ROWS)),
        (Stretch(until=T0 + timedelta(minutes=5)), range(5)),
        (Stretch(T0 + timedelta(minutes=5), T0 + timedelta(minutes=7)), range(5, 7)),
        (Stretch(since=END), range(0)),
        (Stretch(first_offset=7), range(14, ROWS)),
        (Stretch(end_offset=3), range(6)),
        (Stretch(first_offset=3, end_offset=5), range(6, 10)),
        (Stretch(first_offset=5000), range(0)),
    ],
    ids=str,
)
def test_only_the_stretch_is_replayed(
    address: str, topic: str, write: Callable[..., None], stretch: Stretch, expected: range
) -> None:
    write(0, ROWS)
    assert _numbers(address, topic, stretch) == list(expected)


def test_a_pause_is_no_end_and_an_odd_time_is_none(
    address: str, topic: str, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker answers without a record for a while, in the middle; and a producer stamps records in seconds."""
    write(0, ROWS)
    producer = KafkaProducer(bootstrap_servers=address)
    news = {"source": "s", "id": "odd", "title": "T99", "published_at": T0.isoformat()}
    producer.send(topic, json.dumps(news).encode(), partition=0, timestamp_ms=int(T0.timestamp()))
    producer.close()
    poll, calls = KafkaConsumer.poll, itertools.count()

    def slow(self: Any, timeout_ms: int = 0, max_records: int | None = None) -> Any:
        return {} if next(calls) in (1, 2, 3, 4) else poll(self, timeout_ms, 3)

    monkeypatch.setattr(KafkaConsumer, "poll", slow)
    source = open_topic(address, topic, Stretch(), Filter(), Judge(Unscored))
    rows = [row for table in source.tables for row in table.to_pylist()]
    assert sorted(int(row["title"][1:]) for row in rows) == [*range(ROWS), 99]
    assert next(row["first_seen_at"] for row in rows if row["title"] == "T99") == T0


def test_a_broker_that_answers_no_more_is_told(
    address: str, topic: str, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(0, ROWS)
    poll, calls = KafkaConsumer.poll, itertools.count()
    monkeypatch.setattr(KafkaConsumer, "poll", lambda self, ms, max_records: {} if next(calls) else poll(self, ms, 1))
    with pytest.raises(BrokerError, match="3 partitions could not be read"):
        list(open_topic(address, topic, Stretch(), Filter(), Judge(Unscored), silence=0.2).tables)
