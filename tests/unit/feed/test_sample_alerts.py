"""The sample feed under a model that is never wrong: the rule finds the three crises, and nothing else."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import pytest

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.identity import title_key
from crosswind.stream.domain.incident import State, Transition, alert
from crosswind.stream.domain.memory import Memory
from crosswind.stream.domain.series import MINUTE, Counts, History, Mention, Series
from crosswind.stream.domain.watch import Watch
from crosswind.stream.feed.sample.generate import Piece, Scenario, generate, load_phrases, load_scenario
from crosswind.stream.notify.domain.subscription import Filter, Told
from crosswind.stream.service.rules import load_rules

Fired = Mapping[Series, datetime]


def _histories(scenario: Scenario, pieces: list[Piece]) -> dict[Series, History]:
    minutes = scenario.hours * 60
    run = np.zeros(minutes, np.int64)
    articles: dict[Series, Counts] = defaultdict(lambda: np.zeros(minutes, np.int64))
    negative: dict[Series, Counts] = defaultdict(lambda: np.zeros(minutes, np.int64))
    mentions: dict[Series, list[Mention]] = defaultdict(list)
    for piece in pieces:
        minute = (piece.news.published_at - scenario.start) // MINUTE
        run[minute] += 1
        for series in _series(piece):
            articles[series][minute] += 1
            if piece.sentiment == "negative":
                negative[series][minute] += 1
                mentions[series].append(_mention(piece, scenario.start + minute * MINUTE))
    return {
        series: History.of(scenario.start, negative[series], articles[series], run, mentions[series])
        for series in mentions
    }


def _series(piece: Piece) -> list[Series]:
    topics, langs, entities = (piece.topic, ALL), (piece.lang, ALL), (*piece.news.entities, ALL)
    return [Series(topic, lang, entity) for topic in topics for lang in langs for entity in entities]


def _mention(piece: Piece, minute: datetime) -> Mention:
    news = piece.news
    return Mention(
        minute, str(news.id), news.source, title_key(news.title), piece.topic, piece.lang, 900_000, "oracle",
        tuple(news.entities),
    )  # fmt: skip


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load_scenario()


@pytest.fixture(scope="module")
def transitions(scenario: Scenario) -> list[Transition]:
    pieces = list({piece.news.id: piece for piece in generate(scenario, load_phrases())}.values())
    end = scenario.start + timedelta(hours=scenario.hours) - MINUTE
    watch = Watch("live", load_rules())
    return watch.over(_histories(scenario, pieces), Memory(), scenario.start, end)[1]


@pytest.fixture(scope="module")
def firing(transitions: list[Transition]) -> list[Transition]:
    return [found for found in transitions if found.incident.state is State.FIRING]


@pytest.fixture(scope="module")
def fired(firing: list[Transition]) -> Fired:
    return {found.incident.subject.series: found.at for found in reversed(firing)}


def test_topic_and_entity_of_one_crisis_are_one_group(firing: list[Transition]) -> None:
    assert len({found.incident.group for found in firing}) == 3
    assert len({found.incident.incident_id for found in firing if found.incident.leads}) == 3


def _told(transitions: list[Transition], wanted: Filter) -> list[str]:
    """Groups of the incidents that a subscriber is told of."""
    told, groups = Told(), dict[str, str]()
    for seq, found in enumerate(transitions):
        message = alert(found, seq)
        if told.tell(wanted, message):
            groups[message.incident_id] = message.group
    return list(groups.values())


def test_each_subscriber_is_told_once_of_each_crisis(scenario: Scenario, transitions: list[Transition]) -> None:
    """Whether the topic leads or the company: whoever asked for either hears of it, and nobody twice."""
    everything = _told(transitions, Filter())
    assert len(everything) == len(set(everything)) == 3
    for event in scenario.events:
        if event.kind == "crisis":
            by_topic = _told(transitions, Filter(topics=(event.topic,)))
            assert len(by_topic) == 1
            assert by_topic == _told(transitions, Filter(entities=(event.entity,)))
            assert by_topic == _told(transitions, Filter(topics=(event.topic,), entities=(event.entity,)))


def test_only_the_three_crises_alert(scenario: Scenario, fired: Fired) -> None:
    crises = [event for event in scenario.events if event.kind == "crisis"]
    assert {series.topic for series in fired} - {ALL} == {event.topic for event in crises}
    assert {series.entity for series in fired} - {ALL} == {event.entity for event in crises}


@pytest.mark.parametrize("name", ["bank_run", "profit_warnings", "payments_attack"])
def test_each_crisis_alerts_within_two_hours_and_a_half_of_its_onset(
    name: str, scenario: Scenario, fired: Fired
) -> None:
    event = next(event for event in scenario.events if event.name == name)
    delay = fired[Series(event.topic)] - scenario.start - timedelta(hours=event.onset)
    assert timedelta(0) < delay < timedelta(hours=2.5)
