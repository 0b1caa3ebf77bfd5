"""The pure engine: closed buckets and rules in, transitions out. No clock, no database; live and replay call this.

Use, in process:

    rules = load_rules()                                # crosswind.stream.service.rules; a Path for another file
    watch = Watch("replay-1", rules)                    # run id, RuleSet
    memory = Memory()                                   # what is open; goes from call to call
    histories = {Series("credit"): History.of(start, negative, articles, run, mentions), ...}
    memory, transitions = watch.over(histories, memory, first, last)

`first` and `last` are minutes (aware, UTC), both evaluated. Every `History` of one call begins and ends together
(`History.of` takes counts per minute; `past=Hours(...)` whole hours before them), reaches `LOOKBACK` (five weeks) back
where there is so much, and holds the negative articles (`Mention`) of the 24 hours before `first`. `Series("*")`, the
whole run, should be among them: without it, a silent feed is not told. Series that never have
`rules.least_headlines` negatives within `rules.widest` minutes may be left out. Cutting a span into several calls
changes nothing. A closed bucket that changed (a late article) goes through `watch.amend(...)`.

`Orders` are what people asked for: silences, acknowledgements, and how many series each rule watches in all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.detect.view import View
from crosswind.stream.domain.incident import (
    Cause,
    Incident,
    Severity,
    State,
    Subject,
    Transition,
    advance,
    end,
    incident_id,
    severity,
)
from crosswind.stream.domain.judge import Hour, hours, judge
from crosswind.stream.domain.memory import Key, Memory
from crosswind.stream.domain.notice import Orders, notices
from crosswind.stream.domain.panel import Panel
from crosswind.stream.domain.rules import Rule, RuleSet
from crosswind.stream.domain.series import MINUTE, History, Series
from crosswind.stream.domain.signal import Level, Signal
from crosswind.stream.domain.silence import silenced
from crosswind.stream.domain.universe import hour_of

RUN = Series(ALL)
"""The whole run."""
NO_DATA = "no-data"
"""The name of the built-in rule that tells of a silent feed."""
LATELY = timedelta(days=1)
"""So long it is remembered at least when a series fired, whether or not it fires again."""
GROUPING = 240
"""Minutes of articles that two surges are compared by."""


@dataclass(slots=True)
class _Desk:
    """What is open while a span is walked; the one mutable thing, never seen outside."""

    opened: dict[Key, Incident]
    fires: dict[Key, tuple[datetime, ...]]
    covered: dict[Key, datetime]
    held: set[Key]
    told: list[Transition] = field(default_factory=list)

    @classmethod
    def of(cls, memory: Memory) -> "_Desk":
        return cls(dict(memory.opened), dict(memory.fires), dict(memory.covered), set(memory.held))

    def memory(self, at: datetime, rules: RuleSet) -> Memory:
        """As a value, after `at`: of when what fired only what a rule may still ask for."""
        kept = {rule.name: max(rule.policy.flap_within, LATELY) for rule in rules.rules}
        fires = {key: tuple(time for time in times if at - time < kept.get(key[0], LATELY))
                 for key, times in self.fires.items()}  # fmt: skip
        covered = {key: until for key, until in self.covered.items() if at - until < LATELY}
        return Memory(
            dict(self.opened), {key: times for key, times in fires.items() if times}, covered, frozenset(self.held)
        )

    def over(self, change: Transition) -> None:
        """What follows from the end of an incident for its series, and for those that it held back."""
        key = change.incident.subject.key
        if change.cause is Cause.RESOLVED:
            self.covered[key] = change.at
        elif change.cause is Cause.LAPSED:  # nobody heard of it, so it spoke for nobody
            self.held = {(rule, series) for rule, series in self.held if (rule, series.parent) != key}


@dataclass(frozen=True, slots=True)
class Watch:
    """Rules at work on one run; see the module's docstring."""

    run: str
    rules: RuleSet

    def over(
        self,
        histories: Mapping[Series, History],
        memory: Memory,
        first: datetime,
        last: datetime,
        orders: Orders = Orders(),  # noqa: B008 - frozen
    ) -> tuple[Memory, list[Transition]]:
        """Evaluates every minute from `first` to `last`, inclusive.

        Returns:
            what is open after `last`, and the transitions in order.

        Raises:
            DataError: the histories do not begin and end together.
        """
        desk = _Desk.of(memory)
        if not histories:
            return desk.memory(last, self.rules), []
        self._drop_unruled(desk, first)
        panel = Panel.of(histories)
        for begin, minutes in hours(first, last):
            self._hour(desk, panel, begin, minutes, orders)
        return desk.memory(last, self.rules), desk.told

    def amend(
        self,
        histories: Mapping[Series, History],
        memory: Memory,
        since: datetime,
        until: datetime,
        orders: Orders = Orders(),  # noqa: B008 - frozen
    ) -> tuple[Memory, list[Transition]]:
        """Evaluates minutes again whose buckets changed after they were evaluated, up to the last evaluated one.

        A surge that is only seen now fires now, at `until`. An open one gets the figures that are right now and, when
        they differ, a `CORRECTED` transition; it is never taken back unsaid: it ends, told, once it has been calm.
        """
        if not histories:
            return memory, []
        again, found = self.over(histories, Memory(), since, until, Orders(universe=orders.universe))
        desk = _Desk.of(memory)
        best: dict[Key, Incident] = {}
        for incident in [*(change.incident for change in found), *again.opened.values()]:
            # A silent stretch of the past is no news: the feed's own incident is only opened as it happens.
            if incident.fired_at is not None and self._rule(incident.subject.rule) is not None:
                best[incident.subject.key] = incident
        panel = Panel.of(histories)
        for key, incident in sorted(best.items()):
            if key not in desk.opened:
                self._fire_late(desk, panel, incident, until, orders)
        for key, incident in sorted(desk.opened.items()):
            if incident.state is State.FIRING and incident.subject.series in histories and key in memory.opened:
                self._correct(desk, incident, best.get(key), since, until, orders)
        return desk.memory(until, self.rules), desk.told

    def _hour(self, desk: _Desk, panel: Panel, begin: datetime, minutes: int, orders: Orders) -> None:
        view = panel.view(begin, minutes)
        silent = self._silent(panel, view, minutes)
        judged = []
        for rule in self.rules.rules:
            wanted = {series for name, series in (*desk.opened, *desk.held) if name == rule.name}
            watched = orders.universe.get(rule.name, {}).get(hour_of(begin), 0)
            judged.append(judge(rule, panel, view, begin, wanted, watched))
        loud: dict[int, list[tuple[Hour, Series]]] = {}
        for hour in judged:
            for minute, series in hour.raised():
                loud.setdefault(minute, []).append((hour, series))
        for minute in range(minutes):
            if desk.opened or desk.held or minute in loud or silent[minute]:
                self._minute(desk, judged, loud.get(minute, []), begin, minute, silent[minute], orders)

    def _minute(
        self, desk: _Desk, judged: Sequence[Hour], loud: Sequence[tuple[Hour, Series]], begin: datetime, minute: int,
        silent: bool, orders: Orders,
    ) -> None:  # fmt: skip
        at = begin + minute * MINUTE
        self._feed(desk, at, silent, orders)
        for hour in judged:
            rows = {series for found, series in loud if found is hour}
            rows |= {series for name, series in (*desk.opened, *desk.held) if name == hour.rule.name}
            # Parents first, so that they silence their children in the same minute.
            for series in sorted(rows, key=lambda one: (one.parent is not None, one)):
                self._step(desk, hour, series, minute, silent, orders)
        for key in sorted(desk.opened):
            rule = self._rule(key[0])
            if rule is not None:
                changes, desk.opened[key] = notices(desk.opened[key], at, rule.policy, orders)
                desk.told += changes

    def _step(
        self, desk: _Desk, hour: Hour, series: Series, minute: int, silent: bool, orders: Orders
    ) -> None:  # fmt: skip
        at = hour.first + minute * MINUTE
        key = (hour.rule.name, series)
        incident = desk.opened.pop(key, None)
        signal = Signal(Level.NO_DATA) if silent and (incident or key in desk.held) else hour.signal(series, minute)
        if incident is None or incident.state is State.PENDING:
            loud = signal.level is Level.RAISED or (incident is not None and signal.level is not Level.CALM)
            if self._spoken_for(desk, key, loud, signal.level is Level.CALM, at):
                desk.told += [end(incident, at)] if incident else []
                return
        subject = Subject(self.run, hour.rule.name, hour.rule.version, series)
        after, changes = advance(incident, signal, at, subject, hour.rule.policy)
        for change in changes:
            found = replace(change.incident, silenced=silenced(orders.silences, change.incident.labels, at))
            if change.cause is Cause.FIRED:
                found = after = self._fired(desk, hour.panel, found, at, hour.rule)
            desk.told.append(replace(change, incident=found))
            desk.over(change)
        if after:
            desk.opened[key] = after

    def _spoken_for(self, desk: _Desk, key: Key, loud: bool, calm: bool, at: datetime) -> bool:
        """Whether a language opens nothing, because the incident over all languages tells of it, or told of it.

        What outlasts that incident is no new surge: it must be calm once before it opens.
        """
        parent = self._parent(desk, key)
        told = parent is None or parent.speaks(key[1].lang)
        if calm or not told or not self.rules.inhibit:
            desk.held.discard(key)
        elif parent is not None and loud:
            desk.held.add(key)
        if key in desk.held and (parent is None or parent.state is State.FIRING):
            desk.covered[key] = at
        return key in desk.held if parent is None else told

    def _parent(self, desk: _Desk, key: Key) -> Incident | None:
        """The open incident over all languages that may speak for one language's series."""
        rule, series = key
        return desk.opened.get((rule, series.parent)) if self.rules.inhibit and series.parent else None

    def _fired(self, desk: _Desk, panel: Panel, incident: Incident, at: datetime, rule: Rule) -> Incident:
        """The incident with its group, and whether its series is flapping."""
        key, policy = incident.subject.key, rule.policy
        times = (*(t for t in desk.fires.get(key, ()) if at - t < policy.flap_within), at)
        desk.fires[key] = times
        parent = self._parent(desk, key)
        # One language of a surge that fires is a part of it: whoever was told of the whole is not told of the part.
        together = parent is not None and parent.state is State.FIRING
        group = parent.group if parent and together else self._group(desk, panel, incident, at)
        return replace(incident, group=group, flapping=len(times) >= policy.flap_fires)

    def _group(self, desk: _Desk, panel: Panel, incident: Incident, at: datetime) -> str:
        """The group of the firing incident that shares most articles with this one, or a new one.

        A group whose leader is over takes nobody in: those who were told of it heard its end.
        """
        ours = _articles(panel, incident.subject.series, at)
        best, group = self.rules.group_overlap, incident.incident_id
        known = {other.incident_id for other in desk.opened.values()}
        firing = [other for other in desk.opened.values() if other.state is State.FIRING and other.group in known]
        for other in sorted(firing, key=lambda one: (one.fired_at or at, one.incident_id)):
            theirs = _articles(panel, other.subject.series, at)
            shared = len(ours & theirs) / max(1, min(len(ours), len(theirs)))
            if shared > best or (shared == best and group == incident.incident_id):
                best, group = shared, other.group
        return group

    def _silent(self, panel: Panel, view: View, minutes: int) -> list[bool]:
        """For each minute, whether the feed is silent although articles were to be expected."""
        found = self.rules.no_data
        if found is None or RUN not in panel.series:
            return [False] * minutes
        return [bool(value >= found.expected) for value in view.silent(found.after // MINUTE)]

    def _feed(self, desk: _Desk, at: datetime, silent: bool, orders: Orders) -> None:
        """The incident of the feed itself."""
        key = (NO_DATA, RUN)
        incident = desk.opened.get(key)
        if silent and incident is None:
            subject = Subject(self.run, NO_DATA, self.rules.version, RUN)
            ident = incident_id(subject, at)
            opened = Incident(ident, subject, State.NO_DATA, at, Signal(Level.NO_DATA), at, group=ident)
            opened = replace(opened, silenced=silenced(orders.silences, opened.labels, at))
            desk.opened[key] = opened
            desk.told.append(Transition(at, opened, Cause.NO_DATA))
        elif incident and not silent:
            del desk.opened[key]
            desk.told.append(end(incident, at))
        elif incident:
            desk.opened[key] = replace(incident, silenced=silenced(orders.silences, incident.labels, at))
            if incident.silenced and not desk.opened[key].silenced:
                desk.told.append(Transition(at, desk.opened[key], Cause.SILENCE_ENDED))

    def _fire_late(self, desk: _Desk, panel: Panel, found: Incident, until: datetime, orders: Orders) -> None:
        rule = self._rule(found.subject.rule)
        assert rule is not None  # it has just been evaluated by it
        key = found.subject.key
        told = [*desk.fires.get(key, ()), *([desk.covered[key]] if key in desk.covered else [])]
        if any(found.started_at <= time for time in told):
            return  # told before, and over
        parent = self._parent(desk, key)
        if parent is not None and parent.state is State.FIRING and parent.speaks(key[1].lang):
            return  # told with all languages
        ident = incident_id(found.subject, found.started_at, until.isoformat())
        calm = found.calm_since if found.open else until
        incident = replace(
            found, incident_id=ident, state=State.FIRING, fired_at=until, resolved_at=None, calm_since=calm, group=ident
        )  # fmt: skip
        incident = replace(incident, silenced=silenced(orders.silences, incident.labels, until))
        opened = replace(incident, state=State.PENDING, fired_at=None)
        incident = self._fired(desk, panel, incident, until, rule)
        desk.told += [Transition(until, opened, Cause.OPENED), Transition(until, incident, Cause.FIRED)]
        changes, desk.opened[key] = notices(incident, until, rule.policy, orders)
        desk.told += changes

    def _correct(
        self, desk: _Desk, incident: Incident, found: Incident | None, since: datetime, until: datetime, orders: Orders
    ) -> None:  # fmt: skip
        """The figures of the strongest minute as they are now, when it lies in the span or is beaten there.

        They may make it critical, which is told; what was told as critical stays so.
        """
        rule = self._rule(incident.subject.rule)
        if rule is None:
            return  # its rule is gone: it ends with the next minute
        strongest = incident.strongest
        if found is not None and found.strongest.p_value <= strongest.p_value:
            strongest = found.strongest
        elif incident.started_at >= since:
            strongest = found.strongest if found is not None else replace(strongest, level=Level.CALM)
        if strongest != incident.strongest:
            was = incident.severity
            worst = was if was is Severity.CRITICAL else severity(strongest, rule.policy)
            changed = replace(incident, strongest=strongest, severity=worst)
            desk.told.append(Transition(until, changed, Cause.CORRECTED))
            changes, desk.opened[incident.subject.key] = notices(changed, until, rule.policy, orders)
            desk.told += changes

    def _drop_unruled(self, desk: _Desk, at: datetime) -> None:
        """Ends what was opened by a rule that is no longer there."""
        names = {rule.name for rule in self.rules.rules} | {NO_DATA}
        for key in sorted(desk.opened):
            if key[0] not in names:
                desk.told.append(end(desk.opened.pop(key), at))
        desk.held = {key for key in desk.held if key[0] in names}

    def _rule(self, name: str) -> Rule | None:
        return next((rule for rule in self.rules.rules if rule.name == name), None)


def _articles(panel: Panel, series: Series, at: datetime) -> set[str]:
    if series not in panel.series:
        return set()
    history = panel.histories[panel.series.index(series)]
    return {mention.article_id for mention in history.mentioned(at, GROUPING)}
