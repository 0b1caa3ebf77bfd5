"""A replay in this process: source → staged feed → alert log, resumable."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.replay.engine import LogFile, Pace, Replayer, track, warm
from crosswind.stream.replay.ledger import Ledger
from crosswind.stream.replay.log import digest, lines
from crosswind.stream.replay.sources import Source
from crosswind.stream.replay.split import WORTH, replay_split
from crosswind.stream.replay.stage import Clock, Stage

LATENESS = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to replay.

    Attributes:
        bad: rows of the source that were no articles, of a feed that is staged already.
        total: told the number of articles before the first is played.
        progress: told how many more are done.
        stories: articles that have a meaning get their story, and rules count stories.
        workers: processes; more than one at full speed only, and a killed replay then begins anew.
    """

    run: str
    rules: RuleSet
    folder: Path
    pace: Pace = field(default_factory=Pace)
    clock: Clock = Clock.PUBLISHED
    lateness: timedelta = LATENESS
    batch: int = 0
    total: Callable[[int, int], None] = lambda rows, done: None
    progress: Callable[[int], None] = lambda n: None
    stop: Callable[[], bool] = lambda: False
    on_alert: Callable[[Alert], None] = lambda alert: None
    save_seconds: float = 2.0
    workers: int = 1
    stories: bool = True
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a replay."""

    finished: bool
    articles: int
    bad: int
    transitions: int
    fired: int
    first: datetime | None
    last: datetime | None
    evaluated_to: datetime | None
    seconds: float
    log: Path
    sha256: str

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        times = {name: at.isoformat() if at else None for name, at in
                 (("first", self.first), ("last", self.last), ("evaluated_to", self.evaluated_to))}  # fmt: skip
        return {
            "articles": self.articles, "bad": self.bad, "transitions": self.transitions, "fired": self.fired, **times,
            "seconds": round(self.seconds, 3), "log": str(self.log), "sha256": self.sha256,
        }  # fmt: skip


def replay_in_process(open_source: Callable[[], Source], plan: Plan) -> Outcome:
    """Replays, or goes on where a killed replay in `plan.folder` was.

    Raises:
        CrosswindError: the source or the run's files cannot be used.
    """
    begun = time.monotonic()
    plan.folder.mkdir(parents=True, exist_ok=True)
    stage = Stage(plan.folder / "staged")
    bad = staged(stage, open_source, plan, plan.stories)
    if bad is None:
        return not_staged(plan, time.monotonic() - begun)
    fresh = not (plan.folder / "checkpoint.json").exists()
    if plan.workers > 1 and plan.pace.speed <= 0 and fresh and stage.rows >= WORTH:
        found = replay_split(plan.folder / "staged", plan.run, plan.rules, plan.lateness, plan.workers, plan.stop)
        if found is None and plan.stop():
            return not_staged(plan, time.monotonic() - begun)
        if found is not None:
            return _written(stage, plan, bad, begun, *found)
    return _play(stage, plan, bad, begun)


def staged(stage: Stage, open_source: Callable[[], Source], plan: Plan, stories: bool) -> int | None:
    """Takes the source in where it was not yet; the number of its rows that were no articles. None: it was stopped."""
    marker = plan.folder / "bad"
    if not stage.whole or not marker.exists():
        (plan.folder / "checkpoint.json").unlink(missing_ok=True)
        source = open_source()
        stage.fill(source.tables, plan.clock, plan.lateness, stories, newest=source.newest, stop=plan.stop)
        if not stage.whole:
            return None
        marker.write_text(str(source.bad))
    return int(marker.read_text() or 0)


def not_staged(plan: Plan, seconds: float) -> Outcome:
    """What came out of a replay that was stopped while its source was taken in, or by several processes: nothing."""
    path = plan.folder / "alerts.jsonl"
    path.write_bytes(b"")
    return Outcome(False, 0, 0, 0, 0, None, None, None, seconds, path, digest(path))


def _written(
    stage: Stage, plan: Plan, bad: int, begun: float, alerts: list[Alert], evaluated_to: datetime | None
) -> Outcome:
    path = plan.folder / "alerts.jsonl"
    path.write_bytes(lines(alerts))
    for alert in alerts:
        plan.on_alert(alert)
    plan.total(stage.rows, stage.rows)
    first, last = stage.span or (None, None)
    fired = sum(alert.cause == "fired" for alert in alerts)
    return Outcome(True, stage.rows, bad, len(alerts), fired, first, last, evaluated_to, time.monotonic() - begun, path,
                   digest(path))  # fmt: skip


def _play(stage: Stage, plan: Plan, bad: int, begun: float) -> Outcome:
    ledger, log = Ledger(plan.rules.languages), LogFile(plan.folder, every=plan.save_seconds)
    one = track(ledger, plan.run, plan.rules, plan.lateness, _both(log.add, plan.on_alert))
    replayer = Replayer(ledger, [one], plan.pace, plan.batch, plan.progress, plan.stop, lambda: log.save(one.store))
    at = log.resume(one.store)
    since = None
    if at is not None:
        warm(replayer, stage, at)
        since = at + timedelta(minutes=1)
    plan.total(stage.rows, stage.count_before(since) if since else 0)
    finished = replayer.play(stage.read(since))
    log.save(one.store, force=True)
    transitions = one.store.seq - 1
    first, last = stage.span or (None, None)
    state = one.store.state
    fired = log.log.read_bytes().count(b'"cause":"fired"')
    return Outcome(finished, stage.rows, bad, transitions, fired, first, last, state.evaluated_to if state else None,
                   time.monotonic() - begun, log.log, digest(log.log))  # fmt: skip


def _both(first: Callable[[Alert], None], second: Callable[[Alert], None]) -> Callable[[Alert], None]:
    def call(alert: Alert) -> None:
        first(alert)
        second(alert)

    return call


def forget_stage(folder: Path) -> None:
    """Removes the staged feed of a finished run; its log stays."""
    shutil.rmtree(folder / "staged", ignore_errors=True)
