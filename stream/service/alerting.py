"""The alert engine: closed buckets in, incidents out, in one transaction per tick.

A tick reads closed buckets in event time only, so the same data give the same transitions in whatever chunks it is
ticked, live and in a replay; a crash between two ticks, or inside one, changes nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from crosswind.stream.domain.bucket import minute_of
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.incident import Incident, State, Transition, alert
from crosswind.stream.domain.memory import Memory
from crosswind.stream.domain.notice import Orders
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE, History, Series
from crosswind.stream.domain.universe import Universe, hour_of, shared
from crosswind.stream.domain.watch import Watch
from crosswind.stream.service.rules import load_rules

LATE = timedelta(hours=6)
"""How far back closed buckets are looked at for late articles."""
PAUSE = timedelta(days=1)
"""A longer stretch without any article is not walked minute by minute."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run was evaluated.

    Attributes:
        evaluated_to: the last evaluated minute.
        memory: what is open after it.
        counts: articles per hour (Unix time of its beginning), of the last hours, as they were evaluated; 0 where there
            were none. An hour that is not in it was never evaluated.
        told: the number of the last article that had got its story by then; None: an older version did not say.
    """

    evaluated_to: datetime
    memory: Memory
    counts: Mapping[int, int] = field(default_factory=dict)
    told: int | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """Articles of one hour: those up to the last evaluated minute, and those up to the one that comes next."""

    hour: int
    before: int
    now: int


@dataclass(frozen=True, slots=True)
class Told:
    """Articles that have got their stories: the number of the last one, and the earliest event time of those asked for;
    None: there are none."""

    last: int
    earliest: datetime | None


class AlertUnit(Protocol):
    """One transaction of the engine that holds the run: nothing of it is seen before it ends well."""

    def watermark(self, idle_seconds: float) -> datetime | None:
        """The event time that every partition has reached; those silent for `idle_seconds` hold nobody back."""
        ...

    def progress(self) -> Progress | None:
        """How far the run was evaluated, None before the first time."""
        ...

    def first_minute(self, since: datetime | None) -> datetime | None:
        """The first minute with a bucket, at or after `since`; None when there is none."""
        ...

    def counted(self, since: datetime, evaluated_to: datetime, last: datetime) -> list[Counted]:
        """Articles per hour from `since` on, ascending."""
        ...

    def told(self, after: int, since: datetime, evaluated_to: datetime) -> Told:
        """What got its story after article number `after`; the earliest from `since` to the end of minute
        `evaluated_to`."""
        ...

    def histories(
        self, rules: RuleSet, first: datetime, last: datetime, wanted: Collection[Series]
    ) -> dict[Series, History]:
        """Histories of the whole run, of the `wanted` series and of all that may alarm at a minute from `first` to
        `last`; see `crosswind.stream.domain.watch`."""
        ...

    def orders(self) -> Orders:
        """Silences and acknowledgements as they are now."""
        ...

    def universe(self, first: datetime, last: datetime) -> Universe:
        """The series of the hours from that of `first` to that of `last`, the whole run among them."""
        ...

    def next_seq(self) -> int:
        """The `seq` of the run's next transition."""
        ...

    def save(self, progress: Progress, changed: Sequence[Incident], alerts: Sequence[Alert]) -> None:
        """Writes how far it is now, the incidents that changed, and the transitions."""
        ...


class AlertStore(Protocol):
    """Where incidents live."""

    def begin(self, run: str) -> AbstractContextManager[AlertUnit | None]:
        """A transaction that holds the run; None when another engine holds it.

        Raises:
            DatabaseError: nothing was changed; safe to begin again.
        """
        ...


