"""When a worker counts as alive."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faust.types import TP

from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.health import Liveness, Look, _by_topic

PART, OTHER = TP("news.raw", 0), TP("news.raw", 1)
STILL = Look({PART: 5}, {PART: 9})


@pytest.mark.parametrize(
    ("name", "then", "alive"),
    [
        ("nothing moves", STILL, False),
        ("more and more waits", Look({PART: 5}, {PART: 900}), False),
        ("an offset was committed", Look({PART: 6}, {PART: 9}), True),
        ("everything is done", Look({PART: 9}, {PART: 9}), True),
        ("the database is away", Look({PART: 5}, {PART: 9}, waits=3), True),
        ("the broker is away", Look({PART: 5}, {PART: 9}, broker=False), True),
        ("partitions came", Look({PART: 5, OTHER: 0}, {PART: 9, OTHER: 0}), True),
    ],
)
def test_after_a_minute(name: str, then: Look, alive: bool) -> None:
    liveness = Liveness(patience=60)
    assert liveness.alive(STILL, 0.0)
    assert liveness.alive(then, 61.0) is alive, name


def test_a_worker_without_partitions_is_idle_not_stuck() -> None:
    liveness = Liveness(patience=60)
    assert all(liveness.alive(Look({}, {}), now) for now in (0.0, 100.0, 200.0))


def test_an_end_behind_the_commit_is_no_lag() -> None:
    look: Any = Look({PART: 9, OTHER: 1}, {PART: 2, OTHER: 4})
    assert look.lag == 3


def _lags(metrics: Metrics) -> dict[str, tuple[float | None, float | None]]:
    """Topic -> lag in records and in seconds."""
    names, value = ("crosswind_lag_articles", "crosswind_lag_seconds"), metrics.registry.get_sample_value
    return {topic: (value(names[0], {"topic": topic}), value(names[1], {"topic": topic}))
            for topic in (PART.topic, "news.scored")}  # fmt: skip


def test_what_another_worker_took_over_is_no_lag_of_this_one() -> None:
    metrics, now = Metrics(), datetime(2026, 3, 2, tzinfo=UTC)
    for topic in (PART.topic, "news.scored"):
        metrics.done(topic, now - timedelta(seconds=300), now)
    scored = TP("news.scored", 0)
    metrics.set_lag(_by_topic(Look({PART: 0, scored: 0}, {PART: 5000, scored: 7})), now)
    assert _lags(metrics) == {"news.raw": (5000, 300), "news.scored": (7, 300)}
    metrics.set_lag(_by_topic(Look({scored: 0}, {scored: 7})), now)
    assert _lags(metrics) == {"news.raw": (0, 0), "news.scored": (7, 300)}
    metrics.set_lag(_by_topic(Look({}, {})), now)
    assert _lags(metrics) == {"news.raw": (0, 0), "news.scored": (0, 0)}


def test_while_nothing_is_done_the_lag_in_seconds_grows() -> None:
    metrics, now = Metrics(), datetime(2026, 3, 2, tzinfo=UTC)
    seconds = []
    for minute, waiting in enumerate((7, 7, 0, 0, 5, 5)):  # an outage from the start on, quiet, one more
        metrics.set_lag({PART.topic: waiting}, now + timedelta(minutes=minute))
        seconds.append(_lags(metrics)[PART.topic][1])
    assert seconds == [0, 60, 0, 0, 60, 120]
    metrics.done(PART.topic, now + timedelta(minutes=4), now + timedelta(minutes=6))
    metrics.set_lag({PART.topic: 1}, now + timedelta(minutes=7))
    assert _lags(metrics)[PART.topic] == (1, 180)


def test_a_batch_that_was_done_after_its_partitions_went_leaves_no_age() -> None:
    metrics, now = Metrics(), datetime(2026, 3, 2, tzinfo=UTC)
    metrics.done(PART.topic, now - timedelta(seconds=300), now)
    metrics.set_lag({}, now)
    assert _lags(metrics)[PART.topic] == (0, 0)
