"""Chunks: what may be committed, how records are cut, and whose acks count."""

import asyncio
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.adapters.kafka import chunks
from crosswind.stream.adapters.kafka.chunks import Chunk, ChunkConsumer, ChunkConsumerThread, Delivered, cut

PART = TP("news.raw", 0)


@dataclass
class Record:
    value: bytes | None


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_only_what_every_earlier_chunk_is_done_for_may_be_committed(sizes: list[int], random: Any) -> None:
    lasts = [sum(sizes[: n + 1]) - 1 for n in range(len(sizes))]
    delivered, done = Delivered(), set()
    for last in lasts:
        delivered.hand_out(last)
    for last in random.sample(lasts, len(lasts)):
        done.add(last)
        delivered.ack(last)
        open_ = [one for one in lasts if one not in done]
        first_open = max((one for one in lasts if not open_ or one < open_[0]), default=None)
        assert delivered.safe == (None if first_open is None else first_open + 1)


def test_offsets_that_were_never_handed_out_are_no_gap() -> None:
    delivered = Delivered()
    for last in (9, 30, 99):  # 10 to 20 were compacted away
        delivered.hand_out(last)
    assert [delivered.ack(last) for last in (9, 30, 99)] == [10, 31, 100]


@given(st.lists(st.integers(0, 40)), st.integers(1, 5))
def test_cutting_keeps_every_record_in_order(sizes: list[int], most: int) -> None:
    records = [Record(b"x" * size) for size in sizes]
    before, chunks.CHUNK_BYTES = chunks.CHUNK_BYTES, 50
    try:
        found = list(cut(records, most))  # type: ignore[arg-type]
    finally:
        chunks.CHUNK_BYTES = before
    assert [record for chunk in found for record in chunk] == records
    for chunk in found:
        assert 1 <= len(chunk) <= most
        assert len(chunk) == 1 or sum(len(record.value or b"") for record in chunk) <= 50


def _consumer() -> ChunkConsumer:
    consumer = ChunkConsumer.__new__(ChunkConsumer)  # without Faust's app, broker and thread
    consumer.__dict__.update(_epoch=0, _delivered={}, _durable={}, _acked={}, _unacked_messages=set(),
                             app=SimpleNamespace(consumer_generation_id=1))  # fmt: skip
    return consumer


def _hand_out(consumer: ChunkConsumer, last: int) -> Chunk:
    consumer._delivered.setdefault(PART, Delivered()).hand_out(last)
    record = SimpleNamespace(topic=PART.topic, partition=0, offset=last, timestamp=1, timestamp_type=0, checksum=None)
    return consumer._to_chunk(PART, deque([record]))  # type: ignore[arg-type]


def test_a_chunk_is_committed_once_it_is_acked() -> None:
    consumer = _consumer()
    first, second = _hand_out(consumer, 9), _hand_out(consumer, 19)
    assert consumer._new_offset(PART) is None
    assert consumer.ack(second)
    assert consumer._new_offset(PART) is None, "a chunk before it is still open"
    assert consumer.ack(first)
    assert consumer._new_offset(PART) == 20


def test_an_ack_from_before_a_seek_does_not_count() -> None:
    consumer = _consumer()
    old = _hand_out(consumer, 9)
    consumer._forget()
    again = _hand_out(consumer, 4)
    assert not consumer.ack(old)
    assert consumer._new_offset(PART) is None
    assert consumer.ack(again)
    assert consumer._new_offset(PART) == 5


@pytest.mark.parametrize(
    ("name", "taken", "acked", "durable", "reached"),
    [
        ("nothing came yet", [], [], None, 13),
        ("a chunk is open", [9, 11], [9], 10, 10),
        ("a chunk was not handed out", [9], [], None, 7),
        ("not committed", [9], [9], None, 7),
        ("all is done, the next is read behind a marker", [9, 11], [9, 11], 12, 13),
    ],
)
def test_how_far_all_is_done(name: str, taken: list[int], acked: list[int], durable: int | None, reached: int) -> None:
    async def position(part: TP) -> int:
        return 13

    async def earliest(*parts: TP) -> dict[TP, int]:
        return dict.fromkeys(parts, 7)

    consumer = _consumer()
    consumer.__dict__.update(position=position, earliest_offsets=earliest)
    if taken:
        consumer._delivered[PART] = delivered = Delivered()
        delivered.take(taken[-1])
        for last in taken if acked else ():
            delivered.hand_out(last)
        for last in acked:
            delivered.ack(last)
    if durable is not None:
        consumer._durable[PART] = durable
    assert asyncio.run(consumer.reached([PART])) == {PART: reached}, name


class Rebalancing:
    """aiokafka's consumer, from which a rebalance takes partitions while it seeks."""

    def __init__(self, *held: set[TP]) -> None:
        self._held, self.asked = list(held), list[set[TP]]()

    def assignment(self) -> set[TP]:
        return self._held[0]

    async def seek_to_committed(self) -> dict[TP, int]:
        self.asked.append(self.assignment())
        if len(self._held) > 1:
            self._held.pop(0)
            raise IllegalStateError("No current assignment for partition")
        assert self.assignment(), "No partitions are currently assigned"
        return dict.fromkeys(self.assignment(), 5)


def _sought(consumer: Rebalancing) -> dict[TP, int]:
    async def call(method: Any) -> Any:
        return await method()

    thread = ChunkConsumerThread.__new__(ChunkConsumerThread)
    thread.__dict__.update(_consumer=consumer, call_thread=call)
    return dict(asyncio.run(thread.seek_to_committed()))


def test_a_seek_that_meets_a_rebalance_is_done_for_what_is_held_then() -> None:
    other = TP("news.raw", 1)
    consumer = Rebalancing({PART, other}, {PART}, {other})
    assert _sought(consumer) == {other: 5}
    assert consumer.asked == [{PART, other}, {PART}, {other}]


def test_who_holds_nothing_has_nothing_to_seek() -> None:
    consumer = Rebalancing({PART}, set())
    assert _sought(consumer) == {}
    assert consumer.asked == [{PART}]


def test_a_commit_that_failed_is_tried_again() -> None:
    consumer = _consumer()
    consumer.ack(_hand_out(consumer, 9))
    consumer._committed_offset = {PART: 10}  # Faust notes it even when the broker did not take it
    assert consumer._should_commit(PART, 10)
    consumer._durable[PART] = 10
    assert not consumer._should_commit(PART, 10)
