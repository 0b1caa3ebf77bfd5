"""`crosswind up`, as a user starts it: real broker, database, worker, dashboard and feed; Ctrl-C leaves nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from crosswind.running import read_running
from crosswind.settings import Settings
from crosswind.up import _AlertPrinter, _FeedThread
from tests.notify_helpers import alert, fire
from tests.processes import wait_for

ARTICLES = 400


def _write_feed(path: Path) -> None:
    """Thirteen quiet hours of bank news, then a run on a bank: a surge that the first rule must see."""
    start = datetime(2026, 3, 2, tzinfo=UTC)
    moments = [start + timedelta(minutes=3 * n) for n in range(300)]
    crisis = start + timedelta(hours=13)
    moments += [crisis + timedelta(seconds=30 * n) for n in range(ARTICLES - len(moments))]
    with path.open("w", encoding="utf-8") as out:
        for number, moment in sorted(enumerate(moments), key=lambda pair: pair[1]):
            mood = "fails" if number >= 300 else ("falls" if number % 6 == 0 else "rises")
            row = {"id": str(number), "source": f"s{number % 11}", "title": f"bank {mood} number {number}",
                   "published_at": moment.isoformat(), "lang": ("en", "de", "fr")[number % 3]}  # fmt: skip
            out.write(json.dumps(row) + "\n")


class Up:
    """A running `crosswind up` and what it has printed so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process, self._log = process, log

    @property
    def output(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def address(self) -> str:
        return next(line.split()[1] for line in self.output.splitlines() if line.startswith("dashboard: "))


@contextmanager
def _up(folder: Path, bundle: Path, *options: str) -> Iterator[Up]:
    log = folder / f"up-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "crosswind", "up", "--data-dir", str(folder / "data"), "--port", "0",
               "--model", str(bundle), *options]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        up = Up(process, log)
        wait_for(lambda: "dashboard: " in up.output or process.poll() is not None, 90, f"it starts; see {log}")
        assert process.poll() is None, up.output
        yield up
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)


def _stop(up: Up) -> None:
    """Ctrl-C, twice, as an impatient person presses it."""
    started = time.monotonic()
    os.killpg(up.process.pid, signal.SIGINT)
    time.sleep(0.3)  # the second Ctrl-C must come while it is stopping
    if up.process.poll() is None:
        os.killpg(up.process.pid, signal.SIGINT)
    assert up.process.wait(20) == 0, up.output
    assert time.monotonic() - started < 10


