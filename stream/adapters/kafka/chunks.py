"""Faust's Kafka transport, taking records in chunks: one Faust message carries many records of one partition.

Faust spends about 120 µs on each message that it hands to an agent (two tasks, a lock, a queue, an event), which bounds
a worker that sees every article twice to some 3,000 articles/s. A chunk pays that once for its records. What is kept
of Faust: groups, rebalances, agents, flow control, commits. What is replaced, and why:

 - `getmany` yields chunks. A chunk's offset is that of its last record, its value is empty, `records` has its records.
 - An offset is committed when every chunk handed out before it is acked: Faust's own bookkeeping counts single offsets,
   and takes offsets that it never saw (compacted, or markers of transactions) for a gap.
 - An ack of a chunk that was handed out before the last seek is ignored: the seek brings its records again.
 - A commit that failed is tried again at the next interval. Faust forgets it, so that lag stays behind until the next
   article comes, and crashes the worker on errors that pass by themselves.
 - A seek that meets a rebalance is done once more, for the partitions that are held then: aiokafka refuses to seek in
   one that is gone, and Faust would end the worker for it.
 - A partition of which nothing is committed yet is sought back to its beginning: aiokafka seeks only to committed
   offsets, so what was read of it and given up in a rebalance would never come again.
 - Faust drops what lies before the last offset that it read. A seek, and a log that lost its end, bring records from
   before it, which are wanted; a dropped chunk would never be acked, and nothing behind it be committed.
 - Where a log is shorter than what is committed (its end was lost with a disk), what comes now is committed all
   the same.
 - Faust's monitor is not told how far each partition goes: nobody asks it, and it may be gone when it is asked for.
 - Faust's own look for partitions that stand still is not taken: it only logs, its clocks are of two kinds, and it ends
   the worker where a rebalance has just reset a position. `crosswind.stream.health` watches the offsets instead.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, Message
from faust.types.tuples import ConsumerMessage

CHUNK_BYTES = 1024 * 1024
"""A chunk ends when it holds that much, so that large articles do not pile up in queues that count chunks."""

AFTER_REBALANCE = 0.02
"""Seconds until a seek that met a rebalance is tried again."""

Record: TypeAlias = ConsumerRecord[Any, Any]


class Chunk(ConsumerMessage):
    """Consecutive records of one partition, ascending by offset; acked as one.

    Attributes:
        epoch: the seek after which it was handed out.
    """

    records: Sequence[Record]
    epoch: int


class Delivered:
    """What was handed out of one partition and how far it may be committed. Offsets are those of chunks' last records.

    >>> delivered = Delivered()
    >>> for last in (63, 127): delivered.hand_out(last)
    >>> delivered.ack(127), delivered.ack(63)
    (None, 128)
    """

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._acked: set[int] = set()
        self._taken: int | None = None
        self.safe: int | None = None

    def take(self, last: int) -> None:
        """Records up to this offset came from the broker, to be handed out in chunks."""
        self._taken = last

    @property
    def done(self) -> bool:
        """Whether every record that was taken was handed out and acked."""
        return not self._open and (self._taken is None or self.safe == self._taken + 1)

    def hand_out(self, last: int) -> None:
        """A chunk that ends with this offset goes to an agent."""
        self._open.append(last)

    def ack(self, last: int) -> int | None:
        """The chunk is done. Returns the offset to commit if that moved on, else None: an earlier chunk is open."""
        self._acked.add(last)
        moved = None
        while self._open and self._open[0] in self._acked:
            done = self._open.popleft()
            self._acked.discard(done)
            self.safe = moved = done + 1
        return moved


def cut(records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
    """Slices of at most `most` records, and of at most `CHUNK_BYTES` unless one record alone has more."""
    start = size = 0
    for number, record in enumerate(records):
        grown = size + len(record.value or b"")
        if number > start and (number - start >= most or grown > CHUNK_BYTES):
            yield records[start:number]
            start, grown = number, len(record.value or b"")
        size = grown
    if start < len(records):
        yield records[start:]


class _NoOffset(dict[TP, int | None]):
    """Faust's note of the last offset read of each partition, which keeps none; see the module's docstring."""

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        """Kept nowhere."""


class ChunkConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; neither a commit that the broker does not take nor a rebalance is a reason to crash."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Back to the committed offsets of the partitions that it holds when this returns, or to their beginning.

        aiokafka leaves a partition of which nothing is committed where it is, beyond what was read of it and dropped.
        """
        while self.assignment():
            try:
                found = dict(await super().seek_to_committed())
                if fresh := [tp for tp, at in found.items() if not at]:
                    await self.call_thread(self._ensure_consumer().seek_to_beginning, *fresh)
                return found
            except (IllegalStateError, AssertionError):  # a rebalance took partitions away while it was at it
                await asyncio.sleep(AFTER_REBALANCE)
        return {}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assigned = self.assignment()
        wanted = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items() if tp in assigned}
        try:
            await self._ensure_consumer().commit(wanted)
        except KafkaError as error:  # a rebalance, or a broker that is away
            self.log.warning("offsets not committed, tried again: %s", type(error).__name__)
            return False
        return True


