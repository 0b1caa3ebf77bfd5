"""One backtest that the pages asked for, in a process of its own: `python -m crosswind.dashboard.backtest_job FOLDER`.

The folder holds `job.json` and the files that it names; `progress.json` says how far it is, and what went wrong. What
comes out is kept in the database by the folder's name. Address and model come from the environment, as for every
process of ours.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from crosswind.errors import CrosswindError, DataError
from crosswind.settings import Settings, load_settings

EVERY: Final = 0.5
"""Seconds between two notes of progress."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backtest is.

    Attributes:
        state: `running`, `done` or `failed`; the reader adds `stopped` for one whose process is gone.
        done, total: articles; total is 0 while they are read.
        problem: why it failed.
    """

    state: str
    done: int = 0
    total: int = 0
    problem: str = ""


def write_progress(folder: Path, progress: Progress) -> None:
    """Notes it; a reader sees the old one or the new one, whole."""
    draft = folder / "progress.json.new"
    draft.write_text(json.dumps(asdict(progress)), "utf-8")
    draft.replace(folder / "progress.json")


def read_progress(folder: Path) -> Progress | None:
    """The last note; None where there is none that can be read."""
    try:
        return Progress(**json.loads((folder / "progress.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Notes:
    """Counts articles and writes them down now and then."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._done, self._total, self._last = 0, 0, float("-inf")

    def total(self, rows: int) -> None:
        """How many there are."""
        self._total = rows
        write_progress(self._folder, Progress("running", self._done, rows))

    def advance(self, rows: int) -> None:
        """So many more are done."""
        self._done += rows
        if self._clock() - self._last >= EVERY:
            self._last = self._clock()
            write_progress(self._folder, Progress("running", self._done, self._total))


def run(folder: Path, settings: Settings) -> None:
    """Works, and keeps what comes out.

    Raises:
        CrosswindError: rules, feed, truth or database cannot be used.
    """
    from crosswind.dashboard.running_backtests import Asked
    from crosswind.stream.adapters.postgres.engine import connect
    from crosswind.stream.adapters.postgres.runs import save_backtest
    from crosswind.stream.bootstrap import database_address
    from crosswind.stream.replay import runs as records
    from crosswind.stream.replay.columns import Filter
    from crosswind.stream.replay.job import Job
    from crosswind.stream.replay.notebook import backtest
    from crosswind.stream.replay.options import moment_of
    from crosswind.stream.replay.report import as_html
    from crosswind.stream.replay.topic import Stretch

    asked, notes = Asked(**json.loads((folder / "job.json").read_text("utf-8"))), Notes(folder)
    record = records.Run("backtest", "in-process", {"feed": asked.feed, "model": None, "scores": None},
                         records.RUNNING, "")  # fmt: skip
    wanted = Filter(moment_of(asked.since or None), moment_of(asked.until or None))
    rules = [str(folder / name) if name.endswith(".yaml") else name for name in asked.rules]
    source = Job(settings, record, wanted, Stretch(), True).open()
    result = backtest(*rules, feed=source, truth=folder / asked.truth, budgets=False, stories=settings.stories,
                      progress=notes.advance, total=notes.total)  # fmt: skip
    engine = connect(database_address(settings))
    try:
        save_backtest(engine, folder.name, result.found.title.replace(f"{folder}/", ""),
                      _plain(result.summary(), folder), as_html(result.found).replace(f"{folder}/", ""))  # fmt: skip
    finally:
        engine.dispose()
    notes.total(result.found.count)
    write_progress(folder, Progress("done", result.found.count, result.found.count))


def _plain(summary: dict[str, object], folder: Path) -> dict[str, object]:
    """The figures without paths of this machine."""
    found: dict[str, object] = json.loads(json.dumps(summary, default=str).replace(f"{folder}/", ""))
    return found


def main(folder: Path) -> int:
    """Works; returns the exit status. What went wrong is in the progress note."""
    os.nice(10)  # the live engine goes first
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        run(folder, load_settings())
    except CrosswindError as error:
        return _failed(folder, str(error), error.exit_code)
    except Exception as error:  # the page must not wait for ever; the log has the traceback
        _failed(folder, f"it ended by a fault of ours, {type(error).__name__}; see log.txt of its folder", 1)
        raise
    return 0


def _end_with(parent: int) -> None:
    """Ends when the dashboard is gone. (The kernel's own signal for that is sent when the *thread* ends that started
    us, and a web server's threads come and go.)"""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _failed(folder: Path, problem: str, status: int) -> int:
    known = read_progress(folder) or Progress("running")
    write_progress(folder, Progress("failed", known.done, known.total, problem))
    return status


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise DataError("usage: python -m crosswind.dashboard.backtest_job FOLDER")
    sys.exit(main(Path(sys.argv[1])))
