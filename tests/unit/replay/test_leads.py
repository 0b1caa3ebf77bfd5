"""Lead times of rules in production: by the backtest's matching, per rule and version."""

from datetime import UTC, datetime, timedelta

from crosswind.stream.adapters.postgres.alert_orders import Fired
from crosswind.stream.domain.series import Series
from crosswind.stream.replay.leads import Lead, leads
from crosswind.stream.replay.truth import Event

START = datetime(2026, 3, 2, tzinfo=UTC)
UNTIL = START + timedelta(days=30)


def hours(n: float) -> datetime:
    return START + timedelta(hours=n)


def fired(n: float, name: str, version: str = "v1", topic: str = "credit", group: str = "") -> Fired:
    return Fired(name, group or name, "surge", version, topic, "*", "*", hours(n), None)


def event(n: float, topic: str = "credit") -> Event:
    return Event(f"event {n}", hours(n), hours(n + 4), Series(topic))


def test_the_first_alarm_counts_and_early_is_above_0() -> None:
    alarms = [fired(9.8, "a"), fired(11, "b"), fired(101, "c")]
    found = leads(alarms, [event(10), event(100)], START, UNTIL)
    assert found == {("surge", "v1"): Lead(2, 2, (12 - 60) / 2)}


def test_versions_are_judged_apart() -> None:
    found = leads([fired(10.5, "a", "v1"), fired(100.25, "b", "v2")], [event(10), event(100)], START, UNTIL)
    assert found == {("surge", "v1"): Lead(2, 1, -30.0), ("surge", "v2"): Lead(2, 1, -15.0)}


def test_false_alarms_and_events_that_are_not_over_have_no_lead() -> None:
    alarms = [fired(50, "a"), fired(10.5, "b", topic="fraud"), fired(24 * 30 - 1, "c")]
    assert leads(alarms, [event(10), event(24 * 30 - 2)], START, UNTIL) == {("surge", "v1"): Lead(1, 0, None)}


def test_a_group_whose_leader_fired_before_the_period_counts_all_the_same() -> None:
    assert leads([fired(10, "a", group="long ago")], [event(10)], START, UNTIL) == {("surge", "v1"): Lead(1, 1, 0.0)}
