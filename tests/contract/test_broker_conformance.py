"""What Crosswind asks of a broker, asked of both: the embedded one and Apache Kafka. Known gaps are held by name.

A gap is a question that Apache Kafka answers and the embedded broker does not. When one closes, its test fails: then
take it from `GAPS`, and from DESIGN.md.
"""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError as AioKafkaError
from kafka import KafkaAdminClient, KafkaConsumer
from kafka import TopicPartition as AdminPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from tests import kafka_server

SESSION_MS = 3000
WAIT = 15.0


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = EmbeddedBroker(tmp_path_factory.mktemp("embedded") / "broker.log")
    yield broker.start()
    broker.stop()


@pytest.fixture(params=["embedded", "kafka"])
def any_broker(request: pytest.FixtureRequest) -> str:
    """The address of the embedded broker, then of Apache Kafka."""
    return str(request.getfixturevalue(request.param))


def make_topic(address: str, partitions: int = 1, **configs: str) -> str:
    """A new topic with a name of its own."""
    name = f"conformance-{uuid.uuid4().hex[:8]}"
    settings = {name.replace("_", "."): value for name, value in configs.items()}
    admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=10_000)
    try:
        admin.create_topics([NewTopic(name, partitions, -1, topic_configs=settings)])
    finally:
        admin.close()
    return name


async def produce(address: str, topic: str, values: list[Any], **options: Any) -> list[Any]:
    """Sends values (bytes, or a dict of `send`'s arguments) in order; returns the broker's confirmations."""
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all", **options) as producer:
        rows = [value if isinstance(value, dict) else {"value": value, "partition": 0} for value in values]
        return [await pending for pending in [await producer.send(topic, **row) for row in rows]]


