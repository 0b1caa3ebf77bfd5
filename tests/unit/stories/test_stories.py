"""Stories, pure: what joins, what does not, and that order of batches, repetition and age make no difference."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.identity import title_key
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.domain.stories.decision import Criteria, Match, Reason, choose, together
from crosswind.stream.domain.stories.evidence import FEATURES, LIMIT, Learned, Told, Weigher, shipped
from crosswind.stream.domain.stories.exact import ExactIndex
from crosswind.stream.domain.stories.facts import NAMES as NAMES_KEPT
from crosswind.stream.domain.stories.facts import READ, Name, agreement, facts_of, head_of
from crosswind.stream.domain.stories.meaning import cosine, pack, unpack
from crosswind.stream.domain.stories.signature import bands
from crosswind.stream.domain.stories.story import Assignment, Index, Merge, Novelty, Telling
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


WINDOW = timedelta(days=3)
JOBS = "Nordbank cuts {} jobs in Hamburg after a weak quarter, unions protest {}"
TITLES = ("", JOBS.format("2,000", "loudly"), JOBS.format("2,000", "again"), JOBS.format("450", "loudly"))
Feed = list[tuple[int, float, float, str, str]]


def made(feed: Feed) -> list[Telling]:
    """Tellings from event, hours since the one before, hours that it comes late, title, and bundle."""
    found, now = [], 0.0
    for number, (event, step, late, title, model) in enumerate(feed):
        now += step
        found.append(telling(number, event, title, now - late, model=model))
    return found


class Stored:
    """What the database keeps: each article with its story, which merges change."""

    def __init__(self) -> None:
        self.rows: list[tuple[Telling, Assignment]] = []
        self.merges: dict[str, str] = {}

    def save(self, one: Telling, given_out: Assignment) -> None:
        self.rows.append((one, given_out))
        for merge in given_out.merges:
            self.rows = [(a, replace(g, story_id=merge.older) if g.story_id == merge.younger else g)
                         for a, g in self.rows]  # fmt: skip
            parts = {merge.younger, *(part for part, whole in self.merges.items() if whole == merge.younger)}
            self.merges |= dict.fromkeys(parts, merge.older)

    def began(self) -> dict[str, datetime]:
        first = dict[str, datetime]()
        for one, was in self.rows:
            first[was.story_id] = min(first.get(was.story_id, one.at), one.at)
        return first

    def remembered(self) -> Stories:
        """A new memory of the stories that are not over; see `StoryEngine`."""
        stories, began = Stories(ExactIndex, window=WINDOW), self.began()
        since = max(one.at for one, _ in self.rows) - WINDOW
        for one, was in self.rows:
            if began[was.story_id] >= since:
                stories.restore(one, was.story_id, was.novelty, was.reason, was.similarity)
        return stories

    def catch_up(self, stories: Stories, known: int) -> None:
        """Tells a memory of the first `known` articles what was given since; see `StoryEngine`."""
        began, new = self.began(), self.rows[known:]
        for younger, older in self.merges.items():
            if older in {was.story_id for _, was in new}:
                stories.unite(Merge(younger, older), began[older])
        for one, was in new:
            stories.restore(one, was.story_id, was.novelty, was.reason, was.similarity)


def goes_on_alike(feed: list[Telling], cut: int, kept: timedelta | None = None) -> None:
    """Args: kept: event time after which retention drops an article."""
    stories, stored = Stories(ExactIndex, window=WINDOW), Stored()
    for one in feed[:cut]:
        stored.save(one, stories.assign(one))
    if kept:
        stored.rows = [(one, was) for one, was in stored.rows if one.at >= feed[cut - 1].at - kept]
    anew = stored.remembered()
    assert [anew.assign(one) for one in feed[cut:]] == [stories.assign(one) for one in feed[cut:]]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.5, 8.0, 40.0]), st.sampled_from([0.0, 0.0, 1.0, 6.0]),
                  st.sampled_from(TITLES), st.sampled_from(["m", "m", "m", "other"])),
        min_size=2, max_size=25,
    ), st.data(),
)  # fmt: skip
def test_starting_again_from_what_is_stored_goes_on_alike(feed: Feed, data: st.DataObject) -> None:
    goes_on_alike(made(feed), data.draw(st.integers(1, len(feed) - 1)))


def test_a_story_that_began_late_is_over_when_its_time_is() -> None:
    feed = made([(0, 0, 0, "", "m"), (1, 6, 5, "", "m"), (2, 71, 0, "", "m"), (1, 0.5, 0, "", "m")])
    goes_on_alike(feed, 3)


def test_a_text_is_found_in_the_story_that_lives_when_a_later_one_with_the_like_is_over() -> None:
    two, again, fewer = TITLES[1:]
    feed = made([(0, 0, 0, two, "m"), (1, 1, 5, fewer, "m"), (0, 59, 0, two, "m"), (2, 9, 0, "Volga opens", "m"),
                 (3, 0.5, 0, again, "other")])  # fmt: skip
    stories = Stories(ExactIndex, window=WINDOW)
    found = [stories.assign(one).story_id for one in feed]
    assert found == ["0000", "0001", "0000", "0003", "0000"]
    goes_on_alike(feed, 4)


def test_an_old_story_is_over_and_forgotten() -> None:
    stories = Stories(ExactIndex, window=timedelta(days=3))
    stories.assign(telling(0, 0, hours=0))
    assert stories.assign(telling(1, 0, hours=80)).novelty is Novelty.FIRST
    assert len(stories) == 1


def test_a_headline_that_recurs_is_a_new_story_when_the_window_is_over() -> None:
    stories = Stories(ExactIndex, window=WINDOW)
    feed = [telling(n, 0, "Live: stock markets today", 12 * n) for n in range(20)]
    found = []
    for one in feed:
        found.append(stories.assign(one).story_id)
        assert len(stories) == 1
        assert len(stories._members) <= WINDOW / timedelta(hours=12)
    assert found == [f"{n - n % 7:04}" for n in range(20)]
    assert len(next(iter(stories._stories.values())).members) == len(stories._members)
    for cut in range(1, 20):
        goes_on_alike(feed, cut, kept=timedelta(days=4))


def test_a_telling_that_comes_late_is_the_first_of_its_story() -> None:
    stories = Stories(ExactIndex, window=WINDOW)
    feed = [telling(n, 0, "Live: stock markets today", hours) for n, hours in enumerate((10, 5, 76, 78))]
    assert [stories.assign(one).story_id for one in feed] == ["0000", "0000", "0000", "0003"]
    goes_on_alike(feed, 3)


def test_a_story_whose_first_telling_was_dropped_is_read_back_with_what_is_left() -> None:
    stories = Stories(ExactIndex)
    stories.restore(telling(1, 0, TITLES[1]), "0000", Novelty.REPEATED, Reason.SAME_TEXT, 1.0)
    near = stories.assign(telling(2, 0, TITLES[1] + ", again and again"))
    assert (near.story_id, near.novelty is not Novelty.FIRST) == ("0000", True)


SPLIT = Criteria(join=1.0, merge=-4.0)
"""Makes many stories that turn out to be one."""
COMPANIES = ("Korabo", "Melrix", "Tanuno", "Viseti")
Bridges = list[tuple[int, float, float, str, str, str]]


def bridging(feed: Bridges) -> list[Telling]:
    """As `made`, but of one of an event's companies or of both, which makes one story of two."""
    found, now = [], 0.0
    for number, (event, step, late, who, tail, model) in enumerate(feed):
        now += step
        one, two = COMPANIES[event], COMPANIES[event + 1]
        title = f"{ {'one': one, 'two': two}.get(who, f'{one} {two}') } {tail}"
        random = np.random.default_rng(number)
        meaning = pack(EVENTS[event] + random.choice([0.05, 0.2, 0.4]) * random.standard_normal(48))
        found.append(telling(number, event, title, now - late, model=model, meaning=meaning))
    return found


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.5, 2.0, 8.0, 30.0]), st.sampled_from([0.0, 0.0, 1.0, 6.0]),
                  st.sampled_from(["one", "two", "both"]), st.sampled_from(["loses 5", "loses 6", "opens", "$"]),
                  st.sampled_from(["m", "m", "m", "other"])),
        min_size=4, max_size=40,
    ), st.lists(st.integers(1, 6), min_size=1, max_size=40),
)  # fmt: skip
def test_two_workers_in_turns_give_what_one_gives(feed: Bridges, turns: list[int]) -> None:
    takes_turns(bridging(feed), turns)


