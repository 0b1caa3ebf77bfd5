"""The life of an incident: pending, firing, resolved; or lapsed, when it never fired. Pure, in event time."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.series import Series
from crosswind.stream.domain.signal import Level, Signal


class State(StrEnum):
    """Where an incident stands. `RESOLVED` and `LAPSED` are final; `NO_DATA` is a silent feed's."""

    PENDING = "pending"
    FIRING = "firing"
    NO_DATA = "no_data"
    RESOLVED = "resolved"
    LAPSED = "lapsed"


class Severity(StrEnum):
    """How bad it is."""

    WARNING = "warning"
    CRITICAL = "critical"


class Cause(StrEnum):
    """Why a transition is told. The first five change the state; the others tell of one that goes on."""

    OPENED = "opened"
    FIRED = "fired"
    NO_DATA = "no_data"
    RESOLVED = "resolved"
    LAPSED = "lapsed"
    ESCALATED = "escalated"
    REPEATED = "repeated"
    SILENCE_ENDED = "silence_ended"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class Policy:
    """When incidents fire and end.

    Attributes:
        hold: the signal must have been raised, or at least elevated, this long before it fires.
        keep_firing: the signal must have been calm this long before it is resolved.
        critical_below: p-value of a critical incident.
        critical_times: and observed over expected of one.
        repeat: a firing incident that nobody acknowledged is told again after this long; None: never.
        flap_fires: a series that fires so often within `flap_within` is flapping.
        flap_factor: a flapping incident must be calm so many times longer before it is resolved.
    """

    hold: timedelta = timedelta(minutes=2)
    keep_firing: timedelta = timedelta(minutes=60)
    critical_below: float = 1e-12
    critical_times: float = 8.0
    repeat: timedelta | None = None
    flap_fires: int = 3
    flap_within: timedelta = timedelta(hours=24)
    flap_factor: int = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """What an incident is about, before it is one."""

    run: str
    rule: str
    rule_version: str
    series: Series

    @property
    def key(self) -> tuple[str, Series]:
        """There is one open incident of a rule and series at most."""
        return self.rule, self.series


