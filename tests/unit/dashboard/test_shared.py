import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from crosswind.dashboard.shared import KEPT, Shared
from crosswind.errors import DatabaseError


class Data:
    """A version that the test moves, and a count of how often it was read and values were made."""

    def __init__(self) -> None:
        self.version, self.looks, self.made = 1, 0, 0
        self.open = threading.Event()
        self.open.set()

    def read(self) -> str:
        self.looks += 1
        return str(self.version)

    def make(self) -> int:
        self.made += 1
        assert self.open.wait(10)
        return self.version

    def fail(self) -> int:
        self.made += 1
        raise DatabaseError("away")


def run(work: Callable[[Shared, Data], Coroutine[Any, Any, None]]) -> None:
    data = Data()
    asyncio.run(asyncio.wait_for(work(Shared(data.read), data), 20))


def test_two_hundred_who_ask_at_once_cost_one_look_and_one_value() -> None:
    async def work(shared: Shared, data: Data) -> None:
        found = await asyncio.gather(*(shared.get("view", data.make) for _ in range(200)))
        assert set(found) == {1}
        assert (data.looks, data.made) == (1, 1)

    run(work)


def test_a_value_lives_as_long_as_the_version() -> None:
    async def work(shared: Shared, data: Data) -> None:
        for version in (1, 1, 2, 2, 3):
            data.version = version
            assert await shared.get("view", data.make) == version
        assert data.made == 3

    run(work)


def test_an_answer_is_never_older_than_its_question() -> None:
    async def work(shared: Shared, data: Data) -> None:
        async def ask(version: int) -> None:
            data.version = max(data.version, version)
            assert await shared.get("view", data.make) >= version

        for version in range(1, 50):
            await asyncio.gather(ask(version), ask(version))

    run(work)


def test_who_asks_while_a_value_is_made_waits_for_that_one() -> None:
    async def work(shared: Shared, data: Data) -> None:
        data.open.clear()
        first = asyncio.create_task(shared.get("view", data.make))
        while not data.made:
            await asyncio.sleep(0)
        second = asyncio.create_task(shared.get("view", data.make))
        while data.looks < 2:
            await asyncio.sleep(0)
        data.open.set()
        assert await first == await second == 1
        assert data.made == 1

    run(work)


def test_one_who_leaves_does_not_stop_what_others_wait_for() -> None:
    async def work(shared: Shared, data: Data) -> None:
        data.open.clear()
        leaving = asyncio.create_task(shared.get("view", data.make))
        staying = asyncio.create_task(shared.get("view", data.make))
        while not data.made:
            await asyncio.sleep(0)
        leaving.cancel()
        data.open.set()
        assert await staying == 1
        assert data.made == 1
        assert (await asyncio.gather(leaving, return_exceptions=True))[0].__class__ is asyncio.CancelledError

    run(work)


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    async def work(shared: Shared, data: Data) -> None:
        found = await asyncio.gather(*(shared.get("view", data.fail) for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in found] == [DatabaseError] * 5
        assert data.made == 1
        assert await shared.get("view", data.make) == 1

    run(work)


def test_a_version_that_cannot_be_read_is_an_error_and_the_next_look_is_new() -> None:
    async def work(shared: Shared, data: Data) -> None:
        read, shared._read = shared._read, data.fail  # type: ignore[assignment]
        with pytest.raises(DatabaseError):
            await shared.get("view", data.make)
        shared._read = read
        assert await shared.get("view", data.make) == 1

    run(work)


def test_memory_is_bounded_and_old_versions_are_dropped() -> None:
    async def work(shared: Shared, data: Data) -> None:
        version = await shared.version()
        for key in range(3 * KEPT):
            await shared.get(key, data.make, version)
        assert len(shared._kept) == KEPT
        data.version = 2
        await shared.get("view", data.make)
        assert list(shared._kept) == ["view"]

    run(work)
