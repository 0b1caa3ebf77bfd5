"""Budgets that all series of a rule share: how many there are depends on the past, never on what comes together."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from crosswind.stream.domain.article import ScoredArticle, Sentiment
from crosswind.stream.domain.rules import Per, RuleSet
from crosswind.stream.domain.series import Series
from crosswind.stream.domain.universe import REACH, Universe, hour_of
from crosswind.stream.replay.preview import Buckets, preview
from crosswind.stream.service.rule_tests import run_tests
from crosswind.stream.service.rules import DEFAULT, parse_rules, rule_set
from tests.builders import scored_article
from tests.unit.replay.world import articles, at, log_of, table

START = datetime(2026, 3, 2, tzinfo=UTC)
"""Where the feed of `articles` begins."""


def shared_budget(at_most: float) -> RuleSet:
    given = (
        DEFAULT.read_text("utf-8").replace("per: series", "per: rule").replace("at_most: 0.05", f"at_most: {at_most}")
    )
    rules = rule_set(parse_rules(given.encode()))
    assert rules.rules[0].budget.at_most == at_most
    return rules


def newcomers(count: int, after: timedelta) -> list[ScoredArticle]:
    """One calm article of each of many companies that were never named before."""
    found = []
    for number in range(count):
        when = START + after + timedelta(seconds=5 * number)
        one = scored_article(10**6 + number, topic="deals", sentiment=Sentiment.NEUTRAL)
        found.append(at(one, published_at=when, first_seen_at=when, entities=(f"Co {number}",)))
    return found


def test_who_comes_after_a_surge_does_not_share_its_budget(tmp_path: Path) -> None:
    """Companies that are named two hours after it, but are taken in with it, do not make the rule blinder."""
    feed = sorted([*articles(), *newcomers(400, timedelta(hours=11.2))], key=lambda one: one.article.published_at)
    rules = shared_budget(0.5)
    logs = {log_of(tmp_path / str(batch), table(feed), rules=rules, batch=batch) for batch in (0, 40, 1000)}
    assert len(logs) == 1
    early = sorted([*articles(), *newcomers(400, timedelta(hours=5.2))], key=lambda one: one.article.published_at)
    assert log_of(tmp_path / "early", table(early), rules=rules) not in logs  # who came before it does


def test_a_series_counts_from_the_hour_after_its_first_article_for_five_weeks() -> None:
    counts = np.zeros((2, REACH + 4), np.int64)
    counts[0] = 1
    counts[1, 1] = 3
    found = Universe.counted([Series("*"), Series("credit")], START, counts)
    assert found.present[0].tolist() == [False] + [True] * (REACH + 3)
    assert np.flatnonzero(found.present[1]).tolist() == list(range(2, REACH + 2))
    watched = found.watched(shared_budget(0.5))["negative-surge"]
    first = hour_of(START)
    assert [watched[first + hour] for hour in (0, 1, 2, REACH + 1, REACH + 2)] == [0, 0, 1, 1, 0]  # `*` is not watched


def test_a_rule_whose_series_have_their_own_budgets_needs_no_count() -> None:
    per_series = rule_set(parse_rules(DEFAULT.read_bytes()))
    assert Universe.counted([Series("*")], START, np.ones((1, 3), np.int64)).watched(per_series) == {}


def surge(others: int) -> Buckets:
    """Three days of a topic that surges in the end, and of calm companies."""
    hours = 72
    negative, calm = np.zeros(hours * 60, np.int32), np.zeros(hours * 60, np.int32)
    calm[::30] = 1
    negative[::240] = 1
    negative[-120::6] += 1
    rows = [calm + negative, *([calm] * others)]
    series = (Series("credit"), *(Series("*", "*", f"Co {n}") for n in range(others)))
    nothing = np.zeros((others, hours * 60), np.int32)
    return Buckets(series, START, np.concatenate([negative[None], nothing]), np.array(rows, np.int32),
                   np.sum(rows, axis=0, dtype=np.int32))  # fmt: skip


def test_a_preview_judges_by_the_shared_budget() -> None:
    rules = shared_budget(0.05)
    own = replace(rules, rules=(replace(rules.rules[0], budget=replace(rules.rules[0].budget, per=Per.SERIES)),))
    few, many = surge(0), surge(3000)
    assert len(preview(own, many).fired) == len(preview(own, few).fired) == 1
    shares = [preview(rules, buckets).fired for buckets in (few, many)]
    assert len(shares[0]) == 1
    assert not shares[1] or shares[1][0][0] > shares[0][0][0]


def test_rule_tests_judge_by_the_shared_budget(tmp_path: Path) -> None:
    """A surge that one company's budget tells of, and that of two thousand does not."""
    (tmp_path / "shared.yaml").write_text(DEFAULT.read_text("utf-8").replace("per: series", "per: rule"), "utf-8")
    calm = "  - {topic: macro, articles: '1x1000', negative: '0', entities: [%s]}\n"
    text = (
        "version: 1\nrules: shared.yaml\ntests:\n- name: surge\n  input:\n"
        "  - {topic: credit, articles: '1x1000', negative: '0 0 0 1 0 0 0 0 0 1 0 1 0x66 1x7 0x60'}\n" + calm +
        "  expect:\n  - {at: 14h20m, alerts: [{rule: negative-surge, topic: credit}]}\n"
    )  # fmt: skip
    found = []
    for names in (2, 2000):
        path = tmp_path / f"{names}.yaml"
        path.write_text(text % ", ".join(f"Co {n}" for n in range(names)), "utf-8")
        found += [outcome.problem for outcome in run_tests(path)]
    assert found == ["", "missing: negative-surge credit/*/* firing"]