@dataclass(frozen=True, slots=True)
class Incident:
    """One surge of bad news.

    Attributes:
        strongest: the raised signal with the smallest p-value so far, the earliest of equals.
        calm_since: first minute of the present calm, None while there is a signal or no data.
        severity: the worst so far.
        group: the id of the incident that leads its group; its own when it leads, or is not grouped yet.
        flapping: it fired again and again lately.
        silenced: a silence matches it now.
        noticed_at: when subscribers were last told of it as firing.
        told: the severity that they were told.
        heard: the languages of the evidence that they were told of it with.
    """

    incident_id: str
    subject: Subject
    state: State
    started_at: datetime
    strongest: Signal
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    calm_since: datetime | None = None
    severity: Severity = Severity.WARNING
    group: str = ""
    flapping: bool = False
    silenced: bool = False
    noticed_at: datetime | None = None
    told: Severity = Severity.WARNING
    heard: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        """Whether it is not over."""
        return self.state in (State.PENDING, State.FIRING, State.NO_DATA)

    @property
    def leads(self) -> bool:
        """Whether it is the first of its group: the one that is told to those who want everything."""
        return self.group in ("", self.incident_id)

    def speaks(self, lang: str) -> bool:
        """Whether it is of one language too: its evidence has that language, or had it when it was told."""
        return lang in self.strongest.evidence.languages or lang in self.heard

    @property
    def labels(self) -> dict[str, str]:
        """What silences match."""
        series = self.subject.series
        return {
            "rule": self.subject.rule, "severity": self.severity.value, "topic": series.topic, "lang": series.lang,
            "entity": series.entity,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Transition:
    """A change, or a reminder: the incident as it is from minute `at` on."""

    at: datetime
    incident: Incident
    cause: Cause


Step = tuple[Incident | None, tuple[Transition, ...]]


def advance(incident: Incident | None, signal: Signal, at: datetime, subject: Subject, policy: Policy) -> Step:
    """One minute further: what is open afterwards, and what changed.

    Args:
        incident: the open incident of this rule and series, None when there is none.
        at: the minute that the signal is of; later than any before.
    """
    if incident is None:
        return _open(signal, at, subject, policy) if signal.level is Level.RAISED else (None, ())
    if signal.level is Level.NO_DATA:
        return replace(incident, calm_since=None), ()  # silence is no calm: the count begins again
    if signal.level is Level.CALM:
        return _calm(incident, at, policy)
    incident = _strengthen(replace(incident, calm_since=None), signal, policy)
    ready = incident.state is State.PENDING and signal.level is Level.RAISED
    if ready and at - incident.started_at >= policy.hold:
        incident = replace(incident, state=State.FIRING, fired_at=at)
        return incident, (Transition(at, incident, Cause.FIRED),)
    return incident, ()


def _strengthen(incident: Incident, signal: Signal, policy: Policy) -> Incident:
    if signal.level is not Level.RAISED:  # an elevated one may lack evidence
        return incident
    strongest = min(incident.strongest, signal, key=lambda found: found.p_value)
    worst = Severity.CRITICAL if incident.severity is Severity.CRITICAL else severity(strongest, policy)
    return replace(incident, strongest=strongest, severity=worst)


def _open(signal: Signal, at: datetime, subject: Subject, policy: Policy) -> Step:
    ident = incident_id(subject, at)
    pending = Incident(ident, subject, State.PENDING, at, signal, severity=severity(signal, policy), group=ident)
    if policy.hold > timedelta(0):
        return pending, (Transition(at, pending, Cause.OPENED),)
    firing = replace(pending, state=State.FIRING, fired_at=at)
    return firing, (Transition(at, pending, Cause.OPENED), Transition(at, firing, Cause.FIRED))


def _calm(incident: Incident, at: datetime, policy: Policy) -> Step:
    since = incident.calm_since or at
    keep = policy.keep_firing * (policy.flap_factor if incident.flapping else 1)
    if incident.state is State.FIRING and at - since < keep:
        return replace(incident, calm_since=since), ()
    return None, (end(incident, at, since),)


def end(incident: Incident, at: datetime, since: datetime | None = None) -> Transition:
    """Ends an incident: resolved if it was told of, else lapsed."""
    told = incident.state in (State.FIRING, State.NO_DATA)
    final, cause = (State.RESOLVED, Cause.RESOLVED) if told else (State.LAPSED, Cause.LAPSED)
    return Transition(at, replace(incident, state=final, resolved_at=at, calm_since=since or at), cause)


def incident_id(subject: Subject, started_at: datetime, late: str = "") -> str:
    """32 hex digits, the same whenever and wherever the incident is found.

    >>> from datetime import UTC
    >>> subject = Subject("live", "negative-surge", "1", Series("credit"))
    >>> incident_id(subject, datetime(2026, 3, 2, 9, 0, tzinfo=UTC))[:8]
    'd196e0d3'
    """
    series = subject.series
    parts = [subject.run, subject.rule, series.topic, series.lang, series.entity, started_at.isoformat()]
    return hashlib.sha256(msgspec.json.encode(parts + [late] * bool(late))).hexdigest()[:32]


def severity(signal: Signal, policy: Policy) -> Severity:
    """How bad a signal is."""
    many = signal.observed >= policy.critical_times * signal.expected
    return Severity.CRITICAL if many and signal.p_value <= policy.critical_below else Severity.WARNING


def alert(transition: Transition, seq: int) -> Alert:
    """The message that tells of a transition."""
    incident, found = transition.incident, transition.incident.strongest
    subject, evidence = incident.subject, found.evidence
    return Alert(
        run=subject.run,
        incident_id=incident.incident_id,
        seq=seq,
        state=incident.state.value,
        at=transition.at,
        rule=subject.rule,
        rule_version=subject.rule_version,
        severity=incident.severity.value,
        topic=subject.series.topic,
        lang=subject.series.lang,
        entity=subject.series.entity,
        observed=found.observed,
        expected=found.expected,
        p_value=found.p_value,
        negative_share=found.negative_share,
        sources=evidence.sources,
        headlines=evidence.headlines,
        languages=list(evidence.languages),
        evidence=list(evidence.articles),
        model=evidence.model,
        cause=transition.cause.value,
        group=incident.group or incident.incident_id,
        leads=incident.leads,
        silenced=incident.silenced,
        flapping=incident.flapping,
        window=found.window,
        chance=found.chance,
    )
