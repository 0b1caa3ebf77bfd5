"""The player against a producer written by hand: what is sent where, when, and what is never lost."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaTimeoutError

from crosswind.errors import BrokerError, ContractError, Reason
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.dead_letters import REASON, SHA256, SIZE
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.feed import player
from crosswind.stream.feed.player import LINE, PlayReport, in_event_order, play
from crosswind.stream.feed.rows import AnyRow, BadRow, Row

START = datetime(2026, 11, 6, 6, tzinfo=UTC)


@dataclass
class Sent:
    """A record in flight; `settle` plays the broker."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    calls: list[Callable[..., None]] = field(default_factory=list)
    error_calls: list[Callable[..., None]] = field(default_factory=list)

    def add_callback(self, call: Callable[..., None]) -> None:
        self.calls.append(call)

    def add_errback(self, call: Callable[..., None]) -> None:
        self.error_calls.append(call)

    def settle(self, error: Exception | None = None) -> None:
        for call in self.error_calls if error else self.calls:
            call(error)
        self.calls, self.error_calls = [], []


class FakeProducer:
    """Confirms on flush, or when `pending` are in flight; fails the values in `failing`."""

    def __init__(self, failing: tuple[bytes, ...] = (), refusing: tuple[bytes, ...] = ()) -> None:
        self.records: list[Sent] = []
        self.failing, self.refusing = failing, refusing
        self.closed = False

    def send(self, topic: str, *, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> Sent:
        if value in self.refusing:
            raise KafkaTimeoutError("no metadata")
        self.records.append(Sent(topic, key, value, dict(headers)))
        return self.records[-1]

    def flush(self, timeout: float | None = None) -> None:
        for record in self.records:
            record.settle(KafkaTimeoutError("too late") if record.value in self.failing else None)

    def close(self, timeout: float | None = None) -> None:
        self.closed = True


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def row(number: int, minutes: float = 0, value: bytes | None = None) -> Row:
    return Row(number, value or f"v{number}".encode(), f"k{number}".encode(), START + timedelta(minutes=minutes))


def bad(number: int, value: bytes = b"?", is_message: bool = False) -> BadRow:
    return BadRow(number, value, ContractError(Reason.BAD_ROW, f"line {number} is odd"), is_message)


def run(
    rows: list[AnyRow],
    producer: FakeProducer,
    speed: float = 0,
    clock: Clock | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[int], None] = lambda n: None,
) -> PlayReport:
    clock = clock or Clock()
    return play(
        rows, "unused", Settings(), speed=speed, on_progress=on_progress, stop=stop or threading.Event(),
        clock=clock, wait=clock.wait, producer=producer,
    )  # fmt: skip


def test_articles_go_to_the_raw_topic_with_their_key() -> None:
    producer = FakeProducer()
    report = run([row(1), row(2)], producer)
    assert [(r.topic, r.key, r.value) for r in producer.records] == [
        ("news.raw", b"k1", b"v1"), ("news.raw", b"k2", b"v2"),
    ]  # fmt: skip
    assert report == PlayReport(sent=2, bad=0, bytes=4, seconds=0.0, stopped=False)
    assert producer.closed


def test_bad_json_line_goes_to_the_raw_topic_as_it_is() -> None:
    producer = FakeProducer()
    report = run([bad(3, b"{", is_message=True)], producer)
    (record,) = producer.records
    assert (record.topic, record.value, record.headers) == ("news.raw", b"{", {})
    assert (report.sent, report.bad) == (0, 1)


def test_unreadable_row_goes_to_the_dead_letters_with_its_line() -> None:
    producer, seen = FakeProducer(), []
    odd = bad(3, b"a;b")
    play(
        [odd], "unused", Settings(), speed=0, on_progress=lambda n: None, stop=threading.Event(),
        on_bad=seen.append, producer=producer,
    )  # fmt: skip
    (record,) = producer.records
    assert (record.topic, record.value) == ("news.dead", b"a;b")
    assert (record.headers[REASON], record.headers[LINE]) == (b"bad_row", b"3")
    assert seen == [odd]


