"""The dispatcher: claims messages that are due, sends them, records what came of it. The order of one turn:

 1. What came back is recorded, in one transaction. When that fails, nothing new is claimed.
 2. Due messages are claimed: leased to us, their attempt counted, so that one that kills us is not tried for ever.
 3. Each is sent by a task of its own, within `SEND_SECONDS`; a slow receiver holds its own few places only.

A crash between 3 and 1 sends again, with the same id. What was recorded as sent is never claimed again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from crosswind.errors import CrosswindError, DatabaseError, DataError
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.domain.pace import Pace
from crosswind.stream.notify.domain.subscription import Channel
from crosswind.stream.notify.domain.timing import SCHEDULE, Quiet, hold_until, wait_after
from crosswind.stream.service.translation import Translation

SEND_SECONDS = 15.0
LEASE_SECONDS = 60.0
"""Longer than a send may take, with room for a full queue: nobody else claims what is under way."""
PLACES = 1024
"""Messages under way at a time, those that wait for a connection among them."""
LOOK_SECONDS = 0.25
GRACE_SECONDS = 3.0
"""What is under way when we are asked to stop gets this long; the rest is sent by whoever comes when its lease ends."""
GATHER_SECONDS = 0.01
GONE = 410
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """One claimed message. `message_id` stays the same over all attempts; `sealed` holds target and keys, encrypted.

    Attributes:
        attempt: number of this attempt, from 1.
        sent: when messages of the subscription were sent within the last hour, where it has a cap.
        titles: of the evidence, by article id.
        translations: of those titles, by article id, where they could be had.
    """

    message_id: str
    subscription_id: str
    channel: Channel
    lane: str
    language: str
    sealed: str
    alerts: tuple[Alert, ...]
    attempt: int = 1
    digest: bool = False
    titles: Mapping[str, str] = field(default_factory=dict)
    quiet: Quiet | None = None
    cap_per_hour: int | None = None
    sent: tuple[datetime, ...] = ()
    template: str | None = None
    translations: Mapping[str, Translation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answered. `status` None: nothing; then `detail` says what went wrong, in a word or two."""

    status: int | None
    detail: str = ""
    retry_after: timedelta | None = None

    @property
    def well(self) -> bool:
        """Whether it was taken. A redirect is a failure: it is not followed."""
        return self.status is not None and 200 <= self.status < 300


