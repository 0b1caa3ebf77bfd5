"""The walk over minutes: cutting it anywhere changes nothing, and parents silence their children."""

from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.incident import Policy, State
from crosswind.stream.domain.series import MINUTE, History, Series
from crosswind.stream.domain.surge import Level, Signal
from crosswind.stream.domain.watch import Watch
from tests.unit.alerts.feeds import START

LENGTH = 40
POLICY = Policy(2 * MINUTE, 3 * MINUTE)
ALL_LANGS, ENGLISH, GERMAN, COMPANY = (
    Series("credit"), Series("credit", "en"), Series("credit", "de"), Series(ALL, ALL, "Acme"),
)  # fmt: skip
COUNTS = st.lists(st.sampled_from([0, 0, 1, 2]), min_size=LENGTH, max_size=LENGTH)
FEEDS = st.fixed_dictionaries(dict.fromkeys((ALL_LANGS, ENGLISH, GERMAN, COMPANY), COUNTS))


class OneIsElevatedTwoIsRaised:
    """A rule that a test can foresee."""

    name, version, window, least, lookback = "test", "1", 1, 2, 0

    def evaluate(self, history: History, at: datetime) -> Signal:
        count, _ = history.sums(at, 1)
        return Signal((Level.CALM, Level.ELEVATED, Level.RAISED)[count], count, 0.5, 10.0**-count)


WATCH = Watch("live", OneIsElevatedTwoIsRaised(), POLICY)


def _histories(feed: dict[Series, list[int]]) -> dict[Series, History]:
    return {series: History.of(START, counts, counts, counts) for series, counts in feed.items()}


def _walk(feed, opened, first: int, last: int):
    return WATCH.over(_histories(feed), opened, START + first * MINUTE, START + last * MINUTE)


@settings(max_examples=200)
@given(FEEDS, st.lists(st.integers(1, LENGTH - 1), unique=True).map(sorted))
def test_cutting_the_walk_changes_nothing(feed, cuts: list[int]) -> None:
    whole = _walk(feed, {}, 0, LENGTH - 1)
    opened, transitions = {}, []
    for first, stop in zip([0, *cuts], [*cuts, LENGTH], strict=True):
        opened, found = _walk(feed, opened, first, stop - 1)
        transitions += found
    assert (opened, transitions) == whole


@given(FEEDS)
def test_quiet_series_may_be_left_out(feed) -> None:
    loud = {series: counts for series, counts in feed.items() if 2 in counts}
    assert _walk(loud, {}, 0, LENGTH - 1) == _walk(feed, {}, 0, LENGTH - 1)


@given(FEEDS)
def test_no_language_opens_while_all_languages_are_open(feed) -> None:
    opened: set[Series] = set()
    for change in _walk(feed, {}, 0, LENGTH - 1)[1]:
        series, state = change.incident.subject.series, change.incident.state
        if state in (State.PENDING, State.FIRING):
            assert series.parent not in opened
            opened.add(series)
        else:
            opened.discard(series)


def test_all_languages_silence_a_pending_language_in_the_same_minute() -> None:
    feed = {ALL_LANGS: [0, 2, 2, 2, 2], ENGLISH: [2, 2, 2, 2, 2]}
    story = [(c.incident.subject.series.lang, c.incident.state.value, (c.at - START) // MINUTE)
             for c in WATCH.over(_histories(feed), {}, START, START + 4 * MINUTE)[1]]  # fmt: skip
    assert story == [("en", "pending", 0), ("*", "pending", 1), ("en", "lapsed", 1), ("*", "firing", 3)]


def test_a_firing_language_goes_on_beside_all_languages() -> None:
    feed = {ALL_LANGS: [0, 0, 0, 2, 2, 2], ENGLISH: [2, 2, 2, 2, 2, 2]}
    opened, _ = WATCH.over(_histories(feed), {}, START, START + 5 * MINUTE)
    assert {series: incident.state for series, incident in opened.items()} == {
        ALL_LANGS: State.FIRING, ENGLISH: State.FIRING,
    }  # fmt: skip
