"""Tells open pages that something changed: one look at the database per second, however many readers there are."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Final

import structlog
from fastapi.responses import StreamingResponse

from crosswind.errors import DatabaseError

LOOK: Final = 1.0
"""Seconds between looks at the database."""

BEAT: Final = 15.0
"""Seconds after which a silent stream sends something: proxies and browsers close what they think is dead."""

_log = structlog.get_logger(__name__)


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


class Pulse:
    """The newest version of what is stored, and a way to wait for the next one.

    Args:
        version: blocking; a word that changes whenever the data does. DatabaseError: not known now.
        look: seconds between looks.
    """

    def __init__(self, version: Callable[[], str], look: float = LOOK) -> None:
        self._read, self._look = version, look
        self._version, self._outages = "", 0
        self._changed = asyncio.Event()

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change. Take it before reading, wait for it after: no change is missed in between."""
        return self._changed

    async def run(self) -> None:
        """Looks again and again until it is cancelled."""
        well = True
        while True:
            back = False
            try:
                found = await asyncio.to_thread(self._read)
                back, well = not well, True
            except DatabaseError as error:
                if well:  # once per outage, not once per second
                    _log.warning("cannot see whether there is news", error=str(error))
                found, well = self._version, False
            if found != self._version or back:  # who could not read meanwhile reads again, news or not
                self._version = found
                self._outages += back
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(self._look)

    async def events(self, beat: float = BEAT) -> AsyncGenerator[str, None]:
        """Server-sent `pulse` events: the present version, every change, and one each `beat` seconds for clocks.

        While the database does not answer after a start, the version is empty; `outages` counts those that are over.
        """
        count = 0
        if not self._version:  # nothing is known yet, right after the start
            await self.wait(self._changed, beat)
        while True:
            changed = self._changed
            count += 1
            found = {"version": self._version, "outages": self._outages, "count": count}
            yield f"event: pulse\ndata: {json.dumps(found)}\n\n"
            await self.wait(changed, beat)

    async def wait(self, changed: asyncio.Event, seconds: float = BEAT) -> bool:
        """True as soon as the data changed, False after that many seconds without a change."""
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except TimeoutError:
            return False
        return True
