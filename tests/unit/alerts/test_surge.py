"""The first rule: what raises it, and what must not."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from crosswind.stream.domain.series import MINUTE, History, Mention, Series
from crosswind.stream.domain.surge import Level, NegativeSurge, Signal
from tests.unit.alerts.feeds import START, Feed, Item, Writer, histories, sample_like, transitions

RULE = NegativeSurge()
AT = START + timedelta(hours=12)


def _window(
    *, negatives: int = 20, copies: int = 0, sources: int = 10, others: int = 0, hours: int = 10, silent: int = 0
) -> Signal:
    """The signal at 12:00 after `hours` hours of one negative in four articles, `silent` of them without any feed."""
    minutes = 12 * 60 + 1
    negative, articles, run = (np.zeros(minutes, np.int64) for _ in range(3))
    for hour in range(12 - hours, 11):
        if hour >= 12 - hours + silent:
            negative[60 * hour + 30], articles[60 * hour + 30], run[60 * hour + 30] = 1, 4, 60
    last = 12 * 60 - 5
    negative[last], articles[last], run[last] = negatives, negatives + others, 60 + negatives + others
    mentions = [
        Mention(START + last * MINUTE, f"{n:032x}", f"s{n % sources}", f"t{max(n, copies)}", "credit", "en", 9, "m")
        for n in range(negatives)
    ]
    return RULE.evaluate(History.of(START, negative, articles, run, mentions), AT)


def test_twenty_bad_headlines_where_one_is_usual_raise_it() -> None:
    signal = _window()
    assert signal.level is Level.RAISED
    assert signal.observed == 20
    assert signal.expected == pytest.approx(1.0, abs=0.3)
    assert signal.p_value < 1e-8
    assert signal.negative_share == 1.0
    assert (signal.evidence.headlines, signal.evidence.sources, len(signal.evidence.articles)) == (20, 10, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"negatives": 7},
        {"copies": 50, "negatives": 50},
        {"copies": 45, "negatives": 50},
        {"sources": 2},
        {"others": 80},
        {"hours": 7},
        {"hours": 10, "silent": 4},
    ],
    ids=["too few", "one story", "one story and five more", "two sources", "as bad as ever", "young", "deaf"],
)
def test_what_is_not_a_surge(change: dict[str, int]) -> None:
    assert _window().level is Level.RAISED
    assert _window(**change).level is not Level.RAISED


def test_nothing_after_the_minute_counts() -> None:
    feed = sample_like(3)
    full = histories(feed.items)
    cut = histories([item for item in feed.items if item.mention.minute <= AT])
    for series in cut:
        assert RULE.evaluate(full[series], AT) == RULE.evaluate(cut[series], AT)


def test_a_busy_morning_is_expected() -> None:
    """Every topic triples its pace: what is expected triples too."""
    writer = Writer(1)
    for hour in range(12):
        for topic in ("credit", "deals", "rates"):
            for n in range(40 if hour < 11 else 120):
                writer.write(60 * hour + n % 60, topic, n % 4 == 0)
    found = RULE.evaluate(histories(writer.items)[Series("credit")], AT - MINUTE)
    assert found.observed == 30
    assert found.expected == pytest.approx(30, rel=0.1)


def _fired(feed: Feed) -> list[tuple[Series, timedelta]]:
    return [
        (change.incident.subject.series, change.at - START)
        for change in transitions(feed.items)
        if change.incident.state == "firing"
    ]


@pytest.mark.parametrize("seed", range(4))
def test_three_crises_fire_and_nothing_else(seed: int) -> None:
    feed = sample_like(seed)
    fired = _fired(feed)
    for crisis in feed.crises:
        delays = [START + at - crisis.onset for series, at in fired if series == Series(crisis.topic)]
        assert len(delays) == 1
        assert timedelta(0) < delays[0] < timedelta(minutes=60)
    assert {series.topic for series, _ in fired} - {"*"} == {crisis.topic for crisis in feed.crises}


@pytest.mark.parametrize("seed", range(3))
def test_a_calm_feed_is_silent(seed: int) -> None:
    writer = Writer(seed)
    writer.background()
    assert _fired(Feed(tuple(writer.items))) == []


def test_one_language_is_silenced_by_all_languages() -> None:
    writer = Writer(5)
    writer.background()
    for minute in range(1200, 1320):
        writer.write(minute, "credit", True)
    english = tuple(_in_english(item) for item in writer.items)
    assert {series for series, _ in _fired(Feed(english))} == {Series("credit")}


def _in_english(item: Item) -> Item:
    return replace(item, mention=replace(item.mention, lang="en")) if item.mention.topic == "credit" else item
