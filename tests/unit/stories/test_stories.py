"""Stories, pure: what joins, what does not, and that order of batches, repetition and age make no difference."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.identity import title_key
from crosswind.stream.domain.stories.clusters import Index, Novelty, Stories, Telling
from crosswind.stream.domain.stories.decision import Criteria, Match, Reason, choose
from crosswind.stream.domain.stories.exact import ExactIndex
from crosswind.stream.domain.stories.facts import agreement, facts_of, named
from crosswind.stream.domain.stories.meaning import cosine, pack, unpack
from crosswind.stream.domain.stories.signature import bands
from tests.builders import START

NAMES = ("Orbex", "Volga", "Quillon", "Bramley", "Tsumugi", "Halden")
VERBS = ("wins", "loses", "buys", "sells")
EVENTS = np.random.default_rng(5).standard_normal((6, 48))
INDEXES: list[Callable[[int], Index]] = [ExactIndex, lambda width: StoryIndex(width, exact=2)]


def telling(number: int, event: int, title: str = "", hours: float | None = None, **more: object) -> Telling:
    moved = EVENTS[event] + 0.05 * np.random.default_rng(number).standard_normal(48)
    at = START + timedelta(hours=number if hours is None else hours)
    name, verb = NAMES[event], VERBS[number % 4]
    title = title or f"{name} {verb}"
    values = {"tags": (), "meaning": pack(moved), "model": "m"} | more
    return Telling(f"{number:04}", at, "wire", "en", title, title_key(title), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", INDEXES)
def test_tellings_of_one_event_share_its_story(index: Callable[[int], Index]) -> None:
    stories = Stories(index)
    found = [stories.assign(telling(n, n % 6)).story_id for n in range(24)]
    assert found == [f"{n % 6:04}" for n in range(24)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25), st.data())
def test_a_repetition_changes_nothing(events: list[int], data: st.DataObject) -> None:
    feed = [telling(n, event) for n, event in enumerate(events)]
    once, again = Stories(ExactIndex), Stories(ExactIndex)
    expected = [once.assign(one).story_id for one in feed]
    for place, one in enumerate(feed):
        again.assign(one)
        again.assign(feed[data.draw(st.integers(0, place))])
    assert [again.assign(one).story_id for one in feed] == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=25), st.data())
def test_starting_again_from_what_is_stored_goes_on_alike(events: list[int], data: st.DataObject) -> None:
    feed = [telling(n, event) for n, event in enumerate(events)]
    cut = data.draw(st.integers(1, len(feed) - 1))
    first, second = Stories(ExactIndex), Stories(ExactIndex)
    given_out = [first.assign(one) for one in feed]
    for one, was in zip(feed[:cut], given_out[:cut], strict=True):
        second.restore(one, was.story_id, was.novelty, was.reason, was.similarity)
    assert [second.assign(one).story_id for one in feed[cut:]] == [a.story_id for a in given_out[cut:]]


def test_an_old_story_is_over_and_forgotten() -> None:
    stories = Stories(ExactIndex, window=timedelta(days=3))
    stories.assign(telling(0, 0, hours=0))
    assert stories.assign(telling(1, 0, hours=80)).novelty is Novelty.FIRST
    assert len(stories) == 1


def test_memory_is_bounded() -> None:
    stories = Stories(ExactIndex, window=timedelta(days=999), most=4)
    for n in range(60):
        stories.assign(telling(n, n % 6))
        assert len(stories) <= 5


def test_meanings_of_two_bundles_are_never_compared() -> None:
    stories = Stories(ExactIndex)
    stories.assign(telling(0, 0, "Orbex wins"))
    assert stories.assign(telling(1, 0, "Totally different words", model="other")).novelty is Novelty.FIRST


def test_a_copy_is_found_without_any_meaning() -> None:
    stories = Stories(ExactIndex)
    title = "Central bank of Norland holds its interest rate steady"
    stories.assign(telling(0, 0, title, meaning=b""))
    copied = stories.assign(telling(1, 0, title.upper() + "!", meaning=b""))
    assert (copied.story_id, copied.novelty, copied.reason) == ("0000", Novelty.REPEATED, Reason.SAME_TEXT)


def test_almost_the_same_text_with_another_figure_is_no_copy() -> None:
    stories = Stories(ExactIndex)
    stories.assign(telling(0, 0, "Halvorsen Bank to cut 2,000 jobs as costs rise", meaning=b""))
    assert stories.assign(telling(1, 0, "Halvorsen Bank to cut 450 jobs as costs rise", meaning=b"")).story_id == "0001"


def test_a_doubtful_match_needs_a_margin() -> None:
    criteria = Criteria(doubtful=0.6, sure=0.9, margin=0.1)
    near = [Match("a", 0.7, 0.7, 0.0), Match("b", 0.65, 0.65, 0.0)]
    assert choose(near, criteria) == (None, Reason.NEW)
    assert choose(near[:1], criteria)[0] == near[0]


def test_ties_go_to_the_smaller_id() -> None:
    twins = [Match("b", 2.0, 2.0, 0.0), Match("a", 2.0, 2.0, 0.0)]
    assert choose(twins, Criteria(merge=2))[0] == twins[1]


def test_a_bridge_makes_one_story_of_two_and_says_so() -> None:
    one, other = np.zeros(48), np.zeros(48)
    one[0], other[0], other[1] = 1.0, 0.8, 0.6
    criteria = Criteria(doubtful=0.9, sure=0.9, names=0, figures=0, merge=0.7)
    stories = Stories(ExactIndex, criteria)
    for number, vector in enumerate((one, other)):
        stories.assign(telling(number, number, meaning=pack(vector)))
    bridge = stories.assign(telling(2, 2, meaning=pack(one + other)))
    assert [(m.younger, m.older) for m in bridge.merges] == [("0001", "0000")]
    assert stories.assign(telling(1, 1)).story_id == "0000"


@given(st.text(max_size=80))
def test_any_text_has_facts_and_bands(title: str) -> None:
    assert bands(facts_of(title).shingles) == bands(facts_of(title).shingles)
    assert -1 <= named(facts_of(title), facts_of("Orbex wins")) <= 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Volga Bank lifts rates", "Банк «Волга» повысил ставки"),
        ("Sibneftekhim cuts output", "«Сибнефтехим» сократил добычу"),
    ],
)
def test_a_name_is_heard_in_another_script(one: str, other: str) -> None:
    assert named(facts_of(one), facts_of(other)) > 0.5


def test_figures_meet_across_ways_of_counting() -> None:
    assert facts_of("invests 10 trillion won").figures == facts_of("10조원 투자").figures == {"1"}
    assert agreement(facts_of("up 4.5 percent").figures, facts_of("plus 4,5 Prozent").figures) == 1


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4).filter(lambda v: max(map(abs, v)) > 0.1))
def test_packing_keeps_the_direction(values: list[float]) -> None:
    vector = np.array(values)
    assert float(unpack(pack(vector)) @ (vector / np.linalg.norm(vector))) > 0.999
    assert cosine(pack(vector), pack(vector * 3)) == pytest.approx(1)


def test_the_graph_finds_what_looking_at_all_finds() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((500, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact, graph = ExactIndex(32), StoryIndex(32, exact=50)
    for index in (exact, graph):
        for key, vector in enumerate(vectors):
            index.put(key, vector)
        for key in range(0, 500, 7):
            index.remove(key)
    assert graph.approximate
    same = [exact.nearest(v, 1)[0][0] == graph.nearest(v, 1)[0][0] for v in vectors]
    assert np.mean(same) > 0.97
