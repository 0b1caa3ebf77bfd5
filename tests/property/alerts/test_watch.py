"""The walk over minutes: cutting it anywhere changes nothing; parents, groups, silences and late articles."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.detect.budget import Table
from crosswind.stream.domain.detect.detector import Scores
from crosswind.stream.domain.detect.view import View
from crosswind.stream.domain.incident import Cause, Policy, Severity, State
from crosswind.stream.domain.memory import Memory, from_json, to_json
from crosswind.stream.domain.notice import Orders
from crosswind.stream.domain.rules import Least, NoData, Rule, RuleSet
from crosswind.stream.domain.series import MINUTE, History, Mention, Series
from crosswind.stream.domain.silence import Silence, parse_matcher
from crosswind.stream.domain.watch import NO_DATA, RUN, Watch
from tests.unit.alerts.feeds import START

LENGTH = 90
POLICY = Policy(2 * MINUTE, 3 * MINUTE, flap_fires=99)
ALL_LANGS, ENGLISH, GERMAN, COMPANY = (
    Series("credit"), Series("credit", "en"), Series("credit", "de"), Series(ALL, ALL, "Acme"),
)  # fmt: skip
COUNTS = st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=LENGTH, max_size=LENGTH)
RUNS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=30).map(
    lambda runs: ([count for count, times in runs for _ in range(times)] + [0] * LENGTH)[:LENGTH]
)
"""Counts that stay as they are for some minutes."""
FEEDS = st.fixed_dictionaries(dict.fromkeys((ALL_LANGS, ENGLISH, GERMAN, COMPANY), COUNTS))


class OneIsElevatedTwoIsRaised:
    """A statistic that a test can foresee: the score is the last minute's count."""

    name, version, widths = "test", "1", (1,)

    def scores(self, view: View) -> Scores:
        count = view.window(1).negative
        return Scores(count, np.ones(count.shape, np.int64))


RULE = Rule("test", "1", OneIsElevatedTwoIsRaised(), Table((0.1, 1.0), (1.0, 0.1), ((1.0, 2.0), (1.0, 2.0))),
            least=Least(1, 1, 0), policy=POLICY, clear=0.5)  # fmt: skip


def _watch(policy: Policy = POLICY, no_data: NoData | None = None) -> Watch:
    return Watch("live", RuleSet((replace(RULE, policy=policy),), "v", no_data=no_data))


WATCH = _watch()


def _mentions(series: Series, counts: list[int], shared: bool) -> list[Mention]:
    name = "shared" if shared else f"{series.topic}{series.lang}{series.entity}"
    return [
        Mention(START + minute * MINUTE, f"{name}-{minute}-{n}", f"s{n}", f"{name}{minute}-{n}", "credit", "en", 9, "m")
        for minute, count in enumerate(counts) for n in range(count)
    ]  # fmt: skip


def _histories(feed: dict[Series, list[int]], shared: bool = False) -> dict[Series, History]:
    run = [7] * LENGTH
    return {
        series: History.of(START, counts, counts, run[: len(counts)], _mentions(series, counts, shared))
        for series, counts in feed.items()
    }


def _walk(feed, memory=Memory(), first: int = 0, last: int = LENGTH - 1, orders=Orders(), watch=WATCH, shared=False):  # noqa: B008
    return watch.over(_histories(feed, shared), memory, START + first * MINUTE, START + last * MINUTE, orders)


def _padded(word: str) -> list[int]:
    return [int(letter) for letter in word.ljust(LENGTH, "0")]


