"""Rules over a language, over the whole run, and over one topic with a budget for all: Postgres, in process, and rule
tests say the same."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import Engine

from crosswind.dashboard.stored import buckets
from crosswind.stream.adapters.postgres.alerts import PostgresAlertStore
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.rules import Kind, RuleSet, kind_of
from crosswind.stream.domain.series import Series
from crosswind.stream.service.rule_tests import run_tests
from crosswind.stream.service.rules import parse_rules, rule_set
from tests.integration.alerts.world import END, ONSET, World, article_of, short_feed
from tests.unit.alerts.feeds import START, TOPICS, Item, Writer
from tests.unit.replay.world import replayed, table

SHARED = "false_alarms: {at_most: 0.05, per: rule}"
FEED = END + 2.0
FIELDS = ("cause", "topic", "lang", "entity", "observed", "sources", "headlines")


def rules_of(watch: str, more: str = "count: headlines") -> RuleSet:
    text = f"version: 1\nrules:\n  - name: surge\n    watch: {{{watch}}}\n    {more}\n"
    return rule_set(parse_rules(text.encode()))


def german_crisis() -> list[Item]:
    """Bad news in German about everything: no topic of it is loud by itself for long, the language is."""
    writer, crisis = Writer(7), Writer(9)
    writer.background(per_hour=60.0)
    for share in crisis.random.beta(1.0, 1.4, 220):
        crisis.write(60 * (9 + 2 * share), str(crisis.random.choice(TOPICS)), True)
    german = [
        replace(item, mention=replace(item.mention, lang="de", article_id=f"{10**9 + n:032x}", title_key=f"crisis-{n}"))
        for n, item in enumerate(crisis.items)
    ]
    return [item for item in [*writer.items, *german] if item.mention.minute < START + timedelta(hours=FEED)]


def postgres(engine: Engine, rules: RuleSet, items: Sequence[Item]) -> list[Alert]:
    world = World(engine, rules=lambda: rules)
    world.ingest(items)
    return world.tick_at(END)


def told(alerts: Sequence[Alert]) -> list[tuple[object, ...]]:
    return [(alert.at, *(getattr(alert, name) for name in FIELDS)) for alert in alerts]


def in_process(folder: Path, rules: RuleSet, items: Sequence[Item]) -> list[tuple[object, ...]]:
    log = replayed(folder, table([article_of(item) for item in items]), rules=rules).log.read_bytes()
    found = []
    for row in map(json.loads, log.splitlines()):
        at = datetime.fromisoformat(row["at"])
        if at < START + timedelta(hours=END):
            found.append((at, *(row[name] for name in FIELDS)))
    return found


@pytest.mark.parametrize(("kind", "series"), [("language", ("*", "de")), ("run", ("*", "*"))])
def test_a_crisis_of_all_topics_is_found(engine: Engine, tmp_path: Path, kind: str, series: tuple[str, str]) -> None:
    rules, items = rules_of(f"kinds: [{kind}]"), german_crisis()
    alerts = postgres(engine, rules, items)
    assert {(a.topic, a.lang) for a in alerts if a.cause == "fired"} == {series}
    assert told(alerts) == in_process(tmp_path, rules, items)


def test_the_whole_run_s_evidence_is_of_every_topic(engine: Engine) -> None:
    """Forty topics with four bad articles each: no topic of them has enough to be looked at by itself."""
    writer = Writer(3)
    writer.background(per_hour=30.0, negative=0.0)
    writer.items = [replace(item, negative=False) for item in writer.items if item.mention.minute.hour < FEED]
    for topic in range(40):
        for _ in range(4):
            writer.write(60 * (ONSET + writer.random.random()), f"rare-{topic}", True)
    fired = [a for a in postgres(engine, rules_of("kinds: [run]"), writer.items) if a.cause == "fired"]
    assert [(a.topic, a.lang) for a in fired] == [("*", "*")]


def test_a_shared_budget_is_shared_by_the_series_that_the_rule_watches(engine: Engine, tmp_path: Path) -> None:
    """Two thousand names in the feed make a rule that watches one topic no blinder."""
    writer = Writer(7)
    writer.background(per_hour=40.0)
    writer.crisis("credit", ONSET, 2.0, 55)
    items = [item for item in writer.items if item.mention.minute < START + timedelta(hours=FEED)]
    named = [
        replace(item, mention=replace(item.mention, entities=tuple(f"name-{n}-{m}" for m in range(5))))
        if not item.negative else item for n, item in enumerate(items)
    ]  # fmt: skip
    rules = rules_of("kinds: [topic], topics: [credit]", SHARED)
    alerts = postgres(engine, rules, named)
    assert [alert.topic for alert in alerts if alert.cause == "fired"] == ["credit"]
    assert told(alerts) == in_process(tmp_path, rules, named)


def test_the_universe_has_each_series_once(engine: Engine) -> None:
    items = short_feed()
    World(engine).ingest(items)
    with PostgresAlertStore(engine).begin("live") as unit:
        assert unit is not None
        found = unit.universe(START, START + timedelta(hours=2 * FEED))
    everywhen = found.present.any(axis=1)
    topics, langs = ({getattr(item.mention, name) for item in items} for name in ("topic", "lang"))
    pairs = {(item.mention.topic, item.mention.lang) for item in items}
    expected = {Series("*"), Series("*", "*", "Acme"), *(Series(topic) for topic in topics),
                *(Series("*", lang) for lang in langs), *(Series(*pair) for pair in pairs)}  # fmt: skip
    had = [series for series, there in zip(found.series, everywhen, strict=True) if there]
    assert (set(had), len(had)) == (expected, len(expected))
    assert not found.present[:, 0].any()  # nothing came before the first hour


def test_a_preview_has_languages_and_the_whole_run(engine: Engine) -> None:
    items = short_feed()
    World(engine).ingest(items)
    stored = buckets(engine, "live", datetime(2026, 3, 3, tzinfo=UTC), 2)
    assert stored is not None
    sums = dict(zip(stored.series, stored.articles.sum(axis=1), strict=True))
    assert {Kind.RUN, Kind.LANGUAGE, Kind.TOPIC, Kind.TOPIC_LANGUAGE, Kind.ENTITY} == {kind_of(one) for one in sums}
    assert sums[Series("*")] == len(items)
    assert sums[Series("*", "de")] == sum(item.mention.lang == "de" for item in items)
    assert np.array_equal(stored.articles[stored.series.index(Series("*"))], stored.run)


def test_rule_tests_know_languages(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nrules:\n  - name: surge\n    watch: {kinds: [language]}\n    count: headlines\n"
    )
    calm = [{"topic": topic, "lang": "de", "articles": "1x200", "negative": "0"} for topic in TOPICS[:3]]
    loud = [{"topic": topic, "lang": "de", "articles": "0x78 4x6", "negative": "0x78 4x6"} for topic in TOPICS[:3]]
    wanted = [{"rule": "surge", "lang": "de"}]
    case = {"name": "x", "input": [*calm, *loud], "expect": [{"at": "14h30m", "alerts": wanted}]}
    path = tmp_path / "x.yaml"
    path.write_bytes(msgspec.yaml.encode({"version": 1, "rules": "rules.yaml", "tests": [case]}))
    assert [outcome.problem for outcome in run_tests(path)] == [""]