@dataclass(frozen=True, slots=True)
class AlertEngine:
    """Evaluates what has closed since the last tick.

    Attributes:
        rules: where the rules come from; asked once per tick, so that a changed file is live with the next one.
        lateness: event time that a bucket stays open after it ends.
        idle_seconds: a partition silent this long no longer holds the watermark.
        chunk: minutes per tick at most, so that a tick stays short.
    """

    store: AlertStore
    run: str
    lateness: timedelta
    idle_seconds: float
    rules: Callable[[], RuleSet] = load_rules
    chunk: int = 720

    def tick(self, upto: datetime | None = None) -> list[Alert]:
        """The new transitions, already committed; empty when nothing closed or another engine holds the run.

        Args:
            upto: the watermark counts as this at most: articles beyond have no stories yet. None: they need none.

        Raises:
            DatabaseError: nothing was changed; safe to tick again.
        """
        with self.store.begin(self.run) as unit:
            mark = unit.watermark(self.idle_seconds) if unit else None
            if unit is None or mark is None:
                return []
            mark = min(mark, upto or mark)
            return self._evaluate(unit, minute_of(mark - self.lateness) - MINUTE)

    def _evaluate(self, unit: AlertUnit, closed: datetime) -> list[Alert]:
        progress = unit.progress()
        first = _next(unit, progress)
        if first is None or first > closed:
            return []
        last = min(closed, first + (self.chunk - 1) * MINUTE)
        before = progress or Progress(first - MINUTE, Memory())
        # Asked before the histories are read: an article, or its story, that comes in between is evaluated twice, never
        # not at all.
        counted = unit.counted(looked_at_from(before.evaluated_to), before.evaluated_to, last)
        told = unit.told(before.told or 0, looked_at_from(before.evaluated_to), before.evaluated_to)
        rules, orders = self.rules(), unit.orders()
        watch = Watch(self.run, rules)
        memory, found = before.memory, list[Transition]()
        since = _changed_since(before, counted, told)
        if shared(rules):
            orders = replace(orders, universe=unit.universe(since or first, last).watched(rules))
        if since is not None:
            late = unit.histories(rules, since, before.evaluated_to, memory.series)
            memory, found = watch.amend(late, memory, since, before.evaluated_to, orders)
        histories = unit.histories(rules, first, last, memory.series)
        after, more = watch.over(histories, memory, first, last, orders)
        seq = unit.next_seq()
        alerts = [alert(transition, seq + n) for n, transition in enumerate(found + more)]
        kept = _kept(before, counted, first, last)
        unit.save(Progress(last, after, kept, told.last), _changed(before.memory, after, found + more), alerts)
        return alerts


def looked_at_from(evaluated_to: datetime) -> datetime:
    """The beginning of the first hour that is looked at for what is late; whole hours are counted."""
    return datetime.fromtimestamp(_hour(evaluated_to - LATE), UTC)


def _next(unit: AlertUnit, progress: Progress | None) -> datetime | None:
    """The next minute worth a look: after a long pause, the first one with an article."""
    if progress is None:
        return unit.first_minute(None)
    following = progress.evaluated_to + MINUTE
    found = unit.first_minute(following)
    firing = any(incident.state is State.FIRING for incident in progress.memory.opened.values())
    return following if found is None or found - following <= PAUSE or firing else found


def _changed_since(progress: Progress, counted: Sequence[Counted], told: Told) -> datetime | None:
    """The beginning of the first hour in which an article has come, or got its story, since it was evaluated; None:
    there is none."""
    hours = [row.hour for row in counted if row.before != progress.counts.get(row.hour)]
    if told.earliest is not None and progress.told is not None:
        hours.append(_hour(told.earliest))
    found = min((hour for hour in hours if hour in progress.counts), default=None)
    return None if found is None else datetime.fromtimestamp(found, UTC)


def _kept(before: Progress, counted: Sequence[Counted], first: datetime, last: datetime) -> dict[int, int]:
    """Articles per hour as they are evaluated now. Hours that the next tick looks at and that had none are in it, too:
    else an article that comes late to one of them would not be seen to be new."""
    begun = min(before.counts, default=_hour(first))  # what lies before the run's first hour was never evaluated
    empty = dict.fromkeys(range(max(_hour(last - LATE), begun), _hour(last) + 1, 3600), 0)
    return empty | {row.hour: row.now for row in counted}


def _hour(moment: datetime) -> int:
    """The Unix time at which its hour begins."""
    return hour_of(moment) * 3600


def _changed(before: Memory, after: Memory, transitions: Sequence[Transition]) -> list[Incident]:
    """The incidents whose rows must be written, as they are at the end, by id."""
    latest = {transition.incident.incident_id: transition.incident for transition in transitions}
    changed = (incident for key, incident in after.opened.items() if before.opened.get(key) != incident)
    latest |= {incident.incident_id: incident for incident in changed}
    return [latest[key] for key in sorted(latest)]
