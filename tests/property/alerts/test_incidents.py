"""The incident's state machine, over any sequence of signals."""

from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.evidence import Evidence
from crosswind.stream.domain.incident import (
    Cause,
    Incident,
    Policy,
    Severity,
    State,
    Subject,
    Transition,
    advance,
    alert,
    severity,
)
from crosswind.stream.domain.memory import Memory, from_json, to_json
from crosswind.stream.domain.series import MINUTE, Series
from crosswind.stream.domain.signal import Level, Signal
from tests.unit.alerts.feeds import START

SUBJECT = Subject("live", "negative-surge", "1", Series("credit"))
SIGNALS = st.lists(
    st.builds(
        Signal,
        level=st.sampled_from(Level),
        observed=st.integers(0, 99),
        expected=st.floats(0.01, 9),
        p_value=st.floats(1e-300, 1),
        evidence=st.builds(Evidence, headlines=st.integers(0, 9), languages=st.just(("de", "en"))),
    ),
    max_size=60,
)
POLICIES = st.builds(
    Policy,
    hold=st.integers(0, 8).map(lambda minutes: minutes * MINUTE),
    keep_firing=st.integers(0, 8).map(lambda minutes: minutes * MINUTE),
)
FINAL = (State.RESOLVED, State.LAPSED)


def _run(
    signals: list[Signal], policy: Policy, incident: Incident | None = None, first: int = 0
) -> tuple[Incident | None, list[Transition]]:
    changes: list[Transition] = []
    for minute, signal in enumerate(signals, first):
        incident, found = advance(incident, signal, START + minute * MINUTE, SUBJECT, policy)
        changes += found
    return incident, changes


def _levels(word: str) -> list[Signal]:
    names = {"r": Level.RAISED, "e": Level.ELEVATED, ".": Level.CALM, "?": Level.NO_DATA}
    return [Signal(names[letter], 9, 1.0, 1e-9) for letter in word]


def _story(word: str, policy: Policy = Policy(3 * MINUTE, 2 * MINUTE)) -> list[tuple[str, int]]:  # noqa: B008
    return [(change.incident.state.value, (change.at - START) // MINUTE) for change in _run(_levels(word), policy)[1]]


def test_it_fires_when_it_held_and_resolves_when_calm_held() -> None:
    assert _story(".rrrr...") == [("pending", 1), ("firing", 4), ("resolved", 7)]


def test_it_lapses_when_it_did_not_hold() -> None:
    assert _story(".rr.") == [("pending", 1), ("lapsed", 3)]


def test_an_elevated_signal_opens_nothing_and_ends_nothing() -> None:
    assert _story("eeee") == []
    assert _story("reeee") == [("pending", 0)]
    assert _story("reeer") == [("pending", 0), ("firing", 4)]
    assert _story("rrrreeeee") == [("pending", 0), ("firing", 3)]


def test_no_data_is_not_calm() -> None:
    assert _story("rrrr????????") == [("pending", 0), ("firing", 3)]
    assert _story("rrrr.??...") == [("pending", 0), ("firing", 3), ("resolved", 9)]


@given(SIGNALS, POLICIES)
def test_severity_only_rises(signals, policy: Policy) -> None:
    worst: dict[str, Severity] = {}
    for change in _run(signals, policy)[1]:
        before = worst.get(change.incident.incident_id)
        assert before is not Severity.CRITICAL or change.incident.severity is Severity.CRITICAL
        worst[change.incident.incident_id] = change.incident.severity


@given(SIGNALS, POLICIES)
def test_a_flapping_incident_needs_longer_calm(signals, policy: Policy) -> None:
    incident = Incident("x", SUBJECT, State.FIRING, START, Signal(Level.RAISED), START, flapping=True)
    for change in _run(signals, policy, incident)[1]:
        if change.cause is Cause.RESOLVED and change.incident.incident_id == "x":
            assert change.at - change.incident.calm_since >= policy.keep_firing * policy.flap_factor


def test_a_short_calm_does_not_resolve_it() -> None:
    assert _story("rrrr..r..r") == [("pending", 0), ("firing", 3)]


@given(SIGNALS, POLICIES)
def test_every_incident_lives_one_life(signals, policy: Policy) -> None:
    lives: dict[str, list[State]] = {}
    for change in _run(signals, policy)[1]:
        lives.setdefault(change.incident.incident_id, []).append(change.incident.state)
    allowed = (
        [State.PENDING], [State.PENDING, State.LAPSED], [State.PENDING, State.FIRING],
        [State.PENDING, State.FIRING, State.RESOLVED],
    )  # fmt: skip
    assert all(life in allowed for life in lives.values())
    assert all(life[-1] in FINAL for life in list(lives.values())[:-1])


@given(SIGNALS, POLICIES)
def test_it_fires_no_sooner_and_resolves_no_sooner_than_the_policy_says(signals, policy: Policy) -> None:
    for change in _run(signals, policy)[1]:
        incident = change.incident
        if incident.state is State.FIRING:
            assert change.at - incident.started_at >= policy.hold
        if incident.state is State.RESOLVED:
            calm = signals[(incident.calm_since - START) // MINUTE : (change.at - START) // MINUTE + 1]
            assert change.at - incident.calm_since >= policy.keep_firing
            assert all(signal.level is Level.CALM for signal in calm)


@given(SIGNALS, POLICIES, st.integers(0, 60))
def test_a_restart_from_json_changes_nothing(signals, policy: Policy, cut: int) -> None:
    whole = _run(signals, policy)
    incident, before = _run(signals[:cut], policy)
    memory = Memory(
        {SUBJECT.key: incident} if incident else {}, {SUBJECT.key: (START,)}, {SUBJECT.key: START},
        frozenset({SUBJECT.key}),
    )  # fmt: skip
    assert from_json(msgspec.json.decode(msgspec.json.encode(to_json(memory)))) == memory
    incident, after = _run(signals[cut:], policy, incident, min(cut, len(signals)))
    assert (incident, before + after) == whole


@given(SIGNALS, POLICIES)
def test_the_strongest_minute_is_kept(signals, policy: Policy) -> None:
    incident, _ = _run(signals, policy)
    if incident:
        begun = (incident.started_at - START) // MINUTE
        assert incident.strongest.p_value == min(s.p_value for s in signals[begun:] if s.level is Level.RAISED)


@given(SIGNALS, POLICIES)
def test_an_alert_survives_the_wire(signals, policy: Policy) -> None:
    for seq, change in enumerate(_run(signals, policy)[1], 1):
        message = alert(change, seq)
        assert msgspec.json.decode(msgspec.json.encode(message), type=Alert) == message
        assert (message.seq, message.state) == (seq, change.incident.state.value)


def test_severity_needs_both_many_and_unlikely() -> None:
    strong = Signal(Level.RAISED, 40, 2.0, 1e-20)
    assert severity(strong, Policy()) is Severity.CRITICAL
    assert severity(Signal(Level.RAISED, 40, 20.0, 1e-20), Policy()) is Severity.WARNING
    assert severity(Signal(Level.RAISED, 40, 2.0, 1e-6), Policy()) is Severity.WARNING


def test_hold_of_nothing_fires_at_once() -> None:
    assert _story("r", Policy(timedelta(0), MINUTE)) == [("pending", 0), ("firing", 0)]
