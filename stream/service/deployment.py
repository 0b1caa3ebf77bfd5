"""Which bundle is live, and changing it under load.

What is wanted is a row in the database; each worker follows it between two batches. The order, on which "no score from
a bad bundle" rests:

 1. The newest wanted row is read.
 2. Its bundle is fetched, verified, loaded beside the live one and asked its smoke sentences.
 3. Only then it takes the live one's place; a batch that is being scored ends on the bundle that it began on.
 4. What happened is written as an event: `active`, or `failed` with the reason, and then the former one is still live.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from crosswind.errors import CrosswindError, DatabaseError
from crosswind.stream.service.ports import Scorer

PPM = 1_000_000


class Slot(StrEnum):
    """What a deployment is for: to be published, or to be compared beside the live one."""

    LIVE = "live"
    SHADOW = "shadow"


class Kind(StrEnum):
    """What became of a deployment in one worker."""

    ACTIVE = "active"
    FAILED = "failed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Somebody's wish: this bundle, in this slot, from now on.

    Attributes:
        seq: orders the wishes of a run; the last of a slot counts.
        version: of the bundle; empty for a shadow that ends.
        address: where its folder lies: a path, an fsspec address, or `default` for the shipped one.
        share_ppm: articles that a shadow scores, in parts per million.
        at: when it was wished, by the database's clock.
        reason: `deploy`, `rollback` or `shadow`.
    """

    seq: int
    slot: Slot
    version: str
    address: str
    share_ppm: int
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a deployment in one worker. `seq` is None for the bundle that a worker starts with by itself."""

    seq: int | None
    slot: Slot
    kind: Kind
    version: str
    address: str
    worker: str
    message: str = ""


class DeploymentBook(Protocol):
    """Where wishes are read and events are written."""

    def wanted(self, run: str, slot: Slot) -> Deployment | None:
        """The last deployment of a slot; None before the first.

        Raises:
            DatabaseError: it cannot be read now.
        """
        ...

    def record(self, run: str, event: Event) -> None:
        """Writes down what happened.

        Raises:
            DatabaseError: it was not written.
        """
        ...


class Candidate(Scorer, Protocol):
    """A scorer that can be put away."""

    @property
    def remark(self) -> str:
        """What whoever puts it live should know; mostly empty."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class Exchange(Protocol):
    """The live scorer's place."""

    @property
    def version(self) -> str:
        """Of the bundle that is live."""
        ...

    @property
    def remark(self) -> str:
        """Of the bundle that is live, see `Candidate.remark`."""
        ...

    def switch(self, to: Candidate) -> None:
        """Makes it live from the next batch on."""
        ...

    def back_to(self, version: str) -> bool:
        """Makes the former one live again when it is still warm and of that version."""
        ...


class Deployer:
    """Follows the wanted bundle of one run in one worker. One thread calls `tick`.

    Args:
        load: gives a verified, loaded and smoke-tested scorer, or raises.
    """

    def __init__(
        self,
        run: str,
        worker: str,
        book: DeploymentBook,
        exchange: Exchange,
        load: Callable[[Deployment], Candidate],
        seen: int | None = None,
    ) -> None:
        self._run, self._worker, self._book = run, worker, book
        self._exchange, self._load, self._seen = exchange, load, seen

    def tick(self) -> Event | None:
        """Follows a new wish, if there is one, and says what became of it.

        Raises:
            DatabaseError: the wish could not be read or the event not be written; the next tick does so.
        """
        wanted = self._book.wanted(self._run, Slot.LIVE)
        if wanted is None or wanted.seq == self._seen:
            return None
        event = self._follow(wanted)
        self._book.record(self._run, event)
        self._seen = wanted.seq
        return event

    def _follow(self, wanted: Deployment) -> Event:
        try:
            if self._exchange.version != wanted.version and not self._exchange.back_to(wanted.version):
                self._exchange.switch(self._load(wanted))
        except DatabaseError:
            raise
        except Exception as error:  # whatever a bundle does to a loader, the live one must stay
            return event_of(wanted, Kind.FAILED, self._worker, explain(error))
        return event_of(wanted, Kind.ACTIVE, self._worker, self._exchange.remark)


def event_of(deployment: Deployment, kind: Kind, worker: str, message: str = "") -> Event:
    """The event that tells what became of a deployment."""
    return Event(deployment.seq, deployment.slot, kind, deployment.version, deployment.address, worker, message)


def explain(error: BaseException) -> str:
    """One line, at most 500 characters: ours as it is, others with their type."""
    said = str(error).strip().splitlines()
    first = said[0] if said else ""
    return (first if isinstance(error, CrosswindError) and first else f"{type(error).__name__}: {first}")[:500]