def test_merges_by_the_other_worker_are_taken_over() -> None:
    merges = 0
    steps = [0.0, 0.1, 0.2, 0.5] * 5 + [30.0]
    for seed in range(40):
        random = Random(seed)
        feed = [(random.randrange(3), random.choice(steps), random.choice([0.0] * 3 + [1.0, 5.0]),
                 random.choices(["one", "two", "both"], [9, 9, 2])[0], f"{random.randrange(10**6):X}",
                 random.choice(["m", "m", "m", "m", "other"])) for _ in range(random.randint(15, 45))]  # fmt: skip
        merges += takes_turns(bridging(feed), [random.randint(1, 6) for _ in range(10)])
    assert merges > 20


def takes_turns(feed: list[Telling], turns: list[int]) -> int:
    """How many merges there were."""
    alone, *workers = (Stories(ExactIndex, SPLIT, window=WINDOW) for _ in range(3))
    stored, known = Stored(), [0, 0]
    expected, found, turn = [alone.assign(one) for one in feed], list[Assignment](), 0
    while len(found) < len(feed):
        me, some = turn % 2, feed[len(found) : len(found) + turns[turn % len(turns)]]
        stored.catch_up(workers[me], known[me])
        for one in some:
            found.append(workers[me].assign(one))
            stored.save(one, found[-1])
        known[me], turn = len(found), turn + 1
    assert found == expected
    return sum(len(one.merges) for one in expected)


