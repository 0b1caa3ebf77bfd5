"""The alert engine: closed buckets in, incidents out, in one transaction per tick.

A tick reads closed buckets in event time only, so the same data give the same transitions in whatever chunks it is
ticked, live and in a replay; a crash between two ticks, or inside one, changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from crosswind.stream.domain.bucket import minute_of
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.incident import Incident, Policy, Transition, alert
from crosswind.stream.domain.series import MINUTE, History, Series
from crosswind.stream.domain.surge import NegativeSurge, Rule
from crosswind.stream.domain.watch import Watch


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run was evaluated.

    Attributes:
        evaluated_to: the last evaluated minute.
        opened: the incidents that are open after it.
    """

    evaluated_to: datetime
    opened: Mapping[Series, Incident]


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

    def histories(
        self, rule: Rule, first: datetime, last: datetime, wanted: Collection[Series]
    ) -> dict[Series, History]:
        """Histories of the `wanted` series and of all that may have `rule.least` negatives in a window of a minute
        from `first` to `last`, with the negative articles of these windows."""
        ...

    def next_seq(self) -> int:
        """The `seq` of the run's next transition."""
        ...

    def save(self, progress: Progress, changed: Sequence[Incident], alerts: Sequence[Alert], policy: Policy) -> None:
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
        lateness: event time that a bucket stays open after it ends.
        idle_seconds: a partition silent this long no longer holds the watermark.
        chunk: minutes per tick at most, so that a tick stays short.
    """

    store: AlertStore
    run: str
    lateness: timedelta
    idle_seconds: float
    rule: Rule = NegativeSurge()  # noqa: RUF009 - frozen
    policy: Policy = Policy()  # noqa: RUF009 - frozen
    chunk: int = 720

    def tick(self) -> list[Alert]:
        """The new transitions, already committed; empty when nothing closed or another engine holds the run.

        Raises:
            DatabaseError: nothing was changed; safe to tick again.
        """
        with self.store.begin(self.run) as unit:
            mark = unit.watermark(self.idle_seconds) if unit else None
            if unit is None or mark is None:
                return []
            return self._evaluate(unit, minute_of(mark - self.lateness) - MINUTE)

    def _evaluate(self, unit: AlertUnit, closed: datetime) -> list[Alert]:
        progress = unit.progress()
        opened = progress.opened if progress else {}
        first = self._next(unit, progress)
        if first is None or first > closed:
            if progress and closed > progress.evaluated_to and not opened:
                unit.save(Progress(closed, opened), (), (), self.policy)
            return []
        last = min(closed, first + (self.chunk - 1) * MINUTE)
        histories = unit.histories(self.rule, first, last, opened.keys())
        after, transitions = Watch(self.run, self.rule, self.policy).over(histories, opened, first, last)
        seq = unit.next_seq()
        alerts = [alert(transition, seq + n, self.policy) for n, transition in enumerate(transitions)]
        unit.save(Progress(last, after), _changed(opened, after, transitions), alerts, self.policy)
        return alerts

    def _next(self, unit: AlertUnit, progress: Progress | None) -> datetime | None:
        """The next minute worth a look. Where nothing is open, minutes whose window is empty are not."""
        if progress is None:
            return unit.first_minute(None)
        following = progress.evaluated_to + MINUTE
        if progress.opened:
            return following
        found = unit.first_minute(following - (self.rule.window - 1) * MINUTE)
        return max(found, following) if found else None


def _changed(
    before: Mapping[Series, Incident], after: Mapping[Series, Incident], transitions: Sequence[Transition]
) -> list[Incident]:
    """The incidents whose rows must be written, as they are at the end, by id."""
    latest = {transition.incident.incident_id: transition.incident for transition in transitions}
    latest |= {incident.incident_id: incident for series, incident in after.items() if before.get(series) != incident}
    return [latest[key] for key in sorted(latest)]
