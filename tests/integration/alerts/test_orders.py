"""What people say to alerts, on a real Postgres: it reaches the engine, and the scorecard."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from crosswind.errors import DataError
from crosswind.stream.adapters.postgres import alert_orders
from crosswind.stream.domain.detect.budget import MONTH_HOURS
from crosswind.stream.domain.rules import Per, RuleSet
from crosswind.stream.domain.scorecard import Measure
from crosswind.stream.domain.silence import parse_matcher
from crosswind.stream.service.rules import load_rules, parse_rules, rule_set
from tests.integration.alerts.world import END, ONSET, World, article_of, short_feed
from tests.unit.alerts.feeds import START


@pytest.fixture
def world(engine: Engine) -> World:
    world = World(engine)
    world.ingest(short_feed())
    return world


MONTHS = (END - 1 / 60) / MONTH_HOURS
"""Of the short feed that are evaluated, from its first hour to the last closed minute."""


def one_rule(watch: str, per: str, name: str = "ours") -> RuleSet:
    """One rule over headlines."""
    text = f"""
version: 1
rules:
  - {{name: {name}, watch: {watch}, count: headlines, false_alarms: {{at_most: 0.05, per: {per}}}}}
"""
    return rule_set(parse_rules(text.encode()))


def card_of(world: World, name: str, rules: RuleSet | None = None) -> alert_orders.Scored:
    """The scorecard of the only version of a rule that fired."""
    [card] = [one for one in alert_orders.scorecard(world.engine, "live", 90, rules or world.rules())
              if one.rule == name]  # fmt: skip
    return card


def test_one_crisis_is_one_group(world: World) -> None:
    fired = [alert for alert in world.tick_at(END) if alert.cause == "fired"]
    assert {alert.entity for alert in fired} == {"*", "Acme"}
    assert len({alert.group for alert in fired}) == 1
    assert [alert.leads for alert in fired].count(True) == 1


def test_the_first_to_acknowledge_has_it(world: World) -> None:
    alert = world.tick_at(11)[0]
    assert alert_orders.acknowledge(world.engine, "live", alert.incident_id[:10], "ann") == "ann"
    assert alert_orders.acknowledge(world.engine, "live", alert.incident_id, "bob") == "ann"
    with pytest.raises(DataError, match="no incident begins"):
        alert_orders.acknowledge(world.engine, "live", "nonsense", "ann")


def test_a_silence_marks_what_it_matches_until_it_ends(world: World) -> None:
    world.tick_at(8)
    made = alert_orders.silence(world.engine, "live", [parse_matcher("topic=credit")], timedelta(hours=9), "ann")
    assert alert_orders.silences(world.engine, "live") == [made]
    alerts = [alert for alert in world.tick_at(12) if alert.cause == "fired"]
    assert {alert.topic: alert.silenced for alert in alerts} == {"credit": True, "*": False}
    alert_orders.end_silence(world.engine, "live", made.silence_id)
    assert alert_orders.silences(world.engine, "live") == []
    with pytest.raises(DataError, match="no silence"):
        alert_orders.end_silence(world.engine, "live", made.silence_id)


def test_the_scorecard_counts_groups_and_verdicts(world: World) -> None:
    fired = [alert for alert in world.tick_at(END) if alert.cause == "fired" and alert.leads]
    card = card_of(world, "negative-surge")
    assert (card.fired, card.useful, card.useless, card.precision) == (1, 0, 0, None)
    assert card.rule_version == fired[0].rule_version
    alert_orders.acknowledge(world.engine, "live", fired[0].incident_id, "ann")
    alert_orders.judge(world.engine, "live", fired[0].incident_id, "bob", useful=True)
    assert card_of(world, "negative-surge").precision == 1.0
    alert_orders.judge(world.engine, "live", fired[0].incident_id, "bob", useful=False)
    card = card_of(world, "negative-surge")
    assert (card.useful, card.useless, card.precision) == (0, 1, 0.0)
    assert card.useless_per_month == card.told_per_month > 0


@pytest.mark.parametrize(
    ("watch", "per", "series"),
    [
        ("{kinds: [topic], topics: [credit]}", "series", 1),
        ("{kinds: [run]}", "series", 1),
        ("{kinds: [topic], topics: [credit, macro]}", "rule", 2),
    ],
)
def test_what_was_told_is_counted_by_what_the_rule_watches(engine: Engine, watch: str, per: str, series: int) -> None:
    rules = one_rule(watch, per)
    world = World(engine, rules=lambda: rules)
    world.ingest(short_feed())
    world.tick_at(END)
    card = card_of(world, "ours", rules)
    assert (card.fired, card.measure) == (1, Measure(Per(per), series, 0.05, current=True))
    assert card.told_per_month == pytest.approx(1 / MONTHS)


@pytest.mark.parametrize(
    ("watch", "query"),
    [
        ("{kinds: [language]}", "SELECT count(DISTINCT lang) FROM article"),
        ("{kinds: [topic-language], topics: [credit]}",
         "SELECT count(DISTINCT lang) FROM article WHERE topic = 'credit'"),
        ("{kinds: [entity]}", "SELECT count(DISTINCT name) FROM article, unnest(entities) AS name"),
        ("{kinds: [topic, entity], entities: [Acme]}", "SELECT 1"),
    ],
)  # fmt: skip
def test_every_kind_of_series_is_counted_once(world: World, watch: str, query: str) -> None:
    """And a version that is not in use by what the rule of its name watches now."""
    world.tick_at(END)
    rules = one_rule(watch, "series", name="negative-surge")
    [(series,)] = world.rows(query)
    card = card_of(world, "negative-surge", rules)
    assert card.measure == Measure(Per.SERIES, series, None, current=False)
    assert card.told_per_month == pytest.approx(1 / MONTHS / series)


def test_without_a_rule_of_the_name_the_whole_rule_is_counted(world: World) -> None:
    world.tick_at(END)
    rules = one_rule("{}", "series")
    cards = {card.rule: card for card in alert_orders.scorecard(world.engine, "live", 90, rules)}
    assert cards["negative-surge"].measure == Measure(Per.RULE, None, None, current=False)
    assert cards["negative-surge"].told_per_month == pytest.approx(1 / MONTHS)
    assert not cards["no-data"].measure.current
    assert card_of(world, "no-data").measure == Measure(Per.RULE, None, None, current=True)


def test_a_scorecard_forgets_nothing_that_retention_dropped(world: World) -> None:
    world.tick_at(END)
    before = card_of(world, "negative-surge")
    world.execute("DELETE FROM bucket WHERE run = :run")
    assert card_of(world, "negative-surge") == before


def test_a_run_without_alarms_has_an_empty_scorecard(engine: Engine) -> None:
    assert alert_orders.scorecard(engine, "nothing", 90, load_rules()) == []


def test_a_late_article_in_a_closed_bucket_is_seen(world: World) -> None:
    calm = [item for item in short_feed() if item.mention.topic != "credit" or item.mention.minute.hour < ONSET]
    crisis = [item for item in short_feed() if item not in calm]
    late = World(world.engine, "late")
    late.ingest(calm)
    assert [alert for alert in late.tick_at(12) if alert.topic == "credit"] == []
    late.ingest(crisis)
    found = [alert for alert in late.tick_at(12.05) if alert.topic == "credit"]
    assert [alert.cause for alert in found][:2] == ["opened", "fired"]
    assert found[0].at >= START + timedelta(hours=11.9)


def test_a_late_article_is_seen_where_there_was_none(world: World) -> None:
    """The source, or the whole feed, was away for three hours, then brings what it had."""
    away = [item for item in short_feed() if ONSET <= (item.mention.minute - START) / timedelta(hours=1) < 12]
    late = World(world.engine, "late")
    late.ingest([item for item in short_feed() if item not in away])
    assert [alert for alert in late.tick_at(13) if alert.topic == "credit"] == []
    late.ingest(away)
    found = [alert for alert in late.tick_at(13.05) if alert.topic == "credit"]
    assert [alert.cause for alert in found][:2] == ["opened", "fired"]


def test_a_late_article_about_something_else_tells_no_surge_again(world: World) -> None:
    """Each tick is of a fresh engine: what has been told is remembered over a restart."""
    told = world.tick_at(14.5)
    assert {alert.state for alert in told if alert.topic == "credit"} >= {"firing", "resolved"}
    other = next(item for item in short_feed() if item.mention.topic == "macro" and not item.negative)
    late = replace(other.mention, article_id=f"{10**8:032x}", title_key="late", minute=START + timedelta(hours=10.5))
    world.ingest([replace(other, mention=late)])
    assert [alert for alert in world.tick_at(14.6) if alert.cause in ("opened", "fired")] == []


def test_a_late_article_corrects_a_firing_alert_but_never_unsays_it(world: World) -> None:
    fired = next(alert for alert in world.tick_at(10) if alert.cause == "fired" and alert.topic == "credit")
    good = next(item for item in short_feed() if item.mention.topic == "credit" and not item.negative)
    extra = [
        replace(good, mention=replace(good.mention, article_id=f"{10**8 + n:032x}", title_key=f"late-{n}",
                                      minute=fired.at - timedelta(minutes=n % 9)))
        for n in range(200)
    ]  # fmt: skip
    assert article_of(extra[0]).score.topic == "credit"
    world.ingest(extra)
    found = [alert for alert in world.tick_at(10.02) if alert.incident_id == fired.incident_id]
    assert [alert.cause for alert in found] == ["corrected"]
    assert found[0].negative_share < fired.negative_share or found[0].observed != fired.observed
    assert found[0].state == "firing"
