"""The player and its commands against the embedded broker, the RSS reader against a real web server."""

import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer
from typer.testing import CliRunner

from crosswind.errors import BrokerError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka import embedded
from crosswind.stream.adapters.kafka.dead_letters import REASON
from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker, free_port
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE, ensure_topics
from crosswind.stream.feed import player
from crosswind.stream.feed.cli import app
from crosswind.stream.feed.player import connect_producer, open_feed, play
from crosswind.stream.feed.rss import FeedState, Outcome, make_client, visit
from tests.unit.feed.test_rss import item, rss

NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)
run = CliRunner().invoke


def consume(kafka: str, topic: str, count: int) -> list[Any]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", consumer_timeout_ms=20_000,
        fetch_max_bytes=4 * MAX_MESSAGE, max_partition_fetch_bytes=2 * MAX_MESSAGE,
    )  # fmt: skip
    found = [record for _, record in zip(range(count), consumer)]
    consumer.close()
    return found


def test_whole_sample_arrives_unchanged(broker: str) -> None:
    ensure_topics(Settings(), broker)
    progress: list[int] = []
    report = play(
        open_feed("sample").rows, broker, Settings(), speed=0, on_progress=progress.append, stop=threading.Event()
    )
    sent = sorted(row.value for row in open_feed("sample").rows)
    assert report.sent == sum(progress) == len(sent)
    assert sorted(record.value for record in consume(broker, "news.raw", len(sent))) == sent


def test_play_command_puts_every_row_somewhere(broker: str, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    good = "wire,Profit,2026-03-02T09:00:00Z"
    path.write_text(f"source,title,published_at\n{good}\nodd\n{good}\n")
    result = run(app, ["feed", "play", str(path), "--kafka", broker, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["sent"] == 2
    assert len(consume(broker, "news.raw", 2)) == 2
    (letter,) = consume(broker, "news.dead", 1)
    assert (letter.value, dict(letter.headers)[REASON]) == (b"odd", b"bad_row")
    assert "line 3: bad_row" in result.stderr


def test_large_row_passes_and_one_that_is_too_large_leaves_a_note(broker: str, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    base = {"source": "wire", "title": "t", "published_at": "2026-03-02T09:00:00Z"}
    rows = [json.dumps({**base, "body": "x" * size}) for size in (2_000_000, MAX_MESSAGE)]
    path.write_text("\n".join(rows))
    ensure_topics(Settings(), broker)
    report = play(
        open_feed(str(path)).rows, broker, Settings(), speed=0, on_progress=lambda n: None, stop=threading.Event()
    )
    assert (report.sent, report.bad) == (1, 1)
    assert [record.value for record in consume(broker, "news.raw", 1)] == [rows[0].encode()]
    (letter,) = consume(broker, "news.dead", 1)
    assert dict(letter.headers)[REASON] == b"too_large"


def test_nobody_at_the_address_is_one_error() -> None:
    with pytest.raises(BrokerError, match="cannot reach Kafka"):
        connect_producer(f"127.0.0.1:{free_port()}", bootstrap_seconds=0.5)


def test_broker_that_dies_is_an_error_with_the_count(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "log")
    address = broker.start()
    ensure_topics(Settings(), address)
    producer = connect_producer(address, delivery_seconds=1.0)

    def stop_early(confirmed: int) -> None:
        broker.stop()

    try:
        with pytest.raises(BrokerError, match="rows"):
            play(
                open_feed("sample").rows, address, Settings(), speed=36_000, on_progress=stop_early,
                stop=threading.Event(), producer=producer,
            )  # fmt: skip
    finally:
        broker.stop()


class _Site(BaseHTTPRequestHandler):
    """/rss answers conditional requests; /huge drips without end; every other path fails."""

    before: Callable[[str], None] = staticmethod(lambda path: None)
    """Called with the path before an answer."""

    def do_GET(self) -> None:
        self.before(self.path)
        if self.path == "/rss" and self.headers.get("If-None-Match") == '"one"':
            self._answer(304, b"")
        elif self.path == "/rss":
            self._answer(200, rss(item(1), item(2)), ETag='"one"')
        elif self.path == "/huge":
            self._answer(200, b"x" * 500_000)
        else:
            self._answer(500, b"")

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_conditional_get_over_the_wire(site: str) -> None:
    with make_client() as client:
        first = visit(client, FeedState(f"{site}/rss"), NOW)
        second = visit(client, first.state, NOW)
    assert (first.report.rows, second.report.outcome) == (2, Outcome.UNCHANGED)


def test_oversize_and_failure_back_off_over_the_wire(site: str) -> None:
    with make_client() as client:
        huge = visit(client, FeedState(f"{site}/huge"), NOW, max_bytes=100_000)
        failed = visit(client, FeedState(f"{site}/gone"), NOW)
        again = visit(client, failed.state, NOW + timedelta(seconds=5))
    assert huge.report.outcome is Outcome.TOO_LARGE
    assert (failed.report.detail, again.report.outcome) == ("HTTP 500", Outcome.BACKING_OFF)


def test_rss_command_sends_what_is_new_and_remembers(broker: str, site: str, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    command = ["feed", "rss", f"{site}/rss", f"{site}/gone", "--kafka", broker, "--state", str(state), "--json"]
    first, second = run(app, command), run(app, command)
    assert first.exit_code == second.exit_code == 0
    outcomes = [[json.loads(line)["outcome"] for line in result.stdout.splitlines()] for result in (first, second)]
    assert outcomes == [["new", "failed"], ["unchanged", "backing_off"]]
    assert sorted(record.key for record in consume(broker, "news.raw", 2)) == [b"g1", b"g2"]


@pytest.fixture
def outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a broker that is away for the first round and back for the second; the third is told to stop."""
    broker, tries, rounds = EmbeddedBroker(tmp_path / "broker.log"), itertools.count(1), itertools.count(1)
    address = broker.start()

    def connect(*arguments: Any, **options: Any) -> player.Producer:
        if next(tries) == 1:
            broker.stop()
        elif not broker.running:
            ensure_topics(Settings(), broker.start())
        return connect_producer(*arguments, **options, bootstrap_seconds=0.5)

    def before(path: str) -> None:
        if path == "/rss" and next(rounds) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(embedded, "free_port", lambda: int(address.split(":")[1]))
    monkeypatch.setattr(player, "connect_producer", connect)
    monkeypatch.setattr(_Site, "before", staticmethod(before))
    yield address
    broker.stop()


def test_rss_in_rounds_outlives_a_broker_that_is_away(outage: str, site: str, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    command = ["feed", "rss", f"{site}/rss", f"{site}/gone", "--kafka", outage, "--state", str(state), "--json"]
    result = run(app, [*command, "--every", "0.1"])
    assert result.exit_code == 0, result.output
    assert "cannot reach Kafka" in result.stderr
    assert "next round" in result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(visited["url"][-4:], visited["outcome"]) for visited in found] == [
        ("gone", "failed"), ("/rss", "new"), ("gone", "backing_off"),
    ]  # fmt: skip
    assert sorted(record.key for record in consume(outage, "news.raw", 2)) == [b"g1", b"g2"]


def test_a_single_round_of_rss_ends_with_the_broker(outage: str, site: str, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    result = run(app, ["feed", "rss", f"{site}/rss", "--kafka", outage, "--state", str(state)])
    assert isinstance(result.exception, BrokerError)
    assert not state.exists()
