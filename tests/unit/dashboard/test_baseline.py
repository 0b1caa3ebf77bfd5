from datetime import UTC, datetime, timedelta

import numpy as np

from crosswind.dashboard.baseline import LEARNED_FROM, Hourly, expected
from crosswind.dashboard.series import Span, trend_of

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
SPAN = Span(START, START + timedelta(hours=4), timedelta(minutes=15))
HOURS = int((SPAN.end - START + LEARNED_FROM) / timedelta(hours=1))


def hourly(negative: int, articles: int, known: int = HOURS) -> Hourly:
    """The same counts every hour, of the last `known` hours."""
    columns = [np.zeros((1, HOURS), np.int64), np.zeros((1, HOURS), np.int64), np.zeros((1, HOURS), np.int64)]
    for column, count in zip(columns, (negative, articles, 10 * articles), strict=True):
        column[0, HOURS - known :] = count
    return Hourly(START - LEARNED_FROM, columns[0], columns[1], columns[2][0])


def trend(articles: int = 10) -> object:
    times = [SPAN.warm_start + n * SPAN.step for n in range(SPAN.bins + 7)]
    return trend_of("credit", SPAN, [(at, articles, 2, 1) for at in times])


def test_the_expected_share_is_that_of_the_weeks_before() -> None:
    found = expected(trend(), SPAN, hourly(10, 40))  # type: ignore[arg-type]
    assert len(found.share) == len(found.low) == len(found.high) == SPAN.bins
    assert all(abs((share or 0) - 0.25) < 0.02 for share in found.share)
    assert all(low < share < high for low, share, high in zip(found.low, found.share, found.high))  # type: ignore[operator]


def test_the_more_articles_the_narrower_the_range() -> None:
    few, many = (expected(trend(n), SPAN, hourly(10, 40)) for n in (1, 50))  # type: ignore[arg-type]
    assert few.high[0] - few.low[0] > many.high[0] - many.low[0]  # type: ignore[operator]


def test_without_a_day_of_data_nothing_is_expected() -> None:
    assert not expected(trend(), SPAN, hourly(10, 40, known=20)).known  # type: ignore[arg-type]


def test_without_articles_nothing_is_expected() -> None:
    assert not expected(trend(0), SPAN, hourly(10, 40)).known  # type: ignore[arg-type]


def test_the_last_hours_teach_nothing() -> None:
    calm, surge = hourly(10, 40), hourly(10, 40)
    surge.negative[0, -5:] = 40
    first = [expected(trend(), SPAN, hours).share[0] for hours in (calm, surge)]  # type: ignore[arg-type]
    assert first[0] == first[1]
