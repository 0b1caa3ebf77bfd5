"""What is read once and handed to everybody: a cache whose values live as long as the data stays what it is.

The rules, in the order in which they hold:

1. An answer is never older than its question. Each question is followed by a look at the data's version; all questions
   that wait for the same look share it.
2. A value is made once per version, however many ask: the first one makes it, the others wait for that.
3. Looks are at least `SPACING` apart, and further after something was made: a stream that changes the data all the
   time costs a bounded share of the machine, and a bounded wait.

Belongs to one event loop; values are made in threads.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

SPACING: Final = 0.02
"""Seconds between looks: two hundred readers then cost the database fifty tiny queries a second at most."""

REST: Final = 2.0
"""Times as long as something took to make, before the next look: making things takes a third of one core at most."""

LONGEST_REST: Final = 0.3
"""Seconds that a question waits for its look at most, whatever was made before."""

KEPT: Final = 128
"""Values kept, the least recently asked for go first. One is a page of articles or a range's counts: some 100 kB."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept:
    version: str
    making: "asyncio.Task[Any]"


class Shared:
    """A single-flight cache over one version of the data.

    Args:
        version: blocking; a word that changes whenever the data does. Its errors reach those who asked.
    """

    def __init__(self, version: Callable[[], str]) -> None:
        self._read = version
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._look: asyncio.Task[str] | None = None
        self._not_before = 0.0
        self._newest = ""

    async def version(self) -> str:
        """The data's version, looked up after this was asked."""
        if self._look is None:
            self._look = asyncio.create_task(self._looking())
        return await asyncio.shield(self._look)

    async def get(self, key: Hashable, make: Callable[[], T], version: str | None = None) -> T:
        """The value of a key, made by whoever asks first in each version.

        Args:
            key: everything that the value depends on, apart from the data.
            make: blocking; run in a thread. Its errors reach all who wait, and are not kept.
            version: one that was looked up for this question already.
        """
        now = version if version is not None else await self.version()
        found = self._kept.get(key)
        if found is None or found.version != now:
            found = _Kept(now, asyncio.create_task(self._make(make)))
            found.making.add_done_callback(lambda done: self._forget_failed(key, done))
            self._kept[key] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return cast(T, await asyncio.shield(found.making))  # one who leaves does not stop what others wait for

    async def _looking(self) -> str:
        await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
        self._look = None  # whoever asks from now on needs a look of their own: this one may see the data before it
        found = await asyncio.to_thread(self._read)
        self._rest(SPACING)
        if found != self._newest:  # nobody can be given the others any more
            self._newest = found
            self._kept = OrderedDict((key, kept) for key, kept in self._kept.items() if kept.version == found)
        return found

    async def _make(self, make: Callable[[], T]) -> T:
        begin = time.monotonic()
        try:
            return await asyncio.to_thread(make)
        finally:
            self._rest(min(LONGEST_REST, REST * (time.monotonic() - begin)))

    def _rest(self, seconds: float) -> None:
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _forget_failed(self, key: Hashable, done: "asyncio.Task[Any]") -> None:
        failed = done.cancelled() or done.exception() is not None
        kept = self._kept.get(key)
        if failed and kept is not None and kept.making is done:
            del self._kept[key]
