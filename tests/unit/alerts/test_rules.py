"""Rule files: strict, versioned by content, tested from files, followed live."""

import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
import yaml

from crosswind.errors import SettingsError
from crosswind.stream.service.rule_tests import run_tests
from crosswind.stream.service.rules import DEFAULT, FOLDER, SCHEMA, load_rules, parse_rules, rule_set, schema
from crosswind.stream.service.rules_live import LiveRules

TEXT = "version: 1\nrules:\n  - name: surge\n"


def test_the_schema_in_the_folder_is_the_code_s() -> None:
    found = json.loads(json.dumps(schema()))
    assert json.loads(SCHEMA.read_text("utf-8")) == found, "crosswind rules show --schema > rules.v1.schema.json"


@pytest.mark.parametrize("path", [DEFAULT])
def test_shipped_rules_satisfy_the_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text("utf-8")), schema())
    assert load_rules(path).rules


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "rule file"),
        ("version: 2\nrules: [{name: a}]", "version"),
        ("version: 1\nrules: []", "rules"),
        ("version: 1\nrules: [{name: a}, {name: a}]", "two rules are named a"),
        (TEXT + "    detector: magic", "detector"),
        (TEXT + "    for: soon", "for"),
        (TEXT + "    for: 90s", "whole minutes"),
        (TEXT + "    repeat: 0m", "would tell every minute"),
        (TEXT + "    keep_firing: 60000000000000m", "too long; the longest is 366d"),
        (TEXT + f"    keep_firing: {'9' * 5000}m", "no duration"),
        (TEXT + "    flapping: {within: 300000000d}", "too long"),
        (TEXT + "    flapping: {factor: 1000000}", "factor"),
        (TEXT + "    false_alarms: {at_most: 0}", "at_most"),
        (TEXT + "    treshold: 3", "treshold"),
        ("\xff: [", "rule file"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(text: str, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        rule_set(parse_rules(text.encode("latin-1")))


@pytest.mark.parametrize("text", ["2026-13-45", "rules: !!int a", "!!bool x", "!!timestamp x", "!!float x", "9" * 5000])
def test_a_value_that_is_not_what_it_looks_like_is_no_rule_file(text: str) -> None:
    with pytest.raises(SettingsError, match="not a rule file"):
        parse_rules(text.encode())


def test_a_date_that_is_none_is_no_file_of_rule_tests(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("version: 1\ntests: [{name: a, start: 2026-02-30, input: [], expect: []}]")
    with pytest.raises(SettingsError, match="no file of rule tests"):
        run_tests(path)


def test_a_version_follows_what_a_rule_answers() -> None:
    def version(extra: str) -> str:
        return rule_set(parse_rules((TEXT + extra).encode())).rules[0].version

    assert version("    description: other words") == version("")
    assert len({version(""), version("    for: 3m"), version("    clear: 0.5"),
                version("    false_alarms: {at_most: 2}")}) == 4  # fmt: skip


def test_a_smaller_budget_is_a_higher_threshold() -> None:
    table, levels = load_rules().rules[0].table, np.array([0.01, 0.3, 2.0, 50.0])
    heights = [table.height(levels, budget) for budget in (3.0, 0.3, 0.03, 0.003)]
    assert all((low < high).all() for low, high in pairwise(heights))
    assert table.budget(float(heights[1][2]), 2.0) == pytest.approx(0.3, rel=0.05)


def test_the_shipped_rules_pass_their_tests() -> None:
    outcomes = run_tests(FOLDER / "default.test.yaml")
    assert len(outcomes) >= 7
    assert [outcome for outcome in outcomes if outcome.problem] == []


def test_a_failed_expectation_is_told(tmp_path: Path) -> None:
    case = {"name": "x", "input": [{"articles": "1x60", "negative": "0"}],
            "expect": [{"at": "5h", "alerts": [{"rule": "negative-surge", "topic": "credit"}]}]}  # fmt: skip
    path = tmp_path / "x.yaml"
    path.write_bytes(msgspec.yaml.encode({"version": 1, "tests": [case]}))
    assert [outcome.problem for outcome in run_tests(path)] == ["missing: negative-surge credit/*/* firing"]


def test_live_rules_follow_their_file_and_survive_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(TEXT)
    live = LiveRules(path)
    first = live()
    assert live() is first
    for broken in ("soon", "60000000000000m", "9" * 5000 + "m"):
        path.write_text(f"{TEXT}    for: {broken}\n")
        assert live() is first
    path.write_text(TEXT + "    for: 30m\n")
    assert live().version != first.version
    path.unlink()
    assert live().version != first.version


def test_live_rules_refuse_to_start_on_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        LiveRules(tmp_path / "none.yaml")()