def test_memory_is_bounded() -> None:
    stories = Stories(ExactIndex, window=timedelta(days=999), most=4)
    for n in range(60):
        stories.assign(telling(n, n % 6))
        assert len(stories) <= 5


def test_the_index_of_a_bundle_is_gone_with_its_last_story() -> None:
    made: list[weakref.ref[Index]] = []

    def make(width: int) -> Index:
        index = StoryIndex(width, exact=2)
        made.append(weakref.ref(index))
        return index

    stories = Stories(make, window=WINDOW)
    for n in range(12):
        stories.assign(telling(n, n % 6, f"{n}{NAMES[n % 6]}", hours=40 * n, model=f"bundle {n // 4}"))
    assert [index() is not None for index in made] == [False, False, True]


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


def test_a_copy_of_a_headline_beyond_those_compared_is_found() -> None:
    stories = Stories(ExactIndex, weigher=COSINE)
    words = ("opens", "closes", "sells", "buys", "hires", "fires", "moves", "gains")
    feed = [telling(n, 0, f"Orbex {word} {word[::-1]} {n}") for n, word in enumerate(words)]
    assert {stories.assign(one).story_id for one in feed} == {"0000"}
    copied = stories.assign(telling(99, 1, feed[-1].title.upper(), hours=9))
    assert (copied.story_id, copied.reason) == ("0000", Reason.SAME_TEXT)


def test_almost_the_same_text_is_no_copy_where_the_evidence_is_against_it() -> None:
    assert choose([Match("a", 0.9, -3.0, 0.8)], Criteria()) == (None, Reason.NEW)
    assert choose([Match("a", 0.9, 3.0, 0.8)], Criteria())[1] is Reason.SAME_TEXT
    assert choose([Match("a", 0.9, -3.0, 1.0)], Criteria())[1] is Reason.SAME_TEXT


def test_below_the_line_an_article_begins_a_story() -> None:
    criteria = Criteria(join=1.0)
    near = [Match("a", 0.7, 0.9, 0.0), Match("b", 0.65, None, 0.0)]
    assert choose(near, criteria) == (None, Reason.NEW)
    assert choose([*near, Match("c", 0.6, 1.0, 0.0)], criteria) == (Match("c", 0.6, 1.0, 0.0), Reason.FACTS_AGREE)


def test_ties_go_to_the_smaller_id() -> None:
    twins = [Match("b", 0.9, 2.0, 0.0), Match("a", 0.9, 2.0, 0.0)]
    assert choose(twins, Criteria()) == (twins[1], Reason.SAME_MEANING)


COSINE = Weigher(Learned(1, "test", -8.0, {**dict.fromkeys(FEATURES, 0.0), "meaning": 10.0}, {}))
"""Even at a cosine of 0.8."""


def bridged(merge: float) -> tuple[Stories, list[tuple[str, str]]]:
    """Two stories of cosine 0.8 that a third article lies between, and the merges it makes."""
    one, other = np.zeros(48), np.zeros(48)
    one[0], other[0], other[1] = 1.0, 0.8, 0.6
    stories = Stories(ExactIndex, Criteria(join=0.5, merge=merge), weigher=COSINE)
    for number, vector in enumerate((one, other)):
        stories.assign(telling(number, number, meaning=pack(vector)))
    bridge = stories.assign(telling(2, 2, meaning=pack(one + other)))
    return stories, [(m.younger, m.older) for m in bridge.merges]


def test_a_bridge_makes_one_story_of_two_and_says_so() -> None:
    stories, merges = bridged(merge=0.5)
    assert merges == [("0001", "0000")]
    assert stories.assign(telling(1, 1)).story_id == "0000"


def test_two_stories_whose_tellings_do_not_fit_stay_two() -> None:
    assert bridged(merge=1.2)[1] == []


def told(title: str, lang: str = "en", tags: tuple[str, ...] = (), event: int = 0) -> Told:
    return Told(facts_of(title), lang, frozenset(tags), pack(EVENTS[event]))


HEADLINES = (
    told("Volga Bank lifts deposit rates to 18 percent"),
    told("Банк «Волга» повысил ставки по вкладам до 18 процентов", "ru"),
    told("伏尔加银行将存款利率上调至18%", "zh"),
    told("", "en"),
    told("Workers walk out", "en"),
)


