"""Options that the commands of replay and backtest share, and what they show while they work."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from crosswind.errors import SettingsError
from crosswind.settings import Settings, load_settings
from crosswind.stream.replay.stage import Clock

Feed = Annotated[str, typer.Argument(
    metavar="FEED", help="files (a file, folder or glob of .jsonl, .csv, .parquet; text may be packed), `sample`, "
    "store[:RUN], or kafka:TOPIC")]  # fmt: skip
Rules = Annotated[Path | None, typer.Option(help="a rule file [default: the shipped rules]")]
Since = Annotated[str | None, typer.Option(help="first moment of event time, e.g. 2026-03-01T00:00:00Z")]
Until = Annotated[str | None, typer.Option(help="event time before which it ends")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="only this topic; may be repeated")]
Langs = Annotated[list[str] | None, typer.Option("--lang", help="only this language; may be repeated")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="only this source; may be repeated")]
AsOf = Annotated[
    str | None,
    typer.Option(help="what was known then: articles received by this moment, each as its newest version of then"),
]
When = Annotated[Clock, typer.Option("--clock", help="published: articles count at their event time; known: not "
                                     "before they were received")]  # fmt: skip
Model = Annotated[str | None, typer.Option(help="score every article anew with this bundle; without it, articles "
                                           "keep the scores they have")]  # fmt: skip
Scores = Annotated[str | None, typer.Option(help="store: take the scores of this bundle's version where "
                                            "`crosswind rescore` made them")]  # fmt: skip
From = Annotated[str | None, typer.Option("--from", help="kafka: first record, a moment or an offset")]
To = Annotated[str | None, typer.Option("--to", help="kafka: record before which it ends, a moment or an offset")]
Kafka = Annotated[str | None, typer.Option(help="host:port[,host:port] [default: that of the running `crosswind up`]")]
Database = Annotated[str | None, typer.Option("--database-url", help="postgresql://… [default: the running one's]")]
DataDir = Annotated[Path | None, typer.Option(help="where runs are kept [default: .crosswind]")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script, no progress bar")]
Speed = Annotated[str, typer.Option(help="event seconds per second, e.g. 1 or 3600; max: as fast as possible")]
Through = Annotated[bool, typer.Option("--through-kafka", help="through broker, agents and database, into rows and "
                                       "topics of the run's own")]  # fmt: skip
Partitions = Annotated[int, typer.Option(help="partitions of the run's topics", min=1)]
Notify = Annotated[bool, typer.Option("--notify", help="through Kafka: alerts go to the live topic, not the run's own")]
Batch = Annotated[int, typer.Option(help="articles taken in at once at most; 0: no bound", min=0)]
Workers = Annotated[int, typer.Option(help="processes, at full speed and for long feeds; 0: one per core", min=0)]
Resume = Annotated[bool, typer.Option("--resume", help="go on with a run that was stopped or killed")]
RunName = Annotated[str | None, typer.Option("--run", help="the run's id [default: made from the time]")]


def settings_with(kafka: str | None, database_url: str | None, data_dir: Path | None) -> Settings:
    """The settings, completed by the addresses of the `crosswind up` that runs."""
    from crosswind.cli import with_running

    return with_running(load_settings({"kafka": kafka, "database_url": database_url, "data_dir": data_dir}))


def moment_of(value: str | None) -> datetime | None:
    """An aware moment of RFC 3339 text, UTC where it names no zone.

    Raises:
        SettingsError: it is none.
    """
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise SettingsError(f"{value!r} is no moment; write e.g. 2026-03-01T00:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def speed_of(text: str) -> float:
    """Event seconds per second; 0 for `max`.

    Raises:
        SettingsError: it is neither.
    """
    try:
        speed = 0.0 if text == "max" else float(text.removesuffix("x"))
    except ValueError:
        speed = -1.0
    if not 0 <= speed < float("inf"):
        raise SettingsError(f"--speed {text}: expected event seconds per second, e.g. 1 or 3600, or max")
    return speed


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar that learns its length later."""

    total: Callable[[int, int], None]
    advance: Callable[[int], None]


@contextlib.contextmanager
def progress_bar(name: str, quiet: bool) -> Iterator[Bar]:
    """Articles done of all, per second, and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               _Rate(), TimeRemainingColumn())  # fmt: skip
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        task = progress.add_task(name, total=None)

        def total(rows: int, done: int) -> None:
            progress.update(task, total=rows, completed=done)

        yield Bar(total, lambda n: progress.advance(task, n))


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one ends at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Rate(TextColumn):
    """Articles per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """Nothing before the first are done."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