class Outcome(StrEnum):
    """What came of an attempt."""

    SENT = "sent"
    RETRY = "retry"
    FAILED = "failed"
    GONE = "gone"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome to record. `due_at`: when to look again, for `RETRY` and `HELD`."""

    message: Message
    outcome: Outcome
    at: datetime
    reply: Reply
    due_at: datetime | None = None
    milliseconds: int = 0


class Outbox(Protocol):
    """Where messages wait."""

    def claim(self, owner: str, limit: int, rooms: Mapping[str, int], lease: float) -> list[Message]:
        """Leases up to `limit` due messages, no more of a lane than its room. Safe beside other dispatchers."""
        ...

    def record(self, owner: str, results: Sequence[Result]) -> None:
        """Writes outcomes and the delivery log, all or nothing."""
        ...


Send = Callable[[Message], Awaitable[Reply]]
Checkpoint = Callable[[str], Awaitable[None]]


async def no_checkpoint(name: str) -> None:
    """Does nothing."""


def no_observer(results: Sequence[Result]) -> None:
    """Does nothing."""


def judge(message: Message, reply: Reply, now: datetime, schedule: Sequence[timedelta] = SCHEDULE) -> Result:
    """What an answer means: taken, gone for good, to be tried again and when, or given up."""
    if reply.well:
        return Result(message, Outcome.SENT, now, reply)
    if reply.status == GONE:
        return Result(message, Outcome.GONE, now, reply)
    wait = wait_after(message.attempt, message.message_id, schedule)
    if wait is None:
        return Result(message, Outcome.FAILED, now, reply)
    return Result(message, Outcome.RETRY, now, reply, now + max(wait, reply.retry_after or timedelta()))


class Dispatcher:
    """Sends what is due until it is stopped.

    Args:
        owner: a name that no other dispatcher has, for leases.
        clock: the present time, UTC.
        checkpoint: awaited after `claimed`, `sent` and `recorded`; tests end the process there.
        observe: given what was recorded, e.g. to count it.
    """

    def __init__(
        self,
        outbox: Outbox,
        send: Send,
        owner: str,
        clock: Callable[[], datetime],
        schedule: Sequence[timedelta] = SCHEDULE,
        checkpoint: Checkpoint = no_checkpoint,
        send_seconds: float = SEND_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        observe: Callable[[Sequence[Result]], None] = no_observer,
    ) -> None:
        self._outbox, self._send, self._owner, self._clock = outbox, send, owner, clock
        self._schedule, self._checkpoint = schedule, checkpoint
        self._send_seconds, self._lease_seconds, self._observe = send_seconds, lease_seconds, observe
        self._pace = Pace()
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[Result] = []
        self._came_back = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Turns until `stop`; then waits a little for what is under way and records it."""
        while not stop.is_set():
            claimed = await self._turn_or_wait()
            if not claimed:
                await self._wait(stop)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
        await self._record()

    async def turn(self) -> int:
        """Records, claims and starts; how many were started.

        Raises:
            DatabaseError: nothing was started; what came back is kept for the next turn.
        """
        await self._record()
        free = PLACES - len(self._tasks)
        if free <= 0:
            return 0
        claim = self._outbox.claim
        messages = await asyncio.to_thread(claim, self._owner, free, self._pace.known, self._lease_seconds)
        if messages:
            await self._checkpoint("claimed")
        for message in messages:
            self._start(message)
        return len(messages)

    async def _turn_or_wait(self) -> int:
        try:
            return await self.turn()
        except DatabaseError as error:
            _log.warning("notifications wait for the database", error=str(error)[:300])
            await asyncio.sleep(LOOK_SECONDS)
            return 0

    async def _wait(self, stop: asyncio.Event) -> None:
        try:
            await asyncio.wait_for(self._came_back.wait(), LOOK_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)
        except TimeoutError:
            pass

    async def _record(self) -> None:
        results, self._results = self._results, []
        self._came_back.clear()
        if not results:
            return
        try:
            await asyncio.to_thread(self._outbox.record, self._owner, results)
        except BaseException:
            self._results = results + self._results
            raise
        self._observe(results)
        await self._checkpoint("recorded")

    def _start(self, message: Message) -> None:
        self._pace.starts(message.lane)
        task = asyncio.create_task(self._deliver(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, message: Message) -> None:
        started = self._clock()
        severities = {alert.severity for alert in message.alerts}
        try:
            held = hold_until(message.quiet, message.cap_per_hour, started, severities, message.sent)
        except DataError as error:  # tried again by the schedule: the machine may learn the zone. No receiver's fault
            result, well = judge(message, Reply(None, str(error)), started, self._schedule), True
        else:
            waits = Result(message, Outcome.HELD, started, Reply(None), held)
            result = waits if held else await self._sent(message, started)
            well = result.outcome in (Outcome.SENT, Outcome.HELD)
        self._pace.ends(message.lane, well=well)
        self._results.append(result)
        self._came_back.set()

    async def _sent(self, message: Message, started: datetime) -> Result:
        reply = await self._try(message)
        now = self._clock()
        found = judge(message, reply, now, self._schedule)
        spent = int((now - started).total_seconds() * 1000)
        await self._checkpoint("sent")
        return Result(message, found.outcome, now, reply, found.due_at, spent)

    async def _try(self, message: Message) -> Reply:
        try:
            async with asyncio.timeout(self._send_seconds):
                return await self._send(message)
        except TimeoutError:
            return Reply(None, f"no answer within {self._send_seconds:.0f} s")
        except Exception as error:  # whatever a channel's library raises must not end the dispatcher
            # Ours say what to do, e.g. about a wrong seal key; a library's may hold the target's secrets.
            said = str(error) if isinstance(error, CrosswindError) else type(error).__name__
            _log.warning("a message could not be sent", message=message.message_id, error=said)
            return Reply(None, said)
