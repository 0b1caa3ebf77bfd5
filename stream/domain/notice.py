"""What subscribers hear of an incident that goes on: worse, again, or no longer silenced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from crosswind.stream.domain.incident import Cause, Incident, Policy, Severity, State, Transition
from crosswind.stream.domain.silence import Silence, silenced


@dataclass(frozen=True, slots=True)
class Orders:
    """What people asked for.

    Attributes:
        acknowledged: ids of incidents that somebody took on: they are not repeated until they are resolved.
        universe: by a rule's name and hour, how many series it watches in all, for budgets that all series of a rule
            share; see `domain.universe`.
    """

    silences: Sequence[Silence] = ()
    acknowledged: frozenset[str] = frozenset()
    universe: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


def notices(incident: Incident, at: datetime, policy: Policy, orders: Orders) -> tuple[list[Transition], Incident]:
    """The notices of one minute besides changes of state, one at most, and the incident as it is then."""
    quiet = silenced(orders.silences, incident.labels, at)
    was, incident = incident.silenced, replace(incident, silenced=quiet)
    if incident.state is not State.FIRING:
        return [], incident
    if incident.noticed_at is None:
        incident = _told(incident, at)
    cause = _cause(incident, at, policy, was, orders)
    if cause is None:
        return [], incident
    incident = _told(incident, at)
    return [Transition(at, incident, cause)], incident


def _told(incident: Incident, at: datetime) -> Incident:
    heard = tuple(sorted({*incident.heard, *incident.strongest.evidence.languages}))
    return replace(incident, noticed_at=at, told=incident.severity, heard=heard)


def _cause(incident: Incident, at: datetime, policy: Policy, was_silenced: bool, orders: Orders) -> Cause | None:
    if was_silenced and not incident.silenced:
        return Cause.SILENCE_ENDED
    if incident.severity is Severity.CRITICAL and incident.told is Severity.WARNING:
        return Cause.ESCALATED
    if policy.repeat is None or incident.silenced or incident.incident_id in orders.acknowledged:
        return None
    since = incident.noticed_at or at
    return Cause.REPEATED if at - since >= policy.repeat else None
