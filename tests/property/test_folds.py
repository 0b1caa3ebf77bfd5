"""Properties of the folds: exact, order does not matter, batching does not matter."""

import random
from datetime import timedelta
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.article import Sentiment
from crosswind.stream.domain.bucket import ALL, Tally, fold, keys_of, tally_of
from crosswind.stream.domain.watermark import CONFIRMATIONS, JUMP, Watermark
from tests.builders import START, scored_article

ARTICLES = st.lists(
    st.builds(
        scored_article,
        st.integers(0, 10_000),
        minutes=st.floats(0, 600),
        topic=st.sampled_from(["credit", "deals"]),
        lang=st.sampled_from(["en", "de"]),
        sentiment=st.sampled_from(Sentiment),
        entities=st.sampled_from([(), ("Acme",), ("Acme", "Acme", "Bolt"), (ALL,)]),
    ),
    max_size=30,
)
TALLIES = st.builds(Tally, *[st.integers(0, 10**9)] * 4)
TIMES = st.lists(st.integers(0, 100_000).map(lambda seconds: START + timedelta(seconds=seconds)), max_size=40)


@given(ARTICLES, st.randoms())
def test_order_does_not_matter(articles, order: random.Random) -> None:
    shuffled = articles.copy()
    order.shuffle(shuffled)
    assert fold(shuffled) == fold(articles)


@given(ARTICLES, st.integers(0, 30))
def test_batching_does_not_matter(articles, cut: int) -> None:
    left, right = fold(articles[:cut]), fold(articles[cut:])
    both = {key: left.get(key, Tally()) + right.get(key, Tally()) for key in left | right}
    assert both == fold(articles)


@given(ARTICLES)
def test_nothing_is_lost_or_made_up(articles) -> None:
    buckets = fold(articles)
    everything = reduce(Tally.__add__, (t for key, t in buckets.items() if key.entity == ALL), Tally())
    assert everything == reduce(Tally.__add__, map(tally_of, articles), Tally())


@given(TALLIES, TALLIES, TALLIES)
def test_tallies_are_a_commutative_monoid(a: Tally, b: Tally, c: Tally) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Tally() == a


def test_an_article_counts_once_per_entity_and_once_over_all() -> None:
    keys = keys_of(scored_article(1, entities=("Bolt", "Acme", "Acme", ALL)))
    assert [key.entity for key in keys] == [ALL, "Acme", "Bolt"]


@given(TIMES, st.integers(0, 40))
def test_a_watermark_never_moves_back_and_batching_does_not_matter(times, cut: int) -> None:
    first = Watermark().advance(times[:cut])
    both = first.advance(times[cut:])
    assert first.event_time is None or both.event_time >= first.event_time
    assert both == Watermark().advance(times)


@given(TIMES.filter(lambda times: len(times) >= CONFIRMATIONS))
def test_a_watermark_never_runs_ahead_of_what_was_seen(times) -> None:
    mark = Watermark().advance(times)
    assert mark.event_time is None or mark.event_time <= max(times)
    assert all(time > (mark.event_time or time) + JUMP or mark.event_time is None for time in mark.ahead)
    assert len(mark.ahead) < CONFIRMATIONS


@given(TIMES.filter(bool), st.integers(1, 1000))
def test_one_future_article_moves_nothing(times, days: int) -> None:
    before = Watermark(START).advance(times)
    after = before.advance([max(times) + JUMP + timedelta(days=days)])
    assert after.event_time is not None
    assert after.event_time <= max(before.event_time or START, *times)


@given(TIMES)
def test_what_comes_again_confirms_nothing(times) -> None:
    mark = Watermark().advance(times)
    assert mark.advance([], mark.ahead * CONFIRMATIONS) == mark


def test_three_articles_of_a_new_day_are_believed() -> None:
    tomorrow = START + timedelta(days=1)
    mark = Watermark(START).advance([tomorrow, tomorrow + timedelta(minutes=2), tomorrow + timedelta(minutes=1)])
    assert mark == Watermark(tomorrow + timedelta(minutes=2))
