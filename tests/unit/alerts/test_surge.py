"""The shipped rules over whole feeds: what raises them, and what must not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from crosswind.stream.domain.series import Series
from tests.unit.alerts.feeds import START, Feed, Item, Writer, histories, sample_like, transitions

AT = START + timedelta(hours=12)


def test_nothing_after_the_minute_counts() -> None:
    feed = sample_like(3)
    full = [change for change in transitions(feed.items) if change.at <= AT]
    cut = [item for item in feed.items if item.mention.minute <= AT]
    assert [change for change in transitions(cut) if change.at <= AT] == full
    assert len(histories(cut)) > 1


def _fired(feed: Feed) -> list[tuple[Series, timedelta]]:
    return [
        (change.incident.subject.series, change.at - START)
        for change in transitions(feed.items)
        if change.cause == "fired"
    ]


@pytest.mark.parametrize("seed", range(4))
def test_every_crisis_fires_within_the_hour_and_nothing_else(seed: int) -> None:
    """Topic, language or company, whichever is sure first; the topic itself before the crisis is over."""
    feed = sample_like(seed)
    fired = _fired(feed)
    for crisis in feed.crises:
        delays = [(series, START + at - crisis.onset) for series, at in fired if series.topic in (crisis.topic, "*")]
        assert min(delay for _, delay in delays if delay > timedelta(0)) < timedelta(minutes=60)
        (topic,) = [delay for series, delay in delays if series == Series(crisis.topic)]
        assert timedelta(0) < topic < timedelta(hours=crisis.hours)
    assert {series.topic for series, _ in fired} - {"*"} == {crisis.topic for crisis in feed.crises}


@pytest.mark.parametrize("seed", [0, 1, 2, 5])  # 1 and 5 once alarmed in the first morning
def test_calm_feeds_are_silent_from_the_first_day(seed: int) -> None:
    writer = Writer(seed)
    writer.background()
    assert _fired(Feed(tuple(writer.items))) == []


def test_one_language_is_silenced_by_all_languages() -> None:
    writer = Writer(5)
    writer.background()
    for minute in range(1200, 1320):
        writer.write(minute, "credit", True)
    english = tuple(_in_english(item) for item in writer.items)
    fired = {series for series, _ in _fired(Feed(english))}
    assert Series("credit") in fired
    assert Series("credit", "en") not in fired


def _in_english(item: Item) -> Item:
    return replace(item, mention=replace(item.mention, lang="en")) if item.mention.topic == "credit" else item