class ChunkConsumer(driver.Consumer):
    """Faust's consumer, with the changes that the module's docstring names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chunk_size = cast("ChunkTransport", self.transport).chunk_size
        self._epoch = 0
        self._delivered: dict[TP, Delivered] = {}
        self._durable: dict[TP, int] = {}
        self._read_offset = _NoOffset()

    def _new_consumer_thread(self) -> ChunkConsumerThread:
        return ChunkConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Chunk]]:
        """Chunks of what the broker sent, one of each partition after the other."""
        generation, epoch = self.app.consumer_generation_id, self._epoch
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        # A rebalance, be it over already: what was read may lie beyond what is read again after it, and an ack of it
        # would let the offset be committed over that. It costs one needless seek at most.
        if not self.flow_active or (self.app.consumer_generation_id, self._epoch) != (generation, epoch):
            await self.perform_seek()
            return
        for tp, found in records.items():
            if found:
                self._note(tp, found)
        waiting = {tp: cut(found, self._chunk_size) for tp, found in records.items()}
        while waiting:
            for tp, chunks in list(waiting.items()):
                if not self.flow_active or (self.app.consumer_generation_id, self._epoch) != (generation, epoch):
                    return
                chunk = next(chunks, None)
                if chunk is None:
                    del waiting[tp]
                elif active is None or tp in active or tp in self._buffered_partitions:
                    self._delivered.setdefault(tp, Delivered()).hand_out(chunk[-1].offset)
                    yield tp, self._to_chunk(tp, chunk)

    def _note(self, tp: TP, records: Sequence[Record]) -> None:
        if records[0].offset < self._durable.get(tp, 0):
            self.log.warning("%r is shorter than what was committed: its end was lost; what comes now is read", tp)
            del self._durable[tp]
        self._delivered.setdefault(tp, Delivered()).take(records[-1].offset)

    def _to_chunk(self, tp: TP, records: Sequence[Record]) -> Chunk:
        last = records[-1]
        chunk = Chunk(
            last.topic, last.partition, last.offset, (last.timestamp or 0) / 1000, last.timestamp_type, None, None, b"",
            last.checksum, tp=tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        chunk.records, chunk.epoch = records, self._epoch
        return chunk

    def ack(self, message: Message) -> bool:
        """Marks a chunk as done, unless a seek brings its records again."""
        if message.acked or cast("Chunk", message).epoch != self._epoch:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        self._delivered.setdefault(message.tp, Delivered()).ack(message.offset)
        self._acked[message.tp] = []  # its keys are the partitions that a commit looks at
        return True

    def _new_offset(self, tp: TP) -> int | None:
        delivered = self._delivered.get(tp)
        return delivered.safe if delivered else None

    def _should_commit(self, tp: TP, offset: int) -> bool:
        return offset > self._durable.get(tp, -1)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        done = bool(await super()._commit(offsets))
        if done:
            self._durable.update(offsets)
        return done

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: see the module's docstring."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: see the module's docstring."""

    async def perform_seek(self) -> None:
        """Back to the committed offsets; what is handed out so far does not count any more."""
        self._forget()
        await super().perform_seek()
        self._forget()
        self._durable = {tp: at for tp, at in self._committed_offset.items() if at is not None}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Call during a rebalance: all of ours is given up."""
        self._forget()
        await super().on_partitions_revoked(revoked)

    def _forget(self) -> None:
        self._epoch += 1
        self._delivered.clear()
        self._durable.clear()
        self._acked.clear()

    def committed(self) -> dict[TP, int]:
        """Partition -> the offset that the group has committed; one that has none is left out."""
        return dict(self._durable)

    async def reached(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """Partition -> the offset before which nothing is left to do.

        That is the committed offset or, where nothing is committed, the first that the broker still has. Where all that
        was taken is done and committed it is where the next record is read from: markers of transactions, and records
        that were dropped, have offsets that no record will ever come for, so that no commit passes them.

        Raises:
            KafkaError: the broker refuses.
        """
        found = self.committed()
        if unknown := [tp for tp in partitions if tp not in found]:
            found |= await self.earliest_offsets(*unknown)
        for tp in partitions:
            if self._is_done(tp) and (at := await self.position(tp)) is not None:
                found[tp] = max(found.get(tp, 0), at)
        return {tp: found.get(tp, 0) for tp in partitions}

    def _is_done(self, tp: TP) -> bool:
        delivered = self._delivered.get(tp)
        return delivered is None or (delivered.done and (delivered.safe or 0) <= self._durable.get(tp, 0))


class ChunkTransport(driver.Transport):
    """Faust's Kafka transport with the chunk consumer; `app.transport` takes one."""

    Consumer = ChunkConsumer

    def __init__(self, urls: Any, app: AppT, chunk_size: int) -> None:
        super().__init__(urls, app)
        self.chunk_size = chunk_size


def records_of(message: Any) -> Sequence[Record]:
    """The records of an event's message."""
    return cast("Chunk", message).records
