from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from crosswind.dashboard.series import GAP, MAX_BINS, WINDOW_BINS, Span, gaps, span_of, trend_of
from crosswind.dashboard.view import RANGES

NOW = datetime(2026, 3, 4, 8, 57, 34, tzinfo=UTC)
SPAN = Span(NOW.replace(hour=0, minute=0, second=0), NOW.replace(hour=6, minute=0, second=0), timedelta(minutes=30))
counts = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))


@given(st.sampled_from(list(RANGES.values())), st.integers(0, 60 * 24 * 365 * 30))
def test_no_span_has_more_bins_than_a_trace_may_have(length: timedelta | None, minutes: int) -> None:
    span = span_of(length, NOW, NOW - timedelta(minutes=minutes))
    assert 1 <= span.bins <= MAX_BINS
    assert span.start <= NOW < span.end
    assert len(span.times) == span.bins


def test_a_picked_range_is_as_long_as_it_says() -> None:
    span = span_of(timedelta(hours=6), NOW, NOW - timedelta(days=9))
    assert (span.end - span.start, span.step) == (timedelta(hours=6), timedelta(minutes=5))


def test_all_reaches_back_to_the_first_article() -> None:
    earliest = NOW - timedelta(days=9)
    assert span_of(None, NOW, earliest).start <= earliest


@given(st.dictionaries(st.integers(0, SPAN.bins - 1), counts))
def test_every_article_of_the_span_is_in_one_bin(found: dict[int, tuple[int, int, int]]) -> None:
    trend = trend_of("credit", SPAN, [(SPAN.times[index], *row) for index, row in found.items()])
    assert trend.total == sum(row[0] for row in found.values())
    assert sum(trend.positive) == sum(row[2] for row in found.values())
    assert len(trend.articles) == len(trend.share) == SPAN.bins


def test_the_share_is_taken_over_the_trailing_window() -> None:
    rows = [(SPAN.times[0], 4, 4, 0), (SPAN.times[1], 4, 0, 0)]
    assert trend_of("credit", SPAN, rows).share[:2] == (1.0, 0.5)


def test_the_window_reaches_back_before_the_span() -> None:
    before = SPAN.start - SPAN.step
    trend = trend_of("credit", SPAN, [(before, 6, 6, 0)])
    assert trend.share[0] == 1.0
    assert trend.total == 0


def test_too_few_articles_have_no_share() -> None:
    trend = trend_of("credit", SPAN, [(SPAN.times[0], 2, 2, 0)])
    assert set(trend.share) == {None}
    assert trend.overall is None


def test_a_share_is_not_carried_across_a_silence() -> None:
    trend = trend_of("credit", SPAN, [(SPAN.times[0], 9, 9, 0)])
    assert trend.share[WINDOW_BINS // 2 - 1] == 1.0
    assert trend.share[WINDOW_BINS // 2] is None


def test_a_long_silence_is_a_gap_and_a_short_one_is_not() -> None:
    totals = [1] * SPAN.bins
    totals[3] = 0
    assert gaps(SPAN, totals) == ()
    totals[4] = 0
    assert gaps(SPAN, totals) == ((SPAN.times[3], SPAN.times[5]),)


def test_a_silence_up_to_the_end_is_a_gap() -> None:
    assert gaps(SPAN, [1] * (SPAN.bins - 2) + [0, 0]) == ((SPAN.times[-2], SPAN.end),)


@given(st.lists(st.integers(0, 2), min_size=SPAN.bins, max_size=SPAN.bins))
def test_gaps_are_long_silent_and_apart(totals: list[int]) -> None:
    found = gaps(SPAN, totals)
    for start, end in found:
        assert end - start >= GAP
        assert all(total == 0 for at, total in zip(SPAN.times, totals, strict=True) if start <= at < end)
    assert all(before[1] < after[0] for before, after in pairwise(found))
