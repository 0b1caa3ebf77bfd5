"""`crosswind feed`: play files, read RSS, read GDELT, check files."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crosswind.errors import BrokerError, ContractError, DataError, SettingsError
from crosswind.running import read_running
from crosswind.settings import Settings, load_settings
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import decode_raw
from crosswind.stream.domain.validate import Limits, to_article
from crosswind.stream.feed.gdelt import read_gdelt
from crosswind.stream.feed.player import Feed, PlayReport, open_feed, play
from crosswind.stream.feed.rows import AnyRow, BadRow
from crosswind.stream.feed.rss import FeedReport, FeedState, check_address, make_client, visit
from crosswind.stream.feed.state import load_states, save_states

SHOWN = 20
"""Bad rows that are printed; the count tells of the others."""

app = typer.Typer(no_args_is_help=True)
feed = typer.Typer(help="Bring articles to Kafka: files, RSS and Atom, GDELT.", no_args_is_help=True)
app.add_typer(feed, name="feed")

Kafka = Annotated[str | None, typer.Option(help="host:port[,host:port] [default: that of the running `crosswind up`]")]
Topic = Annotated[str | None, typer.Option(help="topic for the articles [default: news.raw]")]
Speed = Annotated[str, typer.Option(help="event seconds played per second; max: as fast as possible")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script, no progress bar")]


@feed.command("play")
def play_command(
    name: Annotated[str, typer.Argument(metavar="FILE", help="a JSONL, CSV or Parquet file, or `sample`")] = "sample",
    kafka: Kafka = None,
    topic: Topic = None,
    speed: Speed = "max",
    as_json: AsJson = False,
) -> None:
    """Play a file's articles in event-time order. What is no article ends in news.dead and is named here."""
    settings, address = _target(kafka, topic)
    _play(open_feed(name), settings, address, _speed(speed), as_json)


@feed.command("gdelt")
def gdelt_command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="a GDELT GKG 2.1 file: .csv, .csv.zip, .csv.gz")],
    kafka: Kafka = None,
    topic: Topic = None,
    speed: Speed = "max",
    as_json: AsJson = False,
) -> None:
    """Play the articles of a GDELT Global Knowledge Graph 2.1 file."""
    settings, address = _target(kafka, topic)
    _play(Feed(None, read_gdelt(path)), settings, address, _speed(speed), as_json)


@feed.command("rss")
def rss_command(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="addresses of RSS or Atom feeds")],
    kafka: Kafka = None,
    topic: Topic = None,
    every: Annotated[float, typer.Option(help="seconds between two rounds; 0: one round", min=0)] = 0,
    state: Annotated[Path | None, typer.Option(help="file that remembers what was seen, between runs")] = None,
    as_json: AsJson = False,
) -> None:
    """Read RSS and Atom feeds, politely. Exit status 1 when every feed failed in a single round.

    With --every a round that Kafka did not take is said, and sent again with the next one.
    """
    for url in urls:
        check_address(url)
    settings, address = _target(kafka, topic)
    states = load_states(state) if state else {}
    with make_client() as client, _stop_on_signals() as stop:
        while not stop.is_set():
            visits = [visit(client, states.get(url, FeedState(url)), datetime.now(UTC)) for url in dict.fromkeys(urls)]
            rows = [row for found in visits for row in found.rows]
            try:
                if rows:
                    play(rows, address, settings, speed=0, on_progress=lambda n: None, stop=stop, on_bad=_name_bad)
            except BrokerError as error:
                if every == 0:
                    raise
                typer.echo(f"crosswind: {error}; the next round is in {every:g} s", err=True)
                visits = [found for found in visits if not found.rows]  # the old state lets the others' be sent again
            if stop.is_set():  # perhaps not everything was sent: the old state lets it be sent again
                break
            states |= {found.state.url: found.state for found in visits}
            if state:
                save_states(state, states)
            for found in visits:
                typer.echo(json.dumps(asdict(found.report)) if as_json else _describe(found.report))
            if every == 0:
                raise typer.Exit(1 if all(found.state.failures for found in visits) else 0)
            stop.wait(every)


