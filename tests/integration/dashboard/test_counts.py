"""Counts are read anew only where they changed, and are always what reading everything would give."""

import random
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from crosswind.dashboard import counts
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.series import Span
from crosswind.stream.domain.article import ScoredArticle, Sentiment
from tests.builders import START, scored_article
from tests.newsroom import store

STEPS = [timedelta(minutes=minutes) for minutes in (1, 15, 30, 60, 180)]


def article(number: int) -> ScoredArticle:
    rng = random.Random(number)
    return scored_article(
        number, minutes=rng.uniform(-60, 600), topic=rng.choice(("credit", "macro", "energy")),
        lang=rng.choice(("en", "ja")), sentiment=rng.choice(list(Sentiment)), entities=("Acme",),
    )  # fmt: skip


def span(step: timedelta, hours: int) -> Span:
    midnight = START.replace(hour=0)
    return Span(midnight + timedelta(hours=9 + hours // 3 * 3), midnight + timedelta(hours=15 + hours // 3 * 3), step)


def seen(found: counts.Counts) -> tuple[object, ...]:
    return found.trends(), found.trend("*", ("en",)), found.totals, found.cells, found.languages


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), step=st.sampled_from(STEPS))
def test_what_is_kept_and_what_is_read_make_the_whole(engine: Engine, data: st.DataObject, step: timedelta) -> None:
    reader = Reader(engine, f"r{data.draw(st.integers(0, 10**9))}")
    before = None
    for batch in data.draw(st.lists(st.lists(st.integers(0, 60), max_size=8), max_size=5)):
        store(engine, [article(number) for number in batch], reader.run)
        wanted = span(step, data.draw(st.sampled_from([0, 3, 6])))
        before, whole = counts.read(reader, wanted, before), counts.read(reader, wanted)
        assert seen(before) == seen(whole)


def test_an_article_that_comes_late_is_seen(engine: Engine) -> None:
    reader, wanted = Reader(engine, "live"), span(timedelta(minutes=30), 0)
    store(engine, [scored_article(n, minutes=3 * n) for n in range(100)])
    before = counts.read(reader, wanted)
    store(engine, [scored_article(500, minutes=7.0)])
    assert sum(counts.read(reader, wanted, before).totals) == sum(before.totals) + 1


@pytest.mark.parametrize("late", [0, 1])
def test_only_the_hours_that_changed_are_read_anew(engine: Engine, late: int) -> None:
    reader, wanted = Reader(engine, "live"), span(timedelta(minutes=30), 0)
    store(engine, [scored_article(n, minutes=3 * n) for n in range(100)])
    before = counts.read(reader, wanted)
    store(engine, [scored_article(500 + n, minutes=60.0 * n) for n in range(late)])
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    found = counts.read(reader, wanted, before)
    assert [statement.count("bucket.minute >=") for statement in asked] == [0, 2][: 1 + late]
    assert sum(found.totals) == 100 + late


def test_a_month_of_a_busy_hour_does_not_overflow(engine: Engine) -> None:
    reader = Reader(engine, "live")
    store(engine, [scored_article(1, sentiment=Sentiment.POSITIVE)])
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE bucket_hour SET articles = 3000000, positive = 3000000")
    assert counts.read(reader, span(timedelta(minutes=30), 0)).counts.dtype == np.int64
