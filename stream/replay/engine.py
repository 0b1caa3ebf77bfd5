"""The replay's own loop: takes a staged feed in, in event time, and lets the alert engine evaluate what has closed.

The engine is the live one (`service.alerting.AlertEngine`). Only its store differs, and any cut of the feed into
batches and ticks gives the same transitions; so speed, batches and kills do not show in the log.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from crosswind.errors import DataError
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.memory import from_json, to_json
from crosswind.stream.domain.panel import LOOKBACK
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.replay.ledger import Ledger
from crosswind.stream.replay.ledger_store import LedgerStore
from crosswind.stream.replay.log import Numbers, line
from crosswind.stream.replay.stage import Stage
from crosswind.stream.service.alerting import LATE, AlertEngine, Progress

STEP = timedelta(hours=12)
"""Event time that is taken in between two ticks at full speed."""
SAVE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Event seconds per second; 0: as fast as possible. Clock and wait are passed in."""

    speed: float = 0.0
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], object] = time.sleep


@dataclass(slots=True)
class Track:
    """One set of rules at work on a ledger, with the transitions so far."""

    engine: AlertEngine
    store: LedgerStore
    sink: Callable[[Alert], None]

    def tick(self) -> None:
        """Evaluates all that has closed."""
        before = None
        while before != (now := self.store.state and self.store.state.evaluated_to) or before is None:
            before = now
            for alert in self.engine.tick():
                self.sink(alert)
            if self.store.state is None:
                return


@dataclass(slots=True)
class Replayer:
    """Replays tables of articles that ascend by `event_at`, through one or more sets of rules.

    Attributes:
        batch: articles taken in at once at most; 0: no bound.
        progress: told how many more articles are done.
    """

    ledger: Ledger
    tracks: list[Track]
    pace: Pace = field(default_factory=Pace)
    batch: int = 0
    progress: Callable[[int], None] = lambda n: None
    stop: Callable[[], bool] = lambda: False
    after: Callable[[], None] = lambda: None
    _zero: tuple[float, float] | None = None

    def play(self, tables: Iterable[pa.Table]) -> bool:
        """Plays to the end; returns False when it was stopped before."""
        for table in tables:
            for piece in self.cut(table):
                if self.stop():
                    return False
                self.hold(piece["event_at"][0].as_py())
                self.ledger.take(piece)
                for track in self.tracks:
                    track.tick()
                done = [track.store.state.evaluated_to for track in self.tracks if track.store.state]
                if done:
                    self.ledger.forget_before(min(done))
                self.progress(len(piece))
                self.after()
        return True

    def cut(self, table: pa.Table) -> Iterator[pa.Table]:
        """Pieces of one step of event time at most: a minute where the speed is held, half a day else."""
        step = STEP if self.pace.speed <= 0 else timedelta(minutes=1)
        cells = table["event_at"].cast(pa.int64()).to_numpy() // (step // timedelta(microseconds=1))
        edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(table)]
        for first, end in itertools.pairwise(edges):
            size = self.batch or max(end - first, 1)
            for start in range(first, end, size):
                yield table.slice(start, min(size, end - start))

    def hold(self, at: datetime) -> None:
        """Waits until this moment of event time has come."""
        if self.pace.speed <= 0:
            return
        if self._zero is None:
            self._zero = at.timestamp(), self.pace.clock()
        due = self._zero[1] + (at.timestamp() - self._zero[0]) / self.pace.speed
        while (left := due - self.pace.clock()) > 0 and not self.stop():
            self.pace.wait(min(left, 0.5))


def track(ledger: Ledger, run: str, rules: RuleSet, lateness: timedelta, sink: Callable[[Alert], None]) -> Track:
    """Rules at work from the beginning."""
    store = LedgerStore(ledger)
    return Track(AlertEngine(store, run, lateness, 0.0, lambda: rules), store, sink)


@dataclass(slots=True)
class LogFile:
    """The run's alert log and how far it is: both survive a SIGKILL, and go on from there.

    The order: lines are appended and synced, then the checkpoint that counts them replaces the former one. What was
    appended after the last checkpoint is cut off when the run is resumed, and comes again, the same.
    """

    folder: Path
    numbers: Numbers = field(default_factory=Numbers)
    clock: Callable[[], float] = time.monotonic
    every: float = SAVE_SECONDS
    _waiting: list[bytes] = field(default_factory=list)
    _saved: float = float("-inf")

    @property
    def log(self) -> Path:
        """Canonical JSON Lines."""
        return self.folder / "alerts.jsonl"

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.json"

    def add(self, alert: Alert) -> None:
        """Notes an alert; it is in the file with the next checkpoint."""
        self._waiting.append(line(alert, self.numbers))

    def save(self, store: LedgerStore, *, force: bool = False) -> None:
        """Writes what is waiting and how far it is, every few seconds."""
        if store.state is None or (not force and self.clock() - self._saved < self.every):
            return
        with self.log.open("ab") as file:
            file.write(b"".join(self._waiting))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        self._waiting.clear()
        state = store.state
        content = {
            "bytes": size, "seq": store.seq, "ids": self.numbers.ids, "evaluated_to": state.evaluated_to.isoformat(),
            "memory": to_json(state.memory), "counts": {str(hour): n for hour, n in state.counts.items()},
            "watermark": _times(store.ledger),
        }  # fmt: skip
        temporary = self._checkpoint.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(content))
        temporary.replace(self._checkpoint)
        self._saved = self.clock()

    def resume(self, store: LedgerStore) -> datetime | None:
        """Brings store and log to the last checkpoint; returns its minute, None when there is none.

        Raises:
            DataError: the checkpoint cannot be read.
        """
        if not self._checkpoint.exists():
            self.log.write_bytes(b"")
            return None
        try:
            found: dict[str, Any] = json.loads(self._checkpoint.read_bytes())
            with self.log.open("r+b") as file:
                file.truncate(found["bytes"])
            self.numbers.ids = dict(found["ids"])
            at = datetime.fromisoformat(found["evaluated_to"])
            counts = {int(hour): int(n) for hour, n in found["counts"].items()}
            store.state, store.seq = Progress(at, from_json(found["memory"]), counts), found["seq"]
        except (OSError, ValueError, KeyError, msgspec.ValidationError) as error:
            raise DataError(f"{self._checkpoint} cannot be read ({error}); delete the run and begin anew") from None
        return at


def _times(ledger: Ledger) -> str | None:
    mark = ledger.watermark.event_time
    return mark.isoformat() if mark else None


def warm(replayer: Replayer, stage: Stage, evaluated_to: datetime) -> None:
    """Takes in again what the engine may still ask for, up to where a resumed run stood, without evaluating it."""
    for table in stage.read(evaluated_to - LOOKBACK - LATE):
        micros = table["event_at"].cast(pa.int64()).to_numpy()
        known = int(np.searchsorted(micros, int((evaluated_to + timedelta(minutes=1)).timestamp() * 1_000_000)))
        if known:
            replayer.ledger.take(table.slice(0, known))
        if known < len(table):
            return