@feed.command("check")
def check_command(
    name: Annotated[str, typer.Argument(metavar="FILE", help="a JSONL, CSV or Parquet file, or `sample`")],
    as_json: AsJson = False,
) -> None:
    """Check a file as the worker would, without sending anything. Exit status 3 when a row is no article."""
    settings, now = load_settings(), datetime.now(UTC)
    opened = open_feed(name)
    good, bad = 0, []
    with _progress("check", opened.total, as_json) as advance:
        for row in opened.rows:
            error = problem(row, settings, now)
            good += error is None
            if error is not None:
                bad.append({"line": row.line, "reason": error.reason.value, "message": str(error)})
            advance(1)
    if as_json:
        typer.echo(json.dumps({"file": name, "good": good, "bad": len(bad), "rows": bad}, ensure_ascii=False))
    else:
        for item in bad[:SHOWN]:
            typer.echo(f"line {item['line']}: {item['reason']}: {item['message']}")
        typer.echo(f"{name}: {good:,} articles, {len(bad):,} bad rows")
    raise typer.Exit(DataError.exit_code if bad else 0)


def problem(row: AnyRow, settings: Settings, now: datetime) -> ContractError | None:
    """Why the worker would dead-letter a row that it received at `now`; None when it would not."""
    if isinstance(row, BadRow):
        return row.error
    limits = Limits(settings.max_bytes, timedelta(seconds=settings.future_seconds))
    try:
        raw = decode_raw(row.value, settings.max_bytes)
        to_article(raw, origin=Origin("check", 0, row.line), seen_at=now, limits=limits, detect=lambda text: "und")
    except ContractError as error:
        return error
    return None


def _target(kafka: str | None, topic: str | None) -> tuple[Settings, str]:
    settings = load_settings({"kafka": kafka, "raw_topic": topic})
    address = settings.kafka or read_running(settings.data_dir).get("kafka")
    if not address:
        raise SettingsError("no Kafka to send to: start `crosswind up`, or pass --kafka host:port")
    ensure_topics(settings, str(address))
    return settings, str(address)


def _speed(text: str) -> float:
    try:
        speed = 0.0 if text == "max" else float(text)
    except ValueError:
        speed = -1.0
    if not speed >= 0:
        raise SettingsError(f"--speed {text}: expected event seconds per second, e.g. 3600, or max")
    return speed


def _play(opened: Feed, settings: Settings, kafka: str, speed: float, as_json: bool) -> None:
    shown = _Shown()
    with _stop_on_signals() as stop, _progress("feed", opened.total, as_json) as advance:
        report = play(
            opened.rows, kafka, settings, speed=speed, on_progress=advance, stop=stop, on_bad=shown.name
        )  # fmt: skip
    typer.echo(json.dumps(asdict(report)) if as_json else _summary(report, settings))
    raise typer.Exit(130 if report.stopped else 0)


def _summary(report: PlayReport, settings: Settings) -> str:
    end = "stopped" if report.stopped else "done"
    bad = f", {report.bad:,} bad rows (see {settings.dead_topic})" if report.bad else ""
    return f"{end}: {report.sent:,} articles in {settings.raw_topic}{bad}, {report.seconds:.1f} s"


def _describe(report: FeedReport) -> str:
    found = f"{report.rows} new" + (f", {report.bad} bad" if report.bad else "")
    return f"{report.url}: {report.outcome.value}: {report.detail or found}"


def _name_bad(row: BadRow) -> None:
    typer.echo(f"line {row.line}: {row.error.reason.value}: {row.error}", err=True)


class _Shown:
    """Names the first bad rows on stderr."""

    def __init__(self) -> None:
        self._left = SHOWN

    def name(self, row: BadRow) -> None:
        if self._left > 0:
            _name_bad(row)
        self._left -= 1


@contextlib.contextmanager
def _progress(name: str, total: int | None, quiet: bool) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda n: progress.advance(task, n)


@contextlib.contextmanager
def _stop_on_signals(numbers: Iterable[int] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that what was handed over is confirmed before we leave."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
