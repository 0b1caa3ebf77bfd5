"""`crosswind alerts scorecard --truth`, as it is typed, on a run whose crisis is known."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from crosswind.errors import DataError
from crosswind.stream.adapters.postgres import alert_orders
from crosswind.stream.alert_cli import app
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.series import Series
from crosswind.stream.domain.watch import NO_DATA
from crosswind.stream.replay.leads import leads
from crosswind.stream.replay.truth import Event
from crosswind.stream.service.rules import DEFAULT, parse_rules, rule_set
from tests.integration.alerts.world import END, ONSET, World, short_feed
from tests.unit.alerts.feeds import START


@pytest.fixture
def world(engine: Engine) -> World:
    world = World(engine)
    world.ingest(short_feed())
    return world


def truth(folder: Path) -> Path:
    path = folder / "truth.csv"
    spans = [("run", ONSET, ONSET + 3, "credit"), ("calm", ONSET - 6, ONSET - 5, "macro")]
    rows = [",".join([name, *((START + timedelta(hours=n)).isoformat() for n in (since, until)), series])
            for name, since, until, series in spans]  # fmt: skip
    path.write_text("\n".join(["name,onset,end,series", *rows]) + "\n")
    return path


def call(database_url: str, folder: Path, *words: str) -> str:
    given = ["alerts", "scorecard", *words, "--database-url", database_url, "--data-dir", str(folder)]
    found = CliRunner().invoke(app, given)
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.stdout


def first(world: World) -> Alert:
    return next(alert for alert in world.tick_at(END) if alert.cause == "fired" and alert.topic == "credit")


def test_lead_time_and_precision_stand_side_by_side(world: World, database_url: str, tmp_path: Path) -> None:
    alert = first(world)
    alert_orders.judge(world.engine, "live", alert.group or alert.incident_id, "ann", useful=True)
    words = ("--truth", str(truth(tmp_path)))
    [card] = [one for one in json.loads(call(database_url, tmp_path, *words, "--json")) if one["rule"] == alert.rule]
    expected = (START + timedelta(hours=ONSET) - alert.at) / timedelta(minutes=1)
    assert (card["events"], card["detected"], card["precision"]) == (2, 1, 1.0)
    assert card["lead_minutes"] == pytest.approx(expected)
    shown = call(database_url, tmp_path, *words)
    assert "1 of 2" in shown
    assert f"{expected:.0f} min" in shown


def test_without_truth_nothing_is_said_of_it(world: World, database_url: str, tmp_path: Path) -> None:
    alert = first(world)
    [card] = [one for one in json.loads(call(database_url, tmp_path, "--json")) if one["rule"] == alert.rule]
    assert "lead_minutes" not in card
    assert "lead" not in call(database_url, tmp_path)


def test_it_says_what_the_months_figure_is_of(
    world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = first(world)
    shown = call(database_url, tmp_path)
    [card] = [one for one in json.loads(call(database_url, tmp_path, "--json")) if one["rule"] == alert.rule]
    series = card["measure"]["series"]
    assert card["measure"] == {"per": "series", "series": series, "at_most": 0.05, "current": True}
    assert f"{card['told_per_month']:.4f}  each of {series} series    0.05" in shown
    assert "*" not in shown
    renamed = tmp_path / "rules.yaml"
    renamed.write_text(DEFAULT.read_text("utf-8").replace("per: series", "per: rule"), "utf-8")
    monkeypatch.setenv("CROSSWIND_RULES", str(renamed))
    shown = call(database_url, tmp_path)
    assert f"{alert.rule_version}*" in shown
    assert f"{card['told_per_month'] * series:.4f}  the whole rule" in shown
    assert "* not in the rules now" in shown


@pytest.mark.parametrize(("kind", "lang"), [("run", "*"), ("language", "en")])
def test_a_rule_of_a_language_or_the_whole_run_has_a_lead_and_the_silent_feed_none(
    engine: Engine, kind: str, lang: str
) -> None:
    rules = parse_rules(DEFAULT.read_bytes().replace(b"[topic, topic-language, entity]", f"[{kind}]".encode()))
    world = World(engine, rules=lambda: rule_set(rules))
    world.ingest([replace(item, mention=replace(item.mention, lang="en")) for item in short_feed()])
    told = world.tick_at(END)
    event = Event("run", START + timedelta(hours=ONSET), START + timedelta(hours=ONSET + 3), Series("*", lang))
    since, until, found = alert_orders.fired(engine, "live", 90)
    assert {one.lang for one in found} == {lang}
    assert {lead.detected for lead in leads(found, [event], since, until).values()} == {1}
    assert NO_DATA in {alert.rule for alert in told}
    assert NO_DATA not in {one.rule for one in found}


def test_a_truth_that_cannot_be_read_is_said_before_the_database_is_asked(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="expected onset, end, series"):
        call("postgresql://nobody@127.0.0.1:1/none", tmp_path, "--truth", str(tmp_path / "bad.csv"))
