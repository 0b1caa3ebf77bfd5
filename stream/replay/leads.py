"""How early the rules in production warned, held against labelled events. Pure: the same matching as a backtest's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from crosswind.stream.adapters.postgres.alert_orders import Fired
from crosswind.stream.domain.series import Series
from crosswind.stream.replay.measures import Period, lead_minutes, match
from crosswind.stream.replay.truth import Alarm, Event


@dataclass(frozen=True, slots=True)
class Lead:
    """One version of one rule against the events of a period.

    Attributes:
        events: that lie wholly in the period, also those before this version came into use.
        detected: of which the version raised an alarm for.
        lead_minutes: median from the first alarm to the onset, over those detected; negative: after it; None: none was.
    """

    events: int
    detected: int
    lead_minutes: float | None


def leads(
    fired: Sequence[Fired], events: Sequence[Event], since: datetime, until: datetime
) -> dict[tuple[str, str], Lead]:
    """The lead of each rule and version that fired.

    Args:
        fired: incidents of the period.
        since, until: the period, event time, `until` excluded.
    """
    numbers = {incident.incident_id: number for number, incident in enumerate(fired)}
    alarms: dict[tuple[str, str], list[Alarm]] = {}
    for incident in fired:
        alarms.setdefault((incident.rule, incident.rule_version), []).append(_alarm(incident, numbers))
    period = Period(since, until)
    return {version: _lead(own, events, period) for version, own in alarms.items()}


def _alarm(incident: Fired, numbers: dict[str, int]) -> Alarm:
    number = numbers[incident.incident_id]
    # A group may be led by an incident of before the period; then its members lead it among themselves.
    group = numbers.get(incident.group_id, number)
    series = Series(incident.topic, incident.lang, incident.entity)
    return Alarm(number, group, incident.rule, series, "", incident.fired_at, incident.resolved_at, 0, 0.0, (), ())


def _lead(alarms: Sequence[Alarm], events: Sequence[Event], period: Period) -> Lead:
    matched = match(alarms, events, period)
    minutes = lead_minutes(matched)
    median = float(np.median(minutes)) if len(minutes) else None
    return Lead(len(matched.events), len(minutes), median)