def _story(changes) -> list[tuple[str, int]]:
    return [(change.cause.value, (change.at - START) // MINUTE) for change in changes]


@settings(max_examples=15, deadline=None)
@given(FEEDS, st.lists(st.integers(1, LENGTH - 1), unique=True, max_size=8).map(sorted), st.booleans())
def test_cutting_the_walk_changes_nothing(feed, cuts: list[int], shared: bool) -> None:
    whole = _walk(feed, shared=shared)
    memory, transitions = Memory(), []
    for first, stop in zip([0, *cuts], [*cuts, LENGTH], strict=True):
        memory, found = _walk(feed, memory, first, stop - 1, shared=shared)
        transitions += found
    assert (memory, transitions) == whole


@settings(max_examples=15, deadline=None)
@given(FEEDS)
def test_quiet_series_may_be_left_out(feed) -> None:
    loud = {series: counts for series, counts in feed.items() if 2 in counts}
    assert _walk(loud) == _walk(feed) if loud else _walk(feed)[1] == []


@settings(max_examples=15, deadline=None)
@given(FEEDS)
def test_no_language_opens_while_all_languages_are_open_and_speak_for_it(feed) -> None:
    """The evidence in these feeds is English: nobody who follows German hears of it by all languages."""
    opened: set[Series] = set()
    for change in _walk(feed)[1]:
        series, incident = change.incident.subject.series, change.incident
        if change.cause is Cause.OPENED:
            assert series.parent not in opened or series == GERMAN
            opened.add(series)
        elif not incident.open:
            opened.discard(series)


@settings(max_examples=15, deadline=None)
@given(FEEDS, st.booleans())
def test_a_group_has_one_leader(feed, shared: bool) -> None:
    fired = [change.incident for change in _walk(feed, shared=shared)[1] if change.cause is Cause.FIRED]
    for group in {incident.group for incident in fired}:
        assert [incident.incident_id for incident in fired if incident.group == group and incident.leads] == [group]


def test_surges_of_the_same_articles_are_one_group_and_others_are_not() -> None:
    feed = {ALL_LANGS: _padded("0222"), COMPANY: _padded("00222")}
    for shared, groups in ((True, 1), (False, 2)):
        fired = [c.incident for c in _walk(feed, shared=shared)[1] if c.cause is Cause.FIRED]
        assert (len(fired), len({incident.group for incident in fired})) == (2, groups)


def test_a_group_whose_leader_is_over_takes_nobody_in() -> None:
    other = Series("fraud")
    feed = {COMPANY: _padded("222"), ALL_LANGS: _padded("02222222222"), other: _padded("00000000222")}
    found = _walk(feed, shared=True)[1]
    assert _story([c for c in found if c.incident.subject.series == COMPANY])[-1] == ("resolved", 6)
    fired = {c.incident.subject.series: c.incident for c in found if c.cause is Cause.FIRED}
    assert fired[ALL_LANGS].group == fired[COMPANY].incident_id
    assert fired[other].leads


def test_a_surge_that_follows_is_repeated_too() -> None:
    """Whoever was told of it and not of the leader hears that it goes on."""
    feed = {COMPANY: _padded("2" * 20), ALL_LANGS: _padded("0" + "2" * 19)}
    found = _walk(feed, watch=_watch(replace(POLICY, repeat=5 * MINUTE)), shared=True, last=19)[1]
    assert {c.incident.leads for c in found if c.cause is Cause.REPEATED} == {True, False}


def test_all_languages_silence_a_pending_language_in_the_same_minute() -> None:
    feed = {ALL_LANGS: _padded("0222"), ENGLISH: _padded("2222")}
    story = [(c.incident.subject.series.lang, c.incident.state.value, (c.at - START) // MINUTE)
             for c in _walk(feed, last=3)[1]]  # fmt: skip
    assert story == [("en", "pending", 0), ("*", "pending", 1), ("en", "lapsed", 1), ("*", "firing", 3)]


def test_a_firing_language_goes_on_beside_all_languages() -> None:
    memory, _ = _walk({ALL_LANGS: _padded("000222"), ENGLISH: _padded("222222")}, last=5)
    assert {key[1]: incident.state for key, incident in memory.opened.items()} == {
        ALL_LANGS: State.FIRING, ENGLISH: State.FIRING,
    }  # fmt: skip


def test_a_language_without_evidence_in_all_languages_fires_beside_them_and_in_their_group() -> None:
    feed = {ALL_LANGS: _padded("2222222222"), ENGLISH: _padded("00002222"), GERMAN: _padded("0000222")}
    found = _walk(feed, last=9)[1]
    assert [(c.cause, c.incident.subject.series.lang) for c in found if c.cause is not Cause.RESOLVED] == [
        (Cause.OPENED, "*"), (Cause.FIRED, "*"), (Cause.OPENED, "de"), (Cause.FIRED, "de"),
    ]  # fmt: skip
    assert {c.incident.group for c in found if c.cause is Cause.FIRED} == {found[0].incident.incident_id}


def test_what_all_languages_never_told_holds_no_language_back() -> None:
    feed = {ALL_LANGS: _padded("0020000"), ENGLISH: _padded("0222222")}
    story = [(c.incident.subject.series.lang, c.cause.value, (c.at - START) // MINUTE)
             for c in _walk(feed, last=6)[1]]  # fmt: skip
    assert story == [
        ("en", "opened", 1), ("*", "opened", 2), ("en", "lapsed", 2), ("*", "lapsed", 3), ("en", "opened", 3),
        ("en", "fired", 5),
    ]  # fmt: skip


def test_a_language_that_outlasts_all_languages_opens_once_it_was_calm() -> None:
    feed = {ALL_LANGS: _padded("222"), ENGLISH: _padded("222222222012220222")}
    story = [(c.incident.subject.series.lang, c.cause.value, (c.at - START) // MINUTE)
             for c in _walk(feed, last=13)[1]]  # fmt: skip
    assert story == [
        ("*", "opened", 0), ("*", "fired", 2), ("*", "resolved", 6), ("en", "opened", 11), ("en", "fired", 13),
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(RUNS, RUNS)
def test_no_language_opens_as_new_what_all_languages_told(whole: list[int], part: list[int]) -> None:
    found = _walk({ALL_LANGS: whole, ENGLISH: part})[1]
    lives: dict[str, list[int]] = {}
    for change in found:
        if change.incident.subject.series == ALL_LANGS and change.cause in (Cause.FIRED, Cause.RESOLVED):
            lives.setdefault(change.incident.incident_id, []).append((change.at - START) // MINUTE)
    for change in found:
        if change.incident.subject.series == ENGLISH and change.cause is Cause.OPENED:
            at = (change.at - START) // MINUTE
            loud = at - next((n for n, count in enumerate(reversed(part[:at])) if count == 0), at)
            raised = [minute for minute in range(loud, at) if part[minute] == 2]
            assert not [life for life in lives.values() for minute in raised
                        if life[0] <= minute < (life[1] if len(life) > 1 else LENGTH)]  # fmt: skip


SILENCES = st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(
    lambda span: Silence("s", (parse_matcher("topic=credit"),), START + span[0] * MINUTE, START + span[1] * MINUTE)
)


@settings(max_examples=15, deadline=None)
@given(FEEDS, SILENCES)
def test_a_silence_changes_notices_but_no_life(feed, silence: Silence) -> None:
    def lives(changes) -> list[tuple[str, str, int]]:
        return [(c.incident.incident_id, c.incident.state.value, (c.at - START) // MINUTE)
                for c in changes if c.cause in (Cause.OPENED, Cause.FIRED, Cause.RESOLVED, Cause.LAPSED)]  # fmt: skip

    found = _walk(feed, orders=Orders([silence]))[1]
    assert lives(found) == lives(_walk(feed)[1])
    for change in found:
        inside = silence.starts_at <= change.at < silence.ends_at and change.incident.subject.series.topic == "credit"
        assert not inside or change.incident.silenced or not change.incident.open


def test_an_incident_that_outlasts_its_silence_is_told_then() -> None:
    silence = Silence("s", (parse_matcher("topic=credit"),), START, START + 6 * MINUTE)
    found = _walk({ALL_LANGS: _padded("222222222")}, orders=Orders([silence]), last=8)[1]
    assert _story(found) == [("opened", 0), ("fired", 2), ("silence_ended", 6)]
    assert [change.incident.silenced for change in found] == [True, True, False]


@settings(max_examples=15, deadline=None)
@given(FEEDS, st.integers(2, 9))
def test_reminders_keep_their_interval_and_stop_when_acknowledged(feed, minutes: int) -> None:
    watch = _watch(replace(POLICY, repeat=minutes * MINUTE))
    found = _walk(feed, watch=watch)[1]
    last: dict[str, object] = {}
    for change in found:
        ident = change.incident.incident_id
        if change.cause is Cause.REPEATED:
            assert change.at - last[ident] >= minutes * MINUTE
        if change.cause in (Cause.FIRED, Cause.REPEATED, Cause.ESCALATED):
            last[ident] = change.at
    taken = Orders(acknowledged=frozenset(change.incident.incident_id for change in found))
    assert not [c for c in _walk(feed, watch=watch, orders=taken)[1] if c.cause is Cause.REPEATED]


def test_firing_again_and_again_is_flapping_and_ends_later() -> None:
    watch = _watch(replace(POLICY, flap_fires=3, flap_factor=4))
    found = _walk({ALL_LANGS: _padded("22200000" * 3)}, watch=watch)[1]
    fired = [change.incident.flapping for change in found if change.cause is Cause.FIRED]
    assert fired == [False, False, True]
    ends = [(change.at - START) // MINUTE for change in found if change.cause is Cause.RESOLVED]
    assert ends == [6, 14, 31]


def test_when_a_series_fired_is_forgotten_after_a_day_although_it_never_fires_again() -> None:
    day = timedelta(days=1)
    key, gone = (RULE.name, ALL_LANGS), ("a rule of before", COMPANY)
    fires = {key: (START - day, START - day + 2 * MINUTE), gone: (START - day,)}
    calm = {GERMAN: [0] * LENGTH}
    assert _walk(calm, Memory({}, fires), last=1)[0].fires == {key: (START - day + 2 * MINUTE,)}
    assert _walk(calm, Memory({}, fires), last=2)[0].fires == {}
    longer = _watch(replace(POLICY, flap_within=2 * day))
    assert _walk(calm, Memory({}, fires), last=2, watch=longer)[0].fires == {key: fires[key]}
    assert WATCH.amend(_histories(calm), Memory({}, fires), START, START + 2 * MINUTE)[0].fires == {}


@pytest.mark.parametrize(("minutes", "story"), [
    ((0, 600), [("no_data", True), ("resolved", True)]),
    ((0, 460), [("no_data", True), ("silence_ended", False), ("resolved", False)]),
    ((460, 470), [("no_data", False), ("silence_ended", False), ("resolved", False)]),
])  # fmt: skip
def test_a_silent_feed_can_be_silenced(minutes: tuple[int, int], story: list[tuple[str, bool]]) -> None:
    run = np.array([2] * (7 * 60) + [0] * 60 + [2] * 60)
    nothing = np.zeros(len(run), np.int64)
    first, last = (START + minute * MINUTE for minute in minutes)
    orders = Orders([Silence("s", (parse_matcher(f"rule={NO_DATA}"),), first, last)])
    watch = _watch(no_data=NoData(timedelta(minutes=10), 10.0))
    _, found = watch.over({RUN: History.of(START, nothing, nothing, run)}, Memory(), START + 6 * 60 * MINUTE,
                          START + (len(run) - 1) * MINUTE, orders)  # fmt: skip
    assert [(change.cause.value, change.incident.silenced) for change in found] == story


def test_a_silent_feed_is_an_incident_and_holds_the_others() -> None:
    length = 8 * 60
    run = np.array([2] * (7 * 60) + [0] * 60)
    counts = np.zeros(length, np.int64)
    counts[7 * 60 - 3 : 7 * 60] = 2
    histories = {RUN: History.of(START, run // 4, run, run), ALL_LANGS: History.of(START, counts, counts, run, [
        Mention(START + (7 * 60 - 3 + n) * MINUTE, str(m), "s", f"{n}{m}", "credit", "en", 9, "m")
        for n in range(3) for m in range(2)
    ])}  # fmt: skip
    watch = _watch(replace(POLICY, keep_firing=20 * MINUTE), NoData(timedelta(minutes=10), 10.0))
    memory, found = watch.over(histories, Memory(), START + 6 * 60 * MINUTE, START + (length - 1) * MINUTE)
    assert [change.cause for change in found] == [Cause.OPENED, Cause.FIRED, Cause.NO_DATA]
    assert found[-1].incident.subject.rule == NO_DATA
    assert memory.opened[("test", ALL_LANGS)].state is State.FIRING


@settings(max_examples=15, deadline=None)
@given(FEEDS, FEEDS, st.integers(0, LENGTH - 1))
def test_late_articles_never_unsay_a_firing_alert(before, late, since: int) -> None:
    memory, told = _walk(before)
    grown = {series: [max(a, b) for a, b in zip(before[series], late[series], strict=True)] for series in before}
    after, found = WATCH.amend(_histories(grown), memory, START + since * MINUTE, START + (LENGTH - 1) * MINUTE)
    for key, incident in memory.opened.items():
        assert after.opened[key].state is incident.state
        assert after.opened[key].incident_id == incident.incident_id
    assert all(change.at == START + (LENGTH - 1) * MINUTE for change in found)
    assert {c.cause for c in found} <= {Cause.OPENED, Cause.FIRED, Cause.CORRECTED, Cause.ESCALATED}
    known = {change.incident.incident_id for change in told}
    assert not known & {change.incident.incident_id for change in found if change.cause is Cause.FIRED}


@settings(max_examples=25, deadline=None)
@given(RUNS, COUNTS, st.integers(0, LENGTH - 1))
def test_looking_again_at_what_has_not_changed_tells_no_surge(surges: list[int], other, since: int) -> None:
    feed = {ALL_LANGS: surges, COMPANY: other}
    memory, _ = _walk(feed)
    after, found = WATCH.amend(_histories(feed), memory, START + since * MINUTE, START + (LENGTH - 1) * MINUTE)
    assert {change.cause for change in found} <= {Cause.CORRECTED}
    assert after.opened.keys() == memory.opened.keys()


@pytest.mark.parametrize("since", [0, 30, 50, 60, 66, 70, 72])
def test_a_surge_that_was_told_and_is_over_is_not_told_again(since: int) -> None:
    """Nor its language's, which all languages spoke for, while it outlasts them or after."""
    feed = {ALL_LANGS: [0] * 40 + [2] * 25 + [0] * 25, ENGLISH: [0] * 45 + [2] * 30 + [0] * 15}
    memory, told = _walk(feed)
    assert _story(told) == [("opened", 40), ("fired", 42), ("resolved", 68)]
    again = from_json(msgspec.json.decode(msgspec.json.encode(to_json(memory))))
    after, found = WATCH.amend(_histories(feed), again, START + since * MINUTE, START + (LENGTH - 1) * MINUTE)
    assert (found, after) == ([], memory)


def test_late_articles_that_make_it_critical_escalate_it_once() -> None:
    watch = _watch(replace(POLICY, critical_below=1e-6, keep_firing=30 * MINUTE))
    memory, told = _walk({ALL_LANGS: [0] * 60 + [2] * 5 + [0] * 25}, watch=watch, last=70)
    late = {ALL_LANGS: [0] * 60 + [2, 2, 2, 30, 30] + [0] * 25}
    after, found = watch.amend(_histories(late), memory, START + 60 * MINUTE, START + 70 * MINUTE)
    assert [(c.cause.value, c.incident.severity) for c in told + found] == [
        ("opened", Severity.WARNING), ("fired", Severity.WARNING), ("corrected", Severity.CRITICAL),
        ("escalated", Severity.CRITICAL),
    ]  # fmt: skip
    assert _walk(late, after, 71, watch=watch)[1] == []
    less = _histories({ALL_LANGS: [0] * 60 + [2] * 5 + [0] * 25})
    _, unsaid = watch.amend(less, after, START + 60 * MINUTE, START + 70 * MINUTE)
    assert [(c.cause.value, c.incident.severity) for c in unsaid] == [("corrected", Severity.CRITICAL)]


def test_a_surge_that_is_only_seen_late_fires_late() -> None:
    memory, told = _walk({ALL_LANGS: _padded("0")})
    assert told == []
    histories = _histories({ALL_LANGS: [0] * 85 + [2] * 5})
    _, found = WATCH.amend(histories, memory, START + 60 * MINUTE, START + (LENGTH - 1) * MINUTE)
    assert _story(found) == [("opened", 89), ("fired", 89)]
    assert found[0].incident.started_at == START + 85 * MINUTE


def test_a_silent_stretch_of_the_past_is_no_late_alert() -> None:
    run = np.array([2] * (7 * 60) + [0] * 60)
    nothing = np.zeros(len(run), np.int64)
    histories = {RUN: History.of(START, nothing, nothing, run)}
    until = START + (len(run) - 1) * MINUTE
    watch = _watch(no_data=NoData(timedelta(minutes=10), 10.0))
    _, seen = watch.over(histories, Memory(), START + 6 * 60 * MINUTE, until)
    assert [change.cause for change in seen] == [Cause.NO_DATA]
    memory, found = watch.amend(histories, Memory(), START + 6 * 60 * MINUTE, until)
    assert found == []
    assert memory.opened == {}
