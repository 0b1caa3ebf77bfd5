"""Backtests that the pages start: a process each, one at a time, and what is known of all of them."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, select, tuple_

from crosswind.dashboard.backtest_job import Progress, read_progress, write_progress
from crosswind.errors import DataError, SettingsError
from crosswind.locks import is_held
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.run_tables import BacktestRow
from crosswind.stream.replay.options import moment_of
from crosswind.stream.replay.truth import load_truth
from crosswind.stream.service.rules import parse_rules, rule_set

FOLDER: Final = "backtests"
LOCK: Final = "lock"
"""A file in a backtest's folder that is locked for as long as the process lives that works on it."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a backtest was started with: names of files in its folder, never paths.

    Attributes:
        rules: `default` or a `.yaml` file each.
        truth: a `.csv` file.
        by: who started it.
    """

    feed: str
    rules: list[str]
    truth: str
    since: str = ""
    until: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A backtest that came to its end, with its figures as in `report.json`."""

    backtest_id: str
    created_at: datetime
    title: str
    summary: Mapping[str, Any]


class Backtests:
    """Methods block; they raise DataError for what cannot be done, DatabaseError when the database is away."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._home = settings.data_dir / FOLDER
        self._lock = threading.Lock()
        self._running: tuple[str, subprocess.Popen[bytes]] | None = None

    def start(self, name: str, asked: Asked, rules: str, truth: str) -> Progress:
        """Starts one.

        Args:
            rules: a rule file's text; empty: the rules in use.
            truth: CSV, as `crosswind backtest --truth` takes it.

        Raises:
            DataError: a name that is taken or will not do, rules, truth or times that cannot be used, or another
                backtest that runs.
        """
        if not _NAME.fullmatch(name):
            raise DataError(f"{name!r} is no name for a backtest: lower-case letters, digits, - and _, 63 at most")
        with self._lock:
            folder = self._home / name
            if folder.exists() or self.kept(name):
                raise DataError(f"there is a backtest {name} already; choose another name")
            if any(one.state == "running" for one in self.unfinished().values()):
                raise DataError("a backtest is running; wait for its end: two at once would starve the live engine")
            try:
                folder.mkdir(parents=True)
                with _locked(folder) as lock:  # before anybody can read that it runs
                    self._prepare(folder, asked, rules, truth)
                    self._running = name, self._spawn(folder, lock)
            except DataError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return Progress("running")

    def progress(self, name: str) -> Progress | None:
        """How far one is that was started in this data folder, by this dashboard or another; None for others."""
        if self._running:
            self._running[1].poll()  # else ours would stay a zombie
        folder = self._home / name
        found = read_progress(folder) if _NAME.fullmatch(name) else None
        if found and found.state == "running" and not is_held(folder / LOCK):
            found = read_progress(folder) or found  # it may have come to its end between the two looks
            if found.state == "running":
                found = replace(found, state="stopped", problem="its process is gone; start it again by another name")
        return found

    def unfinished(self) -> dict[str, Progress]:
        """Those started here that are not kept yet: running, failed or stopped."""
        names = sorted(path.parent.name for path in self._home.glob("*/progress.json"))
        found = {name: self.progress(name) for name in names}
        return {name: one for name, one in found.items() if one and one.state != "done"}

    def list(self, limit: int, before: tuple[datetime, str] | None = None) -> list[Kept]:
        """Those that were kept, newest first, after `before`."""
        query = select(*_COLUMNS).order_by(BacktestRow.created_at.desc(), BacktestRow.backtest_id.desc())
        if before:
            query = query.where(tuple_(BacktestRow.created_at, BacktestRow.backtest_id) < tuple_(*before))
        return [Kept(*row) for row in self._rows(query.limit(limit))]

    def kept(self, name: str) -> Kept | None:
        """One that was kept; None: there is none by that name."""
        rows = self._rows(select(*_COLUMNS).where(BacktestRow.backtest_id == name))
        return Kept(*rows[0]) if rows else None

    def stop(self) -> None:
        """Ends the one that runs; for the end of the server."""
        if self._running and self._running[1].poll() is None:
            self._running[1].terminate()
            self._running[1].wait(10)

    def _prepare(self, folder: Path, asked: Asked, rules: str, truth: str) -> None:
        """Writes its files and looks whether they can be used, so that the answer is at once."""
        (folder / "truth.csv").write_text(truth, "utf-8")
        load_truth(folder / "truth.csv")
        try:
            moment_of(asked.since or None), moment_of(asked.until or None)
            own = rules.encode() or (self._settings.rules.read_bytes() if self._settings.rules else b"")
            if own:
                rule_set(parse_rules(own))
                (folder / "rules.yaml").write_bytes(own)
        except (SettingsError, OSError, UnicodeError) as error:
            raise DataError(str(error)) from None
        names = [*["rules.yaml"] * bool(own), *["default"] * (not own)]
        job = replace(asked, rules=names, truth="truth.csv")
        (folder / "job.json").write_text(json.dumps(asdict(job), indent=1), "utf-8")
        write_progress(folder, Progress("running"))

    def _spawn(self, folder: Path, lock: int) -> subprocess.Popen[bytes]:
        address = self._settings.database_url
        given = {"CROSSWIND_DATA_DIR": str(self._settings.data_dir.resolve()), "CROSSWIND_MODEL": self._settings.model}
        if address:
            given["CROSSWIND_DATABASE_URL"] = address.get_secret_value()
        with (folder / "log.txt").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "crosswind.dashboard.backtest_job", str(folder.resolve())],
                env={**os.environ, **given}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=[lock],
            )  # fmt: skip

    def _rows(self, query: Any) -> Any:
        with database("reading backtests"), self._engine.connect() as connection:
            return connection.execute(query).all()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Locks it, until we and every process that the descriptor was given to have closed it, however they end."""
    with (folder / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


_COLUMNS = (BacktestRow.backtest_id, BacktestRow.created_at, BacktestRow.title, BacktestRow.summary)