def _left(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words and process.pid != os.getpid() and "pytest" not in words:
            found.append(words)
    return found


def _status(data: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "crosswind", "status", "--data-dir", str(data), "--json"]
    found: dict[str, object] = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    return found


def test_up_alerts_stops_and_goes_on(tmp_path: Path, tiny_bundle: Path) -> None:
    feed = tmp_path / "feed.jsonl"
    _write_feed(feed)
    with _up(tmp_path, tiny_bundle, "--feed", str(feed), "--speed", "4000") as up:
        wait_for(lambda: "\nALERT " in up.output, 90, "an alert on a line of its own")
        wait_for(lambda: "the feed has ended" in up.output, 60, "the feed ends")
        running = json.loads((tmp_path / "data" / "up.json").read_text())
        engine = create_engine(make_url(running["database_url"]).set(drivername="postgresql+psycopg"))

        def stored() -> int:
            with engine.connect() as connection:
                return int(connection.execute(text("SELECT count(*) FROM article")).scalar_one())

        wait_for(lambda: stored() == ARTICLES, 60, "every article is stored")
        engine.dispose()
        assert httpx.get(up.address() + "api/v1/incidents").status_code == 200
        status = _status(tmp_path / "data")
        assert status["ok"], status
        _stop(up)
    assert _left(tmp_path / "data") == []
    with _up(tmp_path, tiny_bundle, "--no-feed") as up:
        status = _status(tmp_path / "data")
        assert status["database"]["articles"] == ARTICLES  # type: ignore[index]
        _stop(up)
    assert _left(tmp_path / "data") == []


def test_a_killed_worker_is_started_again_and_nothing_is_lost(tmp_path: Path, tiny_bundle: Path) -> None:
    feed = tmp_path / "feed.jsonl"
    _write_feed(feed)
    with _up(tmp_path, tiny_bundle, "--feed", str(feed), "--speed", "6000") as up:
        worker = next(child for child in psutil.Process(up.process.pid).children() if "worker" in child.cmdline())
        worker.kill()
        wait_for(lambda: "was started again" in up.output, 30, "the worker is started again")
        wait_for(lambda: _status(tmp_path / "data").get("database", {}).get("articles") == ARTICLES, 90, "all stored")  # type: ignore[attr-defined]
        _stop(up)
    assert _left(tmp_path / "data") == []


def test_a_dead_embedded_postgres_ends_all(tmp_path: Path, tiny_bundle: Path) -> None:
    with _up(tmp_path, tiny_bundle, "--no-feed") as up:
        os.kill(int((tmp_path / "data" / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        wait_for(lambda: up.process.poll() is not None, 30, "it ends")
        assert up.process.returncode == 7
        assert "the embedded Postgres died" in up.output.splitlines()[-1]
    assert _left(tmp_path / "data") == []


def test_up_in_a_folder_with_a_space_and_a_worker_elsewhere(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSWIND_WORKER_HOST", "127.0.0.2")
    folder = tmp_path / "a b"
    folder.mkdir()
    with _up(folder, tiny_bundle, "--no-feed") as up:
        status = _status(folder / "data")
        assert status["ok"], status
        _stop(up)
    assert _left(folder / "data") == []


def test_a_database_that_is_away_is_said_once(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    printer, asked = _AlertPrinter(engine, "live"), 0  # it dies as early as that: before the first look
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE transition RENAME TO gone"))

    def waits_long() -> bool:
        nonlocal asked
        asked += 1
        printer.once()
        return printer._pause > 0.3

    wait_for(waits_long, 20, "it asks again, at ever longer pauses")
    assert capsys.readouterr().out.count("waiting for the database") == 1 < asked
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO transition"))
    wait_for(lambda: printer.once() is None and printer._pause == 0, 20, "it goes on")


def test_a_crisis_is_printed_once_by_whatever_is_not_silenced(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    printer = _AlertPrinter(engine, "live")
    printer.once()
    fire(engine, alert(1, topic="*", entity="Tesla", silenced=True), alert(2, "inc2", group="inc1", leads=False),
         alert(3, "inc3", topic="fraud", group="inc1", leads=False))  # fmt: skip
    printer.once()
    assert capsys.readouterr().out.count("\n") == 1
    after = _AlertPrinter(engine, "live")  # as after a restart
    after.once()
    assert not capsys.readouterr().out
    fire(engine, alert(4, "inc2", group="inc1", leads=False, state="resolved", cause="resolved"))
    after.once()
    assert capsys.readouterr().out.startswith("resolved")


def test_whatever_ends_a_feed_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("a text of a stranger")

    monkeypatch.setattr("crosswind.up.open_feed", broken)
    feed = _FeedThread(Settings(_env_file=None), "127.0.0.1:1")
    feed.start()
    feed.join()
    feed.report()
    said = capsys.readouterr().out
    assert "the feed stopped (RuntimeError)" in said
    assert "stranger" not in said


def test_a_second_up_on_one_folder_is_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    with _up(tmp_path, tiny_bundle, "--no-feed") as up:
        command = [sys.executable, "-m", "crosswind", "up", "--data-dir", str(tmp_path / "data"), "--no-feed",
                   "--model", str(tiny_bundle)]  # fmt: skip
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (second.returncode, second.stderr.count("\n")) == (7, 1)
        assert str(up.process.pid) in second.stderr
        _stop(up)


def _refused(*options: str) -> "subprocess.CompletedProcess[str]":
    """An `up` that is not to start anything."""
    command = [sys.executable, "-m", "crosswind", "up", "--no-feed", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_up_whose_port_another_has_starts_nothing(tmp_path: Path, tiny_bundle: Path) -> None:
    data = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        found = _refused("--data-dir", str(data), "--model", str(tiny_bundle), "--port", port)
    assert (found.returncode, found.stderr.count("\n")) == (7, 1), found.stderr
    assert f"127.0.0.1:{port}" in found.stderr
    assert "--port" in found.stderr
    assert not (data / "postgres").exists()
    assert read_running(data) == {}


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "file").write_text("x")
    found = _refused("--data-dir", str(tmp_path / "file"), "--model", str(tiny_bundle), "--port", "0")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1), found.stderr
    assert "--data-dir" in found.stderr
