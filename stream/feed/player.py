"""Plays articles into Kafka in event-time order, at a chosen speed, and waits until the broker has every one.

The order of things, for no row may be lost:

1. A row is handed to the producer, which retries by itself (`acks=all`).
2. Its confirmation, or its failure, comes back by callback and is counted.
3. `play` returns when every confirmation is in, and raises when one failed: its report counts what the broker has.
"""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.errors import KafkaError

from crosswind.errors import BrokerError, ContractError, Reason
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.dead_letters import SHA256, SIZE, headers, in_place_of
from crosswind.stream.adapters.kafka.security import client_options
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.adapters.tracing import open_tracing
from crosswind.stream.feed import sample
from crosswind.stream.feed.readers import count_rows, read
from crosswind.stream.feed.rows import AnyRow, BadRow, Row

LOOKAHEAD_ROWS = 10_000
LOOKAHEAD_BYTES = 64 * 1024 * 1024
"""Rows are sorted by event time within this much of the file: a longer one need not fit into memory."""

PENDING_ROWS = 5_000
PENDING_BYTES = 64 * 1024 * 1024
"""Unconfirmed sends at most: kafka-python 3 has no bound of its own, and a slow broker would fill the memory."""

DELIVERY_SECONDS = 60.0
"""After so long without the broker's confirmation a row counts as failed."""

STOP_SECONDS = 4.0
"""Wait for confirmations when asked to stop: whoever pressed Ctrl-C wants everything down within ten seconds."""

OVERHEAD = 4096
"""Bytes of a record beside its value: key, headers and the batch's own header."""

LINE = "crosswind.line"


class Confirmation(Protocol):
    """What a producer's `send` returns."""

    def add_callback(self, call: Callable[..., None]) -> object:
        """Calls when the broker has the record."""

    def add_errback(self, call: Callable[..., None]) -> object:
        """Calls when the record failed for good."""


