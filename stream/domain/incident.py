"""The life of an incident: pending, firing, resolved; or lapsed, when it never fired. Pure, in event time."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.series import Series
from crosswind.stream.domain.surge import Level, Signal


class State(StrEnum):
    """Where an incident stands. The last two are final."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    LAPSED = "lapsed"


class Severity(StrEnum):
    """How bad it is."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Policy:
    """When incidents fire and end.

    Attributes:
        hold: the signal must have been raised, or at least elevated, this long before it fires.
        keep_firing: the signal must have been calm this long before it is resolved.
        critical_below: p-value of a critical incident.
        critical_times: and observed over expected of one.
    """

    hold: timedelta = timedelta(minutes=5)
    keep_firing: timedelta = timedelta(minutes=30)
    critical_below: float = 1e-12
    critical_times: float = 8.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What an incident is about, before it is one."""

    run: str
    rule: str
    rule_version: str
    series: Series


@dataclass(frozen=True, slots=True)
class Incident:
    """One surge of bad news.

    Attributes:
        strongest: the signal with the smallest p-value so far, the earliest of equals.
        calm_since: first minute of the present calm, None while there is a signal.
    """

    incident_id: str
    subject: Subject
    state: State
    started_at: datetime
    strongest: Signal
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    calm_since: datetime | None = None

    @property
    def open(self) -> bool:
        """Whether it is not over."""
        return self.state in (State.PENDING, State.FIRING)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state: the incident as it is from minute `at` on."""

    at: datetime
    incident: Incident


def advance(
    incident: Incident | None, signal: Signal, at: datetime, subject: Subject, policy: Policy
) -> tuple[Incident | None, tuple[Transition, ...]]:
    """One minute further: what is open afterwards, and what changed.

    Args:
        incident: the open incident of this rule and series, None when there is none.
        at: the minute that the signal is of; later than any before.
    """
    if incident is None:
        return _open(signal, at, subject, policy) if signal.level is Level.RAISED else (None, ())
    if signal.level is Level.CALM:
        return _calm(incident, at, policy)
    strongest = min(incident.strongest, signal, key=lambda found: found.p_value)
    incident = replace(incident, strongest=strongest, calm_since=None)
    ready = incident.state is State.PENDING and signal.level is Level.RAISED
    if ready and at - incident.started_at >= policy.hold:
        incident = replace(incident, state=State.FIRING, fired_at=at)
        return incident, (Transition(at, incident),)
    return incident, ()


def _open(
    signal: Signal, at: datetime, subject: Subject, policy: Policy
) -> tuple[Incident, tuple[Transition, ...]]:
    pending = Incident(incident_id(subject, at), subject, State.PENDING, at, signal)
    if policy.hold > timedelta(0):
        return pending, (Transition(at, pending),)
    firing = replace(pending, state=State.FIRING, fired_at=at)
    return firing, (Transition(at, pending), Transition(at, firing))


def _calm(
    incident: Incident, at: datetime, policy: Policy
) -> tuple[Incident | None, tuple[Transition, ...]]:
    since = incident.calm_since or at
    if incident.state is State.FIRING and at - since < policy.keep_firing:
        return replace(incident, calm_since=since), ()
    return None, (_end(incident, at, since),)


def _end(incident: Incident, at: datetime, since: datetime) -> Transition:
    final = State.RESOLVED if incident.state is State.FIRING else State.LAPSED
    return Transition(at, replace(incident, state=final, resolved_at=at, calm_since=since))


def lapse(incident: Incident, at: datetime) -> Transition:
    """Ends a pending incident that an incident of its parent series silences."""
    return _end(incident, at, at)


def incident_id(subject: Subject, started_at: datetime) -> str:
    """32 hex digits, the same whenever and wherever the incident is found.

    >>> from datetime import UTC
    >>> subject = Subject("live", "negative-surge", "1", Series("credit"))
    >>> incident_id(subject, datetime(2026, 3, 2, 9, 0, tzinfo=UTC))[:8]
    'd196e0d3'
    """
    series = subject.series
    parts = (subject.run, subject.rule, series.topic, series.lang, series.entity, started_at.isoformat())
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def severity(signal: Signal, policy: Policy) -> Severity:
    """How bad a signal is."""
    many = signal.observed >= policy.critical_times * signal.expected
    return Severity.CRITICAL if many and signal.p_value <= policy.critical_below else Severity.WARNING


def alert(transition: Transition, seq: int, policy: Policy) -> Alert:
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
        severity=severity(found, policy).value,
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
    )


def to_json(incidents: list[Incident]) -> list[dict[str, Any]]:
    """Open incidents as plain values; `from_json` reads them back equal."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(incidents)
    return plain


def from_json(plain: list[dict[str, Any]]) -> list[Incident]:
    """Incidents from what `to_json` made.

    Raises:
        msgspec.ValidationError: it is something else.
    """
    return msgspec.convert(plain, list[Incident])
