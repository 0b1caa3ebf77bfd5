"""A replay at full speed on several cores: stretches of time side by side, joined where they agree.

Evaluation is a pure function of closed buckets and of what is open. So a stretch may begin anywhere with nothing open:
as soon as the stretch before it, which runs on into it, has the very same open incidents at the same minute, all that
follows is the same too. The joined log is the one of a single pass; where two stretches do not meet, there is a single
pass.
"""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

from crosswind.stream.adapters.kafka.embedded import die_with_parent
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.memory import Memory
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE
from crosswind.stream.replay.engine import Replayer, track, warm
from crosswind.stream.replay.ledger import Ledger
from crosswind.stream.replay.stage import Stage
from crosswind.stream.service.alerting import Progress

OVERLAP = timedelta(days=4)
"""A stretch runs so far into the next one; incidents hardly ever last longer."""
WORTH = 100_000
"""Articles under which one process is quicker."""
LOOK = 0.2
"""Seconds between two looks whether it is to stop."""
_stopped: Callable[[], bool] = lambda: False  # noqa: E731 - each worker process puts its own here


@dataclass(frozen=True, slots=True)
class Stretch:
    """Event time to be evaluated: from `since` (None: the beginning), articles before `until` (None: all)."""

    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Part:
    """What a stretch gave.

    Attributes:
        marks: minute -> what was open after it, after every step near the stretch's ends.
    """

    alerts: list[Alert]
    marks: dict[datetime, Memory]
    evaluated_to: datetime | None


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def replay_split(
    stage: Path, run: str, rules: RuleSet, lateness: timedelta, workers: int, stop: Callable[[], bool] = lambda: False
) -> tuple[list[Alert], datetime | None] | None:
    """The transitions of a single pass, in order, and the last evaluated minute; None: the stretches do not meet, or it
    was stopped."""
    edges = _edges(Stage(stage), workers)
    starts, ends = [None, *edges], [*(edge + OVERLAP for edge in edges), None]
    stretches = [Stretch(since, until) for since, until in zip(starts, ends, strict=True)]
    context = get_context("spawn")
    stopped = context.Event()
    with ProcessPoolExecutor(workers, context, _begin, (stopped,)) as pool:
        jobs = [pool.submit(play, stage, run, rules, lateness, stretch) for stretch in stretches]
        try:
            while wait(jobs, LOOK).not_done and not stop():
                pass
        finally:  # an exception, too, must not wait for the whole feed
            if not all(job.done() for job in jobs):
                stopped.set()
        if stopped.is_set():
            return None
        return join([job.result() for job in jobs], rules)


def _begin(stopped: Event) -> None:
    """A worker's start: it stops when it is told, ends with its parent, and leaves Ctrl-C to it."""
    global _stopped
    _stopped = stopped.is_set
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def play(stage: Path, run: str, rules: RuleSet, lateness: timedelta, stretch: Stretch) -> Part:
    """One stretch, beginning with nothing open."""
    ledger, alerts, marks = Ledger(rules.languages), list[Alert](), dict[datetime, Memory]()
    one = track(ledger, run, rules, lateness, alerts.append)
    edges = [edge for edge in (stretch.since, stretch.until and stretch.until - OVERLAP) if edge]

    def note() -> None:
        state = one.store.state
        if state and any(edge <= state.evaluated_to <= edge + OVERLAP for edge in edges):
            marks[state.evaluated_to] = state.memory

    replayer = Replayer(ledger, [one], after=note, stop=lambda: _stopped())
    feed = Stage(stage)
    if stretch.since is not None:
        before = stretch.since - MINUTE
        warm(replayer, feed, before)
        one.store.state = Progress(before, Memory())
    replayer.play(feed.read(stretch.since, stretch.until))
    state = one.store.state
    return Part(alerts, marks, state.evaluated_to if state else None)


def join(parts: Sequence[Part], rules: RuleSet) -> tuple[list[Alert], datetime | None] | None:
    """One list of transitions, renumbered."""
    alerts, since = list[Alert](), None
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        until = _meeting(part, following, rules) if following else None
        if following and until is None:
            return None
        alerts += [alert for alert in part.alerts
                   if (since is None or alert.at > since) and (until is None or alert.at <= until)]  # fmt: skip
        since = until
    for number, alert in enumerate(alerts, 1):
        alert.seq = number
    return alerts, parts[-1].evaluated_to


def _meeting(part: Part, following: Part, rules: RuleSet) -> datetime | None:
    """The first minute after which both have the same open."""
    for at in sorted(part.marks.keys() & following.marks.keys()):
        if _lately(part.marks[at], at, rules) == _lately(following.marks[at], at, rules):
            return at
    return None


def _lately(memory: Memory, at: datetime, rules: RuleSet) -> Memory:
    """Without fires that no rule looks at any more."""
    within = max((rule.policy.flap_within for rule in rules.rules), default=timedelta(0))
    fires = {key: tuple(time for time in times if at - time < within) for key, times in memory.fires.items()}
    return replace(memory, opened=dict(memory.opened), fires={key: times for key, times in fires.items() if times})


def _edges(stage: Stage, workers: int) -> list[datetime]:
    """Midnights that cut the feed into parts of about equal length."""
    span = stage.span
    if span is None or workers < 2:
        return []
    length = (span[1] - span[0]) / workers
    if length < 2 * OVERLAP:
        return []
    cuts = (span[0] + n * length for n in range(1, workers))
    return [cut.replace(hour=0, minute=0, second=0, microsecond=0) for cut in cuts]