@pytest.mark.parametrize("one", HEADLINES)
@pytest.mark.parametrize("other", HEADLINES)
def test_evidence_is_the_same_from_both_sides_and_limited(one: Told, other: Told) -> None:
    assert shipped().evidence(one, other) == pytest.approx(shipped().evidence(other, one))
    assert shipped().weigh(one, other) == pytest.approx(shipped().weigh(other, one))
    assert -LIMIT <= shipped().weigh(one, other) <= LIMIT


def evidence(one: str, other: str, lang: str = "en") -> dict[str, float]:
    return dict(zip(FEATURES, shipped().evidence(told(one), told(other, lang)), strict=True))


@pytest.mark.parametrize(
    ("other", "differ", "missing"), [("2 billion paid", 0, 0), ("450 jobs go", 1, 0), ("Jobs go", 0, 1)]
)
def test_figures_that_differ_and_figures_that_are_missing(other: str, differ: float, missing: float) -> None:
    found = evidence("2,000 jobs go", other)
    assert (found["figures_differ"], found["figures_missing"]) == (differ, missing)


def test_a_rare_name_says_more_than_a_common_word_or_a_short_one() -> None:
    learned = Learned(1, "test", 0.0, dict.fromkeys(FEATURES, 0.0), {"2": "bnk rbk"})
    rarity = Weigher(learned).rarity
    assert [rarity(Name(word, word)) for word in ("rbrsn", "rb", "bnk")] == pytest.approx([1.0, 0.5, 0.15])
    assert evidence("Sibneftekhim x", "y Sibneftekhim")["rare_heard"] > evidence("Bank x", "y Bank")["rare_heard"]
    assert evidence("Sibneftekhim x", "Ut")["rare_missed"] > evidence("Bank x", "Ut")["rare_missed"]


def test_another_name_or_figure_speaks_against_one_event() -> None:
    weigh, first = shipped().weigh, told("Halvorsen Bank to cut 2,000 jobs", event=1)
    same = weigh(first, told("2,000 posts to go at Halvorsen Bank", event=1))
    assert same > weigh(first, told("2,000 posts to go at Castell Bank", event=1))
    assert same > weigh(first, told("450 posts to go at Halvorsen Bank", event=1))


def test_the_entities_of_a_feed_count_across_languages_only_where_they_agree() -> None:
    def weight(tags: tuple[str, ...], lang: str) -> float:
        article = [told("Works opened", tags=("Orbex",), event=1)]
        found = together(article, [told("Works opened", lang, tags, event=1)], COSINE, Criteria(tags=0.5))
        assert found is not None
        return found

    assert weight(("Orbex",), "en") == weight(("Orbex",), "de") == pytest.approx(2.5)
    assert weight(("Volga",), "en") == pytest.approx(1.5)
    assert weight(("Volga",), "de") == weight((), "en") == pytest.approx(2.0)


def test_weights_of_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="learn_stories"):
        Weigher(Learned(1, "test", 0.0, {"meaning": 1.0}, {}))


@given(st.text(max_size=80))
def test_any_text_has_facts_and_bands(title: str) -> None:
    assert bands(facts_of(title).shingles) == bands(facts_of(title).shingles)
    assert -LIMIT <= shipped().weigh(told(title), told("Orbex wins")) <= LIMIT


@pytest.mark.parametrize("text", ["x", "Bank Orbex ", "中 国 ", "ﷺ", "﷽ ", "Été "])
def test_only_the_head_of_a_headline_is_read(text: str) -> None:
    title = (text * 4096)[:4096]
    facts = facts_of(title)
    assert len(facts.shingles) <= READ
    assert len(facts.names) <= NAMES_KEPT
    assert len(facts.sounds) <= len(facts.letters) <= 4 * READ
    assert facts == facts_of(title[: 2 * READ])
    stories = Stories(ExactIndex)
    stories.assign(telling(0, 0, title))
    assert [len(line.title) for line in stories._stories["0000"].lines] == [len(head_of(title))]


def test_headlines_without_a_letter_or_digit_are_one_story_only_where_they_are_the_same() -> None:
    stories = Stories(ExactIndex)
    titles = ("📉📉📉", "🎉", "🚀🚀", "🎉")
    found = [stories.assign(telling(n, n % 4 if n < 3 else 1, title, 8 * n)).story_id for n, title in enumerate(titles)]
    assert found == ["0000", "0001", "0002", "0001"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Volga Bank lifts rates", "Банк «Волга» повысил ставки"),
        ("Sibneftekhim cuts output", "«Сибнефтехим» сократил добычу"),
    ],
)
def test_a_name_is_heard_in_another_script(one: str, other: str) -> None:
    assert evidence(one, other, "ru")["heard"] > 0.8
    assert evidence("Halvorsen opens plant", other, "ru")["heard"] < 0.6


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