@pytest.mark.parametrize("make", [lambda v: row(1, value=v), lambda v: bad(1, v), lambda v: bad(1, v, True)])
def test_row_too_large_for_kafka_leaves_a_note(make: Callable[[bytes], AnyRow]) -> None:
    producer = FakeProducer()
    report = run([make(b"x" * MAX_MESSAGE)], producer)
    (record,) = producer.records
    assert (record.topic, record.value) == ("news.dead", None)
    assert (record.headers[REASON], record.headers[SIZE]) == (b"too_large", str(MAX_MESSAGE).encode())
    assert len(record.headers[SHA256]) == 64
    assert report.sent + report.bad == 1


def test_too_large_article_counts_as_bad() -> None:
    assert run([row(1, value=b"x" * MAX_MESSAGE)], FakeProducer()).bad == 1


def test_rows_wait_for_their_event_time() -> None:
    clock = Clock()
    report = run([row(1, 0), row(2, 60), row(3, 90)], FakeProducer(), speed=3600, clock=clock)
    assert report.seconds == pytest.approx(1.5)
    assert max(clock.waits) <= 0.5


@pytest.mark.parametrize("speed", [0, float("inf")])
def test_as_fast_as_possible_never_waits(speed: float) -> None:
    clock = Clock()
    run([row(1, 0), row(2, 10_000)], FakeProducer(), speed=speed, clock=clock)
    assert clock.waits == []


def test_stop_ends_the_play_and_confirms_what_was_sent() -> None:
    stop, clock = threading.Event(), Clock()

    def wait(seconds: float) -> None:
        stop.set()

    producer = FakeProducer()
    report = play(
        [row(1, 0), row(2, 60)], "unused", Settings(), speed=1, on_progress=lambda n: None, stop=stop,
        clock=clock, wait=wait, producer=producer,
    )  # fmt: skip
    assert (report.sent, report.stopped, len(producer.records)) == (1, True, 1)


def test_failure_is_raised_with_the_count() -> None:
    producer = FakeProducer(failing=(b"v2",), refusing=(b"v3",))
    with pytest.raises(BrokerError, match=r"2 rows were not taken by Kafka \(1 were\).*KafkaTimeoutError"):
        run([row(1), row(2), row(3)], producer)
    assert producer.closed


def test_failure_stops_the_play() -> None:
    producer = FakeProducer(refusing=(b"v1",))
    with pytest.raises(BrokerError):
        run([row(1), row(2), row(3)], producer)
    assert producer.records == []


def test_progress_adds_up_to_all_rows() -> None:
    steps: list[int] = []
    run([row(1), bad(2), row(3)], FakeProducer(), on_progress=steps.append)
    assert sum(steps) == 3


def test_unconfirmed_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "PENDING_ROWS", 3)
    producer = FakeProducer()
    thread = threading.Thread(target=run, args=([row(n) for n in range(9)], producer), daemon=True)
    thread.start()
    settled = 0
    while thread.is_alive():
        flying = [record for record in list(producer.records) if record.calls]
        assert len(flying) <= 3
        for record in flying:
            record.settle()
            settled += 1
        thread.join(0.001)
    assert len(producer.records) == 9
    assert settled >= 6


def test_reading_error_closes_the_producer() -> None:
    producer = FakeProducer()
    with pytest.raises(ZeroDivisionError):
        run((row(1 // 0) for _ in range(1)), producer)  # type: ignore[arg-type]
    assert producer.closed


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 40))
def test_order_is_by_event_time_within_the_look_ahead(minutes: list[int], ahead: int) -> None:
    rows: list[AnyRow] = [row(number, minute) for number, minute in enumerate(minutes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(player, "LOOKAHEAD_ROWS", ahead)
        found = [r for r in in_event_order(rows) if isinstance(r, Row)]
    assert sorted(r.line for r in found) == list(range(len(minutes)))
    if ahead >= len(minutes):
        assert [(r.at, r.line) for r in found] == sorted((r.at, r.line) for r in found)


def test_look_ahead_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "LOOKAHEAD_BYTES", 10)
    taken: list[int] = []

    def rows() -> "list[AnyRow]":
        for number in range(5):
            taken.append(number)
            yield row(number, value=b"x" * 6)  # type: ignore[misc]

    next(in_event_order(rows()))
    assert taken == [0, 1]


def test_bundled_feed_is_found_and_counted() -> None:
    opened = player.open_feed("sample")
    rows = list(opened.rows)
    assert opened.total == len(rows) > 3000
    assert all(isinstance(r, Row) for r in rows)
    assert json.loads(rows[0].value)["published_at"].startswith("2026-11-06T06:0")