class Producer(Protocol):
    """What the player needs of a Kafka producer."""

    def send(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> Confirmation:
        """Hands a record over; returns at once."""

    def flush(self, timeout: float | None = None) -> None:
        """Waits until every record is confirmed or failed."""

    def close(self, timeout: float | None = None) -> None:
        """Ends the producer."""


@dataclass(frozen=True, slots=True)
class Feed:
    """An opened feed.

    Attributes:
        total: rows in it, None when not known beforehand.
    """

    total: int | None
    rows: Iterator[AnyRow]


@dataclass(frozen=True, slots=True)
class PlayReport:
    """What became of the rows. Every figure counts what the broker confirmed.

    Attributes:
        sent: articles in the raw topic.
        bad: rows that are no articles, in the raw topic (JSON lines) or the dead-letter topic (others).
        bytes: of all values.
        seconds: it took, by the clock that was passed in.
        stopped: it was asked to stop before the end.
    """

    sent: int
    bad: int
    bytes: int
    seconds: float
    stopped: bool


def open_feed(name: str) -> Feed:
    """A file's rows, or those of the bundled feed when `name` is `sample`.

    Raises:
        DataError: it is not there or of an unknown kind; what reading finds later is raised then.
    """
    path = sample.NEWS if name == "sample" else Path(name)
    rows = read(path)
    return Feed(count_rows(path), rows)


def connect_producer(
    kafka: str,
    delivery_seconds: float = DELIVERY_SECONDS,
    bootstrap_seconds: float = 10.0,
    options: Mapping[str, Any] | None = None,
) -> Producer:
    """A producer that retries and confirms; after `delivery_seconds` without confirmation a row has failed.

    Args:
        options: for TLS and log-in, see `client_options`.

    Raises:
        BrokerError: nobody answers there.
    """
    try:
        producer: Producer = KafkaProducer(
            bootstrap_servers=kafka.split(","),
            acks="all",
            linger_ms=5,
            max_request_size=MAX_MESSAGE,
            # Whole numbers: a float here ends in struct.error on the producer's thread, and nothing is ever sent.
            delivery_timeout_ms=int(delivery_seconds * 1000),
            request_timeout_ms=int(delivery_seconds * 500),  # it must be shorter than the delivery
            bootstrap_timeout_ms=int(bootstrap_seconds * 1000),
            metrics_enabled=False,
            **(options or {}),
        )
    except (KafkaError, OSError, ValueError) as error:
        raise BrokerError(f"cannot reach Kafka at {kafka}: {error}; is it running, is the address right?") from error
    return producer


def play(
    rows: Iterable[AnyRow],
    kafka: str,
    settings: Settings,
    *,
    speed: float,
    on_progress: Callable[[int], None],
    stop: threading.Event,
    on_bad: Callable[[BadRow], None] = lambda row: None,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
    producer: Producer | None = None,
) -> PlayReport:
    """Sends the rows and waits until the broker has them.

    Args:
        speed: event seconds per second; 0 or infinite: as fast as the broker takes them.
        on_progress: told how many more rows are confirmed, in this thread.
        stop: ends the play early; what was sent by then is confirmed and reported.
        on_bad: told each row that is no article.
        wait: sleeps so many seconds; by default until `stop` is set.
        producer: instead of one connected to `kafka`; it is closed here either way.

    Raises:
        BrokerError: a row failed for good, with how many and the first cause.
        DataError: the feed cannot be read to its end.
    """
    sender = _Sender(producer or connect_producer(kafka, options=client_options(settings)), settings, on_progress)
    pace = _Pace(speed, clock, wait or stop.wait)
    begin = clock()
    try:
        for row in in_event_order(rows):
            if isinstance(row, BadRow):
                on_bad(row)
            else:
                pace.wait_for(row, stop, sender.report)
            if stop.is_set():
                break
            sender.send(row)
        sender.finish(STOP_SECONDS if stop.is_set() else DELIVERY_SECONDS * 2)
    finally:
        sender.close()
    return PlayReport(sender.sent, sender.bad, sender.bytes, clock() - begin, stop.is_set())


def in_event_order(rows: Iterable[AnyRow]) -> Iterator[AnyRow]:
    """Rows by event time within the look-ahead, equal times as they stand; bad rows, which have none, at once."""
    heap: list[tuple[float, int, Row]] = []
    held = 0
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            yield row
            continue
        heapq.heappush(heap, (row.at.timestamp(), number, row))
        held += len(row.value)
        while len(heap) > LOOKAHEAD_ROWS or held > LOOKAHEAD_BYTES:
            first = heapq.heappop(heap)[2]
            held -= len(first.value)
            yield first
    while heap:
        yield heapq.heappop(heap)[2]


class _Pace:
    """Holds each row back until its event time has come at the chosen speed."""

    def __init__(self, speed: float, clock: Callable[[], float], wait: Callable[[float], object]) -> None:
        self._speed, self._clock, self._wait = speed, clock, wait
        self._zero: tuple[float, float] | None = None

    def wait_for(self, row: Row, stop: threading.Event, idle: Callable[[], None]) -> None:
        if self._speed <= 0 or self._speed == float("inf"):
            return
        event = row.at.timestamp()
        if self._zero is None:
            self._zero = event, self._clock()
        due = self._zero[1] + (event - self._zero[0]) / self._speed
        while (left := due - self._clock()) > 0 and not stop.is_set():
            idle()
            self._wait(min(left, 0.5))


class _Sender:
    """Hands rows to the producer, counts confirmations and failures (which come on the producer's own thread)."""

    def __init__(self, producer: Producer, settings: Settings, on_progress: Callable[[int], None]) -> None:
        self._producer, self._settings, self._on_progress = producer, settings, on_progress
        self._changed = threading.Condition()
        self._pending_rows = self._pending_bytes = self._reported = 0
        self._failed, self._first_error = 0, ""
        self._tracing = open_tracing()
        self.sent = self.bad = self.bytes = 0

    def send(self, row: AnyRow) -> None:
        size = len(row.value)
        self._wait_until(lambda: self._pending_rows < PENDING_ROWS and self._pending_bytes < PENDING_BYTES)
        self._check()
        with self._changed:
            self._pending_rows += 1
            self._pending_bytes += size
        topic, key, value, about = self._record(row)
        bad = isinstance(row, BadRow) or topic == self._settings.dead_topic
        try:
            confirmation = self._producer.send(topic, key=key, value=value, headers=about)
        except KafkaError as error:  # before the broker was asked: no partition, no metadata in time
            self._on_failed(size, error)
        else:
            confirmation.add_callback(lambda metadata: self._on_confirmed(size, bad))
            confirmation.add_errback(lambda error: self._on_failed(size, error))
        self.report()

    def _record(self, row: AnyRow) -> tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]:
        raw = self._settings.raw_topic
        key = row.key if isinstance(row, Row) else None
        if len(row.value) + len(key or b"") + OVERHEAD > MAX_MESSAGE:
            message = f"the row has {len(row.value):,} bytes; a message holds {MAX_MESSAGE - OVERHEAD:,}"
            return self._letter(row, ContractError(Reason.TOO_LARGE, message), None)
        if isinstance(row, Row):
            return raw, key, row.value, self._tracing.begin("feed", topic=raw) if self._tracing else []
        if row.is_message:
            return raw, None, row.value, []
        return self._letter(row, row.error, row.value)

    def _letter(
        self, row: AnyRow, error: ContractError, value: bytes | None
    ) -> tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]:
        """A dead letter; when the row is too large for one, its size and digest say which row it was."""
        about = headers(None, error, "FEED") | {LINE: str(row.line).encode(), SIZE: str(len(row.value)).encode()}
        key = None
        if value is None:  # the digest is the key as well: a record must have one of the two
            about |= in_place_of(row.value)
            key = about[SHA256]
        return self._settings.dead_topic, key, value, list(about.items())

    def _on_confirmed(self, size: int, bad: bool) -> None:
        with self._changed:
            self.bad += bad
            self.sent += not bad
            self.bytes += size
            self._settle(size)

    def _on_failed(self, size: int, error: BaseException) -> None:
        with self._changed:
            self._failed += 1
            self._first_error = self._first_error or f"{type(error).__name__}: {error}"
            self._settle(size)

    def _settle(self, size: int) -> None:
        self._pending_rows -= 1
        self._pending_bytes -= size
        self._changed.notify_all()

    def _wait_until(self, well: Callable[[], bool]) -> None:
        """The producer's own delivery timeout ends this, and should its thread have died, ours does."""
        with self._changed:
            while not well():
                if not self._changed.wait(DELIVERY_SECONDS * 2):
                    raise BrokerError(f"Kafka said nothing about {self._pending_rows:,} rows; is it still running?")

    def report(self) -> None:
        """Passes on how many rows were confirmed since the last time."""
        more = self.sent + self.bad - self._reported
        if more:
            self._reported += more
            self._on_progress(more)

    def _check(self) -> None:
        if self._failed:
            raise BrokerError(
                f"{self._failed:,} rows were not taken by Kafka ({self.sent + self.bad:,} were): {self._first_error}; "
                "play the feed again when Kafka is well: articles that it has are counted once"
            )

    def finish(self, seconds: float) -> None:
        try:
            self._producer.flush(seconds)
        except KafkaError as error:
            raise BrokerError(f"{self._pending_rows:,} rows are unconfirmed after {seconds:.0f} s: {error}") from error
        self._wait_until(lambda: self._pending_rows == 0)
        self.report()
        self._check()

    def close(self) -> None:
        self._producer.close(1.0)
        if self._tracing:
            self._tracing.close()
