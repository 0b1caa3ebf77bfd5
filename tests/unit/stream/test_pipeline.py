"""The agent's loop: bounded intake, batches that do not wait longer than they must, one settled after the other."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from crosswind.stream.pipeline import STUCK, Backlog, Pace, Steps, drain, messages_of


def event(first: int, records: int = 1) -> Any:
    """A chunk with the given offsets, which notes its ack."""
    found = [SimpleNamespace(topic="news.raw", partition=0, offset=first + n, timestamp=0, key=None, value=b"",
                             headers=())
             for n in range(records)]  # fmt: skip
    made = SimpleNamespace(message=SimpleNamespace(records=found), acked=False, first=first)
    made.ack = lambda: setattr(made, "acked", True)
    return made


def size(one: Any) -> int:
    return len(one.message.records)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def _sizes() -> None:
    backlog, clock = Backlog(10, size, Clock()), Clock()
    for first, records in ((0, 3), (3, 3), (6, 9), (15, 1)):
        await backlog.put(event(first, records))
    clock.now = 1.0
    taken = [[one.first for one in await backlog.take(7, 0.0)] for _ in range(3)]
    assert taken == [[0, 3], [6], [15]], "at most seven records, unless one chunk alone has more"


def test_a_batch_is_as_large_as_its_time_allows_within_bounds() -> None:
    pace = Pace(least=128, most=512, seconds=2.0)
    sizes = []
    for records, seconds in ((0, 1.0), (128, 0.1), (512, 51.2), (512, 51.2), (128, 12.8), (128, 0.1)):
        pace.took(records, seconds)
        sizes.append(pace.batch())
    assert sizes[:2] == [128, 512], "nothing measured, then quick"
    assert sizes[2:5] == [128] * 3, "a slow machine goes on with the least"
    assert Pace(least=128, most=32, seconds=2.0).batch() == 32


async def _full() -> None:
    backlog = Backlog(2, size, Clock())
    await backlog.put(event(0))
    await backlog.put(event(1))
    third = asyncio.create_task(backlog.put(event(2)))
    await asyncio.sleep(0)
    assert not third.done()
    assert [one.first for one in await backlog.take(9, 10.0)] == [0, 1], "a full backlog does not linger"
    await third


def test_batch_sizes() -> None:
    asyncio.run(_sizes())


def test_a_full_backlog_holds_the_reader_and_is_handed_out_at_once() -> None:
    asyncio.run(_full())


class Stream:
    """Stands in for Faust's stream: hands out events, then waits for ever."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        for one in self._events:
            yield one
        await asyncio.Event().wait()


def _steps(prepare: Any, settle: Any, most: int = 1, ahead: int = 1) -> Steps[Any]:
    async def settled(messages: Any) -> None:
        return None

    return Steps(prepare, settle, settled, ThreadPoolExecutor(1), lambda: most, 0.0, ahead)


def test_the_next_batch_is_prepared_while_one_is_settled_and_acks_keep_the_order() -> None:
    events, log = [event(n) for n in range(4)], []

    async def run() -> None:
        gate, prepared = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def prepare(messages: Any) -> int:
            if messages[0].origin.offset == 1:
                loop.call_soon_threadsafe(prepared.set)
            return int(messages[0].origin.offset)

        async def settle(offsets: list[int]) -> None:
            (offset,) = offsets
            if offset == 0:
                await gate.wait()
            log.append((offset, [one.acked for one in events]))

        task = asyncio.create_task(drain(Stream(events), _steps(prepare, settle)))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            await prepared.wait()  # batch 1 is prepared although batch 0 is not settled
            assert not any(one.acked for one in events)
            gate.set()
            while not events[-1].acked:
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert log == [(n, [one < n for one in range(4)]) for n in range(4)], "settled in order, acked before the next"


def test_batches_prepared_side_by_side_keep_their_order() -> None:
    """The second is done before the first; a third waits until one is."""
    events, settled, began = [event(n) for n in range(4)], [], []

    async def run() -> None:
        first, second = threading.Event(), threading.Event()

        def prepare(messages: Any) -> int:
            offset = int(messages[0].origin.offset)
            began.append(offset)
            if offset == 0:
                assert second.wait(10)
                assert sorted(began) == [0, 1], "no more than two at once"
                first.set()
            elif offset == 1:
                second.set()
                assert first.wait(10)
            return offset

        async def settle(offsets: list[int]) -> None:
            settled.extend(offsets)

        steps = replace(_steps(prepare, settle), executor=ThreadPoolExecutor(2), at_once=2)
        task = asyncio.create_task(drain(Stream(events), steps))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not events[-1].acked:
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert settled == [0, 1, 2, 3]


def test_what_is_prepared_meanwhile_is_settled_together_in_order_and_within_bounds() -> None:
    events, settled = [event(n) for n in range(9)], []

    async def run() -> None:
        gate, prepared = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def prepare(messages: Any) -> int:
            if messages[0].origin.offset == 4:  # 1 to 3 wait
                loop.call_soon_threadsafe(prepared.set)
            return int(messages[0].origin.offset)

        async def settle(offsets: list[int]) -> None:
            await gate.wait()
            settled.append((offsets, sum(one.acked for one in events)))

        task = asyncio.create_task(drain(Stream(events), _steps(prepare, settle, ahead=3)))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            await prepared.wait()
            gate.set()
            while not events[-1].acked:
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert [n for offsets, _ in settled for n in offsets] == list(range(9))
    assert [acked for _, acked in settled] == [offsets[0] for offsets, _ in settled], "acked before the next"
    assert [len(offsets) for offsets, _ in settled[:2]] == [1, 3]
    assert max(len(offsets) for offsets, _ in settled) == 3


def test_a_record_whose_time_cannot_be_is_of_now_and_the_others_of_their_own() -> None:
    now, chunk = datetime(2026, 3, 2, tzinfo=UTC), event(0, 3)
    for record, stamp in zip(chunk.message.records, (1_772_323_200_000_000, 1_772_323_200_000, -1), strict=True):
        record.timestamp = stamp
    assert [one.timestamp for one in messages_of([chunk], now)] == [now, datetime(2026, 3, 1, tzinfo=UTC), now]


@pytest.mark.parametrize("where", ["prepare", "settle"])
def test_an_error_ends_the_process_before_anything_is_acked(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events, left = [event(0), event(1)], []

    def leave(status: int) -> None:
        left.append(status)
        raise asyncio.CancelledError

    monkeypatch.setattr(os, "_exit", leave)

    async def run() -> None:
        def prepare(messages: Any) -> Any:
            if where == "prepare":
                raise ZeroDivisionError
            return messages

        async def settle(messages: Any) -> None:
            raise ZeroDivisionError

        task = asyncio.create_task(drain(Stream(events), _steps(prepare, settle)))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not left:
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert left == [STUCK]
    assert not any(one.acked for one in events)
