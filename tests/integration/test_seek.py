"""Where a worker reads on after a rebalance took back what it had read: Apache Kafka, members of a real group."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.consumer.subscription_state import TopicPartitionState
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from crosswind.stream.adapters.kafka.chunks import ChunkConsumer, ChunkConsumerThread
from tests.processes import PATIENCE

RECORDS = 10
SECONDS = 60 * PATIENCE


def _topic(kafka: str, partitions: int) -> str:
    """A topic of its own with `RECORDS` records in each partition."""
    name = f"seek-{uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(name, partitions, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    for partition in range(partitions):
        for number in range(RECORDS):
            producer.send(name, value=b"%d" % number, partition=partition)
    producer.flush()
    producer.close()
    return name


async def _member(kafka: str, topic: str) -> AIOKafkaConsumer:
    """A member of the topic's group, set up as Faust sets up a worker's."""
    member = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=topic, enable_auto_commit=False, auto_offset_reset="earliest",
        session_timeout_ms=6000, heartbeat_interval_ms=500,
    )  # fmt: skip
    await member.start()
    return member


async def _take(member: AIOKafkaConsumer, wanted: int) -> dict[TopicPartition, list[int]]:
    """The offsets of the next `wanted` records; they count as read, and nothing is committed."""
    found: dict[TopicPartition, list[int]] = {}
    while sum(map(len, found.values())) < wanted:
        for part, records in (await member.getmany(timeout_ms=500)).items():
            found.setdefault(part, []).extend(record.offset for record in records)
    return found


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


async def _seek(member: AIOKafkaConsumer) -> dict[Any, int]:
    """What a worker does at the end of every rebalance: the seek of our consumer thread, on this thread."""

    async def call(method: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        return await method(*arguments)

    thread = ChunkConsumerThread.__new__(ChunkConsumerThread)  # without Faust's app and a thread
    thread.__dict__.update(_consumer=member, call_thread=call)
    return dict(await thread.seek_to_committed())


def _run(scene: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SECONDS):
            await scene

    asyncio.run(limited())


def test_what_was_taken_before_a_first_commit_and_given_up_in_a_rebalance_is_read_again(kafka: str) -> None:
    topic = _topic(kafka, 2)

    async def scene() -> None:
        member = await _member(kafka, topic)
        await _take(member, 2 * RECORDS)
        other = await _member(kafka, topic)  # a rebalance: each holds one partition now
        try:
            await _until(lambda: len(member.assignment()) == len(other.assignment()) == 1)
            (part,) = member.assignment()
            dropped = await _take(member, RECORDS)  # came before the worker was ready: it drops that, and seeks
            assert await member.position(part) == RECORDS
            assert await _seek(member) == {part: None}, "nothing is committed"
            assert await member.position(part) == 0
            assert await _take(member, RECORDS) == dropped == {part: list(range(RECORDS))}
        finally:
            await other.stop()
            await member.stop()

    _run(scene())


def test_each_partition_is_read_again_from_where_it_stands(kafka: str) -> None:
    topic = _topic(kafka, 3)
    committed, fresh, cut = (TopicPartition(topic, number) for number in range(3))
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_records({cut: 4})
    admin.close()

    async def scene() -> None:
        member = await _member(kafka, topic)
        try:
            await _take(member, 3 * RECORDS - 4)
            await member.commit({committed: 7})
            assert await _seek(member) == {committed: 7, fresh: None, cut: None}
            found = {part: await member.position(part) for part in (committed, fresh, cut)}
            assert found == {committed: 7, fresh: 0, cut: 4}, "the committed offset, or the first that there still is"
        finally:
            await member.stop()

    _run(scene())


def test_a_position_that_is_being_reset_ends_no_worker(kafka: str) -> None:
    """Faust looks at all positions now and then. In the middle of a reset there is none, and that ended the worker."""
    topic = _topic(kafka, 1)
    part = TopicPartition(topic, 0)

    async def scene() -> None:
        member = await _member(kafka, topic)
        try:
            await _take(member, RECORDS)
            state: TopicPartitionState = member._subscription.subscription.assignment.state_value(part)
            state.await_reset(OffsetResetStrategy.EARLIEST)
            consumer = ChunkConsumer.__new__(ChunkConsumer)  # without Faust's app and a thread
            thread = ChunkConsumerThread.__new__(ChunkConsumerThread)
            topics = SimpleNamespace(acks_enabled_for=lambda topic: True)
            limits = {"time_started": 0.0, "tp_fetch_request_timeout_secs": 60.0}
            thread.__dict__.update(_consumer=member, consumer=consumer, **limits)
            consumer.__dict__.update(_thread=thread, app=SimpleNamespace(monitor=object(), topics=topics))
            with pytest.raises(AssertionError):
                thread.verify_event_path(0.0, part)  # Faust's
            consumer.verify_event_path(0.0, part)
        finally:
            await member.stop()

    _run(scene())