async def consume(address: str, topic: str, number: int, **options: Any) -> list[Any]:
    """The first `number` records; fails when they do not come."""
    given = {"auto_offset_reset": "earliest", "max_partition_fetch_bytes": MAX_MESSAGE,
             "session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": SESSION_MS // 4, **options}  # fmt: skip
    found: list[Any] = []
    async with AIOKafkaConsumer(topic, bootstrap_servers=address, **given) as consumer:
        async with asyncio.timeout(WAIT):
            while len(found) < number:
                for records in (await consumer.getmany(timeout_ms=500, max_records=number - len(found))).values():
                    found += records
        if options.get("group_id"):
            await consumer.commit()
    return found


def test_order_per_partition(any_broker: str) -> None:
    topic = make_topic(any_broker, 2)
    rows = [{"value": b"%d" % n, "partition": n % 2} for n in range(300)]

    async def run() -> list[Any]:
        await produce(any_broker, topic, rows)
        return await consume(any_broker, topic, len(rows))

    found = asyncio.run(run())
    for partition in (0, 1):
        values = [int(record.value) for record in found if record.partition == partition]
        assert values == list(range(partition, 300, 2))
        assert [r.offset for r in found if r.partition == partition] == list(range(150))


def test_keys_headers_nulls_and_times_come_back(any_broker: str) -> None:
    topic = make_topic(any_broker)
    rows: list[dict[str, Any]] = [
        {"key": b"k", "value": b"v", "headers": [("crosswind.reason", b"bad_json"), ("x", b"\xff\x00")]},
        {"key": None, "value": "新闻".encode()},
        {"key": b"tombstone", "value": None},
        {"key": b"", "value": b""},
    ]

    async def run() -> list[Any]:
        await produce(any_broker, topic, [{**row, "timestamp_ms": 1_772_409_600_000} for row in rows])
        return await consume(any_broker, topic, len(rows))

    found = asyncio.run(run())
    assert [(record.key, record.value) for record in found] == [(row["key"], row["value"]) for row in rows]
    assert [list(record.headers) for record in found] == [row.get("headers", []) for row in rows]
    assert {record.timestamp for record in found} == {1_772_409_600_000}


def test_a_message_of_two_mebibytes(any_broker: str) -> None:
    topic = make_topic(any_broker, max_message_bytes=str(MAX_MESSAGE))
    value = bytes(range(256)) * (2 * 2**20 // 256)

    async def run() -> list[Any]:
        await produce(any_broker, topic, [value, b"next"], max_request_size=MAX_MESSAGE)
        return await consume(any_broker, topic, 2)

    assert [record.value for record in asyncio.run(run())] == [value, b"next"]


def test_committed_offsets_survive_a_consumer_s_restart(any_broker: str) -> None:
    topic, group = make_topic(any_broker), f"group-{uuid.uuid4().hex[:8]}"

    async def run() -> tuple[list[Any], list[Any]]:
        await produce(any_broker, topic, [b"%d" % n for n in range(10)])
        first = await consume(any_broker, topic, 4, group_id=group, enable_auto_commit=False)
        return first, await consume(any_broker, topic, 6, group_id=group, enable_auto_commit=False)

    first, second = asyncio.run(run())
    assert [record.offset for record in first] == [0, 1, 2, 3]
    assert [record.offset for record in second] == [4, 5, 6, 7, 8, 9]


def test_earliest_reads_what_was_there_latest_only_what_comes(any_broker: str) -> None:
    topic = make_topic(any_broker)

    async def run() -> tuple[list[Any], list[Any]]:
        for n in range(3):  # one batch each: see the gap `end_offsets`
            await produce(any_broker, topic, [b"old-%d" % n])
        old = await consume(any_broker, topic, 3)
        reader = AIOKafkaConsumer(topic, bootstrap_servers=any_broker, auto_offset_reset="latest")
        async with reader as consumer, asyncio.timeout(WAIT):
            await consumer.position(TopicPartition(topic, 0))
            await produce(any_broker, topic, [b"new"])
            return old, [await consumer.getone()]

    old, new = asyncio.run(run())
    assert [record.value for record in old] == [b"old-0", b"old-1", b"old-2"]
    assert [record.value for record in new] == [b"new"]


def test_a_topic_is_made_once_with_its_partitions(any_broker: str) -> None:
    topic = make_topic(any_broker, 5)
    admin = KafkaAdminClient(bootstrap_servers=any_broker, request_timeout_ms=10_000)
    consumer = KafkaConsumer(bootstrap_servers=any_broker, group_id=None)
    try:
        assert topic in admin.list_topics()
        assert consumer.partitions_for_topic(topic) == set(range(5))
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topics([NewTopic(topic, 5, -1)])
    finally:
        consumer.close()
        admin.close()


def test_two_members_of_a_group_share_its_partitions(any_broker: str) -> None:
    asyncio.run(_share(any_broker, make_topic(any_broker, 2)))


async def _share(address: str, topic: str) -> None:
    group = f"group-{uuid.uuid4().hex[:8]}"
    options = {"bootstrap_servers": address, "group_id": group, "session_timeout_ms": SESSION_MS,
               "heartbeat_interval_ms": SESSION_MS // 4, "auto_offset_reset": "earliest"}  # fmt: skip
    async with AIOKafkaConsumer(topic, **options) as one, AIOKafkaConsumer(topic, **options) as two:
        async with asyncio.timeout(WAIT):
            while not (len(one.assignment()) == len(two.assignment()) == 1):
                await asyncio.gather(one.getmany(timeout_ms=100), two.getmany(timeout_ms=100))
        assert one.assignment() | two.assignment() == {TopicPartition(topic, 0), TopicPartition(topic, 1)}
        await produce(address, topic, [{"value": b"%d" % n, "partition": n % 2} for n in range(20)])
        found: list[Any] = []
        async with asyncio.timeout(WAIT):
            while len(found) < 20:
                for batch in await asyncio.gather(one.getmany(timeout_ms=100), two.getmany(timeout_ms=100)):
                    found += [record.value for records in batch.values() for record in records]
    assert sorted(map(int, found)) == list(range(20))


async def end_offsets(address: str) -> None:
    """The end of a partition is one past its last record, also after a batch of several."""
    topic = make_topic(address)
    await produce(address, topic, [b"%d" % n for n in range(10)], linger_ms=200)
    async with AIOKafkaConsumer(bootstrap_servers=address) as consumer:
        found = await consumer.end_offsets([TopicPartition(topic, 0)])
    assert found == {TopicPartition(topic, 0): 10}


async def create_partitions(address: str) -> None:
    """A topic can be given more partitions."""
    topic = make_topic(address, 1)

    def grow() -> set[int] | None:
        admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
        consumer = KafkaConsumer(bootstrap_servers=address, group_id=None)
        try:
            admin.create_partitions({topic: 3})
            found: set[int] | None = consumer.partitions_for_topic(topic)
            return found
        finally:
            consumer.close()
            admin.close()

    assert await asyncio.to_thread(grow) == {0, 1, 2}


async def delete_records(address: str) -> None:
    """The head of a partition can be cut off."""
    topic = make_topic(address)
    await produce(address, topic, [b"%d" % n for n in range(10)])

    def cut() -> None:
        admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
        try:
            admin.delete_records({AdminPartition(topic, 0): 6})
        finally:
            admin.close()

    await asyncio.to_thread(cut)
    found = await consume(address, topic, 4)
    assert [record.offset for record in found] == [6, 7, 8, 9]


async def idempotent_producer(address: str) -> None:
    """aiokafka's idempotent producer gets its id and sends."""
    topic = make_topic(address)
    async with asyncio.timeout(8):
        await produce(address, topic, [b"once"], enable_idempotence=True, request_timeout_ms=3000)


async def topic_configs(address: str) -> None:
    """A topic's configuration can be read back."""
    topic = make_topic(address, retention_ms="-1", max_message_bytes=str(MAX_MESSAGE))

    def read() -> str:
        admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
        try:
            return str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        finally:
            admin.close()

    found = await asyncio.to_thread(read)
    assert str(MAX_MESSAGE) in found


async def own_time(address: str) -> None:
    """A topic can have the broker's time on its records, not the producer's."""
    topic = make_topic(address, message_timestamp_type="LogAppendTime")
    await produce(address, topic, [{"value": b"v", "timestamp_ms": 1_772_409_600_000}])
    (found,) = await consume(address, topic, 1)
    assert found.timestamp > 1_772_409_600_000


GAPS: list[Callable[[str], Awaitable[None]]] = [
    end_offsets, create_partitions, delete_records, idempotent_producer, topic_configs, own_time,
]  # fmt: skip
"""Questions that Apache Kafka answers and the embedded broker does not."""


@pytest.mark.parametrize("question", GAPS, ids=lambda gap: gap.__name__)
def test_apache_kafka_has_no_such_gap(kafka: str, question: Callable[[str], Any]) -> None:
    asyncio.run(question(kafka))


@pytest.mark.parametrize("question", GAPS, ids=lambda gap: gap.__name__)
def test_the_embedded_broker_still_has_this_gap(embedded: str, question: Callable[[str], Any]) -> None:
    with pytest.raises((AssertionError, KafkaError, AioKafkaError, TimeoutError)):
        asyncio.run(question(embedded))


def test_the_tests_run_on_the_version_that_users_run() -> None:
    compose = (Path(__file__).parents[2] / "docker-compose.yml").read_text("utf-8")
    assert re.findall(r"image: apache/kafka:(\S+)", compose) == [kafka_server.version()]
