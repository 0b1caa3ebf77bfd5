"""An agent's loop: takes chunks in while it works, prepares batches ahead, settles and acks in order.

    Faust's stream ──► Backlog (bounded) ──► prepare ──► (few batches) ──► settle ──► ack
                        takes in always       blocking,    wait, in          publishes or stores
                                              in threads   order             all that wait, as one

Faust's own `noack_take` takes nothing in while a batch is handled, and its `take` acks even when the body failed.
"""

import asyncio
import os
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

import faust
from faust.types import EventT, StreamT

from crosswind.stream.adapters.kafka.chunks import records_of
from crosswind.stream.domain.article import Origin
from crosswind.stream.service.scoring import Message, received

STUCK = 70
"""Exit status (EX_SOFTWARE) of a worker that met an error it can neither wait out nor dead-letter."""
CHUNKS = 32
"""Chunks that wait in a backlog at most; with `CHUNK_BYTES` this bounds the memory while the database is away."""

Event = EventT[Any]
T = TypeVar("T")


def _now() -> datetime:
    return datetime.now(UTC)


class Backlog:
    """Chunks that wait to be handled, bounded; `put` waits while it is full."""

    def __init__(self, chunks: int, size: Callable[[Event], int], clock: Callable[[], float]) -> None:
        self._limit, self._size, self._clock = chunks, size, clock
        self._waiting: deque[tuple[float, int, Event]] = deque()
        self._records = 0
        self._changed = asyncio.Condition()

    async def put(self, event: Event) -> None:
        """Adds a chunk at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._waiting) < self._limit)
            size = self._size(event)
            self._waiting.append((self._clock(), size, event))
            self._records += size
            self._changed.notify_all()

    async def take(self, most: int, linger: float) -> list[Event]:
        """The next chunks, together at most `most` records unless the first alone has more.

        Waits for a first chunk, and then for a full batch until `linger` seconds after that first one came.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting))
            due = self._waiting[0][0] + linger
            try:
                async with asyncio.timeout(max(0.0, due - self._clock())):
                    await self._changed.wait_for(lambda: self._records >= most or len(self._waiting) >= self._limit)
            except TimeoutError:
                pass
            taken: list[Event] = []
            left = most
            while self._waiting and (not taken or self._waiting[0][1] <= left):
                left -= self._waiting[0][1]
                taken.append(self._pop())
            self._changed.notify_all()
            return taken

    def _pop(self) -> Event:
        _, size, event = self._waiting.popleft()
        self._records -= size
        return event


class Pace:
    """How many records a batch may have: more where they are quick, so that texts of one length find each other.

    >>> pace = Pace(least=128, most=512, seconds=2.0)
    >>> pace.batch(), pace.took(128, 0.64), pace.batch()
    (128, None, 400)

    Args:
        least, most: the bounds; `least` is for where nothing was measured yet, too.
        seconds: what a batch may take.
    """

    def __init__(self, least: int, most: int, seconds: float) -> None:
        self._least, self._most, self._seconds = min(least, most), most, seconds
        self._each: float | None = None

    def took(self, records: int, seconds: float) -> None:
        """A batch of so many records took so long; safe to call from any thread."""
        if records:
            each = seconds / records
            self._each = each if self._each is None else self._each + (each - self._each) / 4

    def batch(self) -> int:
        """Records of the next batch at most."""
        if not self._each:
            return self._least
        return max(self._least, min(self._most, round(self._seconds / self._each)))


@dataclass(frozen=True, slots=True)
class Steps(Generic[T]):
    """What an agent does with a batch.

    Attributes:
        prepare: blocking; runs in `executor`, up to `ahead` batches ahead of `settle`, `at_once` side by side.
        settle: makes outcomes durable; called with all that wait, in order, and again only when it has returned.
        settled: called right before a batch is acked.
        most: gives the records of the next batch at most.
        linger: seconds to wait for a full batch.
        ahead: prepared batches that wait at most, and so share one call of `settle`.
        clock: aware; what counts where a record's own time makes no sense.
    """

    prepare: Callable[[list[Message]], T]
    settle: Callable[[list[T]], Awaitable[None]]
    settled: Callable[[list[Message]], Awaitable[None]]
    executor: Executor
    most: Callable[[], int]
    linger: float
    ahead: int = 1
    at_once: int = 1
    clock: Callable[[], datetime] = _now


async def drain(stream: StreamT[Any], steps: Steps[T]) -> None:
    """Runs until cancelled or the stream ends. No exception leaves: Faust would ack the event and lose it."""
    loop = asyncio.get_running_loop()
    backlog = Backlog(CHUNKS, lambda event: len(records_of(event.message)), loop.time)
    begun: asyncio.Queue[tuple[list[Event], list[Message], asyncio.Future[T]]] = asyncio.Queue(steps.at_once)
    ready: asyncio.Queue[tuple[list[Event], list[Message], T]] = asyncio.Queue(steps.ahead)
    free = asyncio.Semaphore(steps.at_once)

    async def prepare() -> None:
        while True:
            await free.acquire()  # before the batch is taken: it grows while it would only wait
            events = await backlog.take(steps.most(), steps.linger)
            messages = messages_of(events, steps.clock())
            prepared = loop.run_in_executor(steps.executor, steps.prepare, messages)
            prepared.add_done_callback(lambda _: free.release())
            await begun.put((events, messages, prepared))

    async def in_order() -> None:
        while True:
            events, messages, prepared = await begun.get()
            await ready.put((events, messages, await prepared))

    async def settle() -> None:
        while True:
            batches = [await ready.get()]
            while not ready.empty() and len(batches) < steps.ahead:
                batches.append(ready.get_nowait())
            await steps.settle([prepared for _, _, prepared in batches])
            for events, messages, _ in batches:
                await steps.settled(messages)
                for event in events:
                    event.ack()

    tasks = [asyncio.create_task(_or_end(part())) for part in (prepare, in_order, settle)]
    try:
        async for event in cast("faust.Stream[Any]", stream).noack().events():
            await backlog.put(event)
    finally:  # a shutdown: what is not acked comes again
        for task in tasks:
            task.cancel()


async def _or_end(part: Awaitable[None]) -> None:
    try:
        await part
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        end_process(error)


def end_process(error: BaseException) -> None:
    """Ends the process before the batch is acked; a supervisor restarts it, and the batch is delivered again."""
    sys.stderr.write("the worker met an error that it can neither wait out nor dead-letter; it ends itself:\n")
    traceback.print_exception(error, limit=-8)
    sys.stderr.flush()
    os._exit(STUCK)


def messages_of(events: Sequence[Event], now: datetime) -> list[Message]:
    """The records of chunks, in order; `now` (aware) is when those were received whose time makes no sense."""
    return [
        Message(Origin(record.topic, record.partition, record.offset), received(record.timestamp, now), record.key,
                record.value, record.headers)
        for event in events for record in records_of(event.message)
    ]  # fmt: skip
