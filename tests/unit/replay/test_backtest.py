"""Backtests: truth, measures, event study, search, report, preview."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from crosswind.errors import DataError, SettingsError
from crosswind.stream.domain.series import Series
from crosswind.stream.replay import Result
from crosswind.stream.replay import backtest as run_backtest
from crosswind.stream.replay import replay as run_replay
from crosswind.stream.replay.backtest import calibrate, with_values
from crosswind.stream.replay.backtest_cli import app
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.figures import as_csv, summary
from crosswind.stream.replay.log import read_log
from crosswind.stream.replay.made import made_feed, truth_csv
from crosswind.stream.replay.measures import Measures, Period, lead_minutes, match, measure
from crosswind.stream.replay.preview import Buckets, preview
from crosswind.stream.replay.report import as_html
from crosswind.stream.replay.search import points
from crosswind.stream.replay.sources import Source
from crosswind.stream.replay.study import falls, study
from crosswind.stream.replay.truth import Alarm, Event, Prices, concerns, events_of, load_truth, prices_of
from crosswind.stream.service.rules import DEFAULT, load_rules, parse_rules, read_rules, rule_set
from tests.builders import scored_article
from tests.integration.stories.world import one_story
from tests.unit.replay.world import articles, at, replayed, table

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
PERIOD = Period(START, START + timedelta(days=10))


def alarm(hours: float, topic: str = "credit", number: int = 1, group: int | None = None, entity: str = "*") -> Alarm:
    fired_at = START + hours * HOUR
    return Alarm(number, number if group is None else group, "r", Series(topic, "*", entity), "warning", fired_at,
                 fired_at + HOUR, 9, 1.0, (), ())  # fmt: skip


def event(hours: float, topic: str = "credit", length: float = 4.0) -> Event:
    return Event(f"{topic} {hours}", START + hours * HOUR, START + (hours + length) * HOUR, Series(topic))


def figures(alarms: list[Alarm], events: list[Event], series: int = 10) -> Measures:
    return measure(match(alarms, events, PERIOD), PERIOD, series)


def test_an_alarm_within_an_event_is_true_and_any_other_false() -> None:
    found = figures([alarm(9.5), alarm(30, number=2), alarm(9.5, "macro", number=3)], [event(9), event(100)])
    assert (found.events, found.detected, found.alarms, found.true_alarms) == (2, 1, 3, 1)
    assert (found.precision, found.recall) == (pytest.approx(1 / 3), 0.5)
    assert found.false_per_series_month == pytest.approx(2 / (10 * 240 / 730))
    assert found.lead_median == -30.0
    assert found.under_alert == pytest.approx(2 / 240)


def test_a_group_is_one_alarm_and_true_when_any_of_it_is() -> None:
    leader, member = alarm(9.2, "*", 1, entity="Acme"), alarm(9.4, "credit", 2, group=1)
    found = figures([leader, member], [event(9)])
    assert (found.alarms, found.true_alarms, found.detected) == (1, 1, 1)


def test_a_warning_before_the_onset_has_a_positive_lead() -> None:
    assert lead_minutes(match([alarm(8.75)], [event(9)], PERIOD)).tolist() == [15.0]


def test_an_immediate_alarm_is_worth_100_and_none_0() -> None:
    assert figures([alarm(9)], [event(9)]).nab == pytest.approx(100.0)
    assert figures([], [event(9)]).nab == pytest.approx(0.0)
    late, false = figures([alarm(12.9)], [event(9)]).nab, figures([alarm(9), alarm(200, number=2)], [event(9)]).nab
    assert 0 < late < 60
    assert 90 < false < 100


def test_a_feed_too_short_to_choose_settings_on_says_so() -> None:
    feed = table([at(scored_article(n), published_at=START, first_seen_at=START) for n in range(5)])
    asked = {"truth": [event(0)], "budgets": False}
    with pytest.raises(DataError, match=r"too short.*leave out --grid"):
        run_backtest("default", feed=Source("short", iter([feed])), grid={"evidence.headlines": [4, 6]}, **asked)
    assert run_backtest("default", feed=Source("short", iter([feed])), **asked).found.articles == {}


def test_intervals_hold_the_figure_and_are_the_same_every_time() -> None:
    alarms = [alarm(24 * day + 9.5, number=day) for day in range(1, 9)] + [
        alarm(24 * day + 20, number=20 + day) for day in range(4)
    ]
    events = [event(24 * day + 9) for day in range(1, 9)]
    one, two = figures(alarms, events), figures(alarms, events)
    assert one == two
    low, high = one.intervals["precision"]
    assert low <= one.precision <= high
    assert low < high


def test_series_speak_of_each_other_when_nothing_contradicts() -> None:
    assert concerns(Series("*", "*", "Acme"), Series("credit", "*", "Acme"))
    assert not concerns(Series("credit", "*", "*"), Series("*", "*", "Acme"))
    assert not concerns(Series("credit", "de"), Series("credit", "fr"))


def test_truth_is_told_by_its_columns(tmp_path: Path) -> None:
    made = made_feed(100, 20, crises=2)
    (tmp_path / "events.csv").write_text(truth_csv(made.events))
    assert load_truth(tmp_path / "events.csv") == made.events
    (tmp_path / "prices.csv").write_text("time,name,price\n2026-03-02T00:00:00Z,Acme,10\n")
    assert isinstance(load_truth(tmp_path / "prices.csv"), Prices)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="expected onset"):
        load_truth(tmp_path / "other.csv")


@pytest.mark.parametrize("row", [{"onset": "2026-03-02", "end": "2026-03-03T00:00:00Z"}, {"onset": "x", "end": "y"}, {},
                                 {"onset": "2026-03-03T00:00:00Z", "end": "2026-03-02T00:00:00Z"}])  # fmt: skip
def test_an_event_that_cannot_be_read_is_named(row: dict[str, str]) -> None:
    with pytest.raises(DataError, match="event 1"):
        events_of([row])


def test_times_beyond_the_calendar_and_prices_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="no moment of the years 1 to 9999"):
        events_of([{"onset": "0001-01-01T00:00+14:00", "end": "2026-01-01T00:00Z"}])
    for price in (float("nan"), float("inf"), 0.0):
        with pytest.raises(DataError, match="prices must be finite and above 0"):
            prices_of(pl.DataFrame({"time": ["2026-01-01T00:00Z"], "price": [price]}))


def _prices(fall_at: int, count: int = 400, seed: int = 3) -> Prices:
    moves = np.random.default_rng(seed).normal(0, 0.001, count)
    moves[fall_at : fall_at + 5] -= 0.02
    times = [(START + n * HOUR).isoformat() for n in range(count)]
    return prices_of(pl.DataFrame({"time": times, "name": ["Acme"] * count, "price": 100 * np.exp(np.cumsum(moves))}))


def test_an_alarm_before_a_fall_earns_what_fell_after_it() -> None:
    found = study([alarm(249.5, "*", entity="Acme")], _prices(251))
    assert found.forward[0] == pytest.approx(-0.1, abs=0.02)
    assert found.volatility[0] > 3
    after = study([alarm(256.5, "*", entity="Acme")], _prices(251))
    assert abs(after.forward[0]) < 0.02


def test_prices_after_the_window_change_nothing() -> None:
    """Poison: whatever comes later than the last step of the study is not looked at, nor is it for what is normal."""
    prices = _prices(251)
    poisoned = Prices(prices.frame.with_columns(
        price=pl.when(pl.col("time") > START + 262 * HOUR).then(1e6).otherwise(pl.col("price"))))  # fmt: skip
    alarms = [alarm(249.5, "*", entity="Acme")]
    assert study(alarms, prices).mean.tolist() == study(alarms, poisoned).mean.tolist()
    early = [one for one in falls(poisoned) if one.onset < START + 260 * HOUR]
    assert early == [one for one in falls(prices) if one.onset < START + 260 * HOUR] != []


def test_an_alarm_at_the_minute_of_a_price_is_traded_at_the_next() -> None:
    jump = prices_of(pl.DataFrame({"time": [(START + n * HOUR).isoformat() for n in range(100)], "name": ["Acme"] * 100,
                                   "price": [100.0 + n % 2 for n in range(60)] + [50.0] * 40}))  # fmt: skip
    found = study([alarm(60, "*", entity="Acme")], jump, reach=5)
    assert abs(found.forward[0]) < 0.05  # the fall to 50 at hour 60 was there already
    assert np.diff(found.mean).argmin() == 3  # the last step before the alarm's own, -1


def test_what_a_market_explains_is_not_abnormal() -> None:
    prices = _prices(251)
    both = pl.concat([prices.frame, prices.frame.with_columns(name=pl.lit("index"))])
    found = study([alarm(249.5, "*", entity="Acme")], Prices(both.sort("name", "time")), market="index")
    assert found.forward[0] == pytest.approx(0.0, abs=1e-9)


def test_settings_are_changed_by_path_and_checked() -> None:
    text = read_rules(DEFAULT)
    changed = rule_set(with_values(text, {"evidence.headlines": 9, "evidence.sources": 4}))
    assert (changed.rules[0].least.headlines, changed.rules[0].least.sources) == (9, 4)
    with pytest.raises(SettingsError, match="not a rule"):
        with_values(text, {"evidence.headline": 9})


def test_a_grid_that_is_too_large_is_refused() -> None:
    assert len(points({"a": [1, 2], "b": [1, 2, 3]})) == 6
    with pytest.raises(SettingsError, match="--trials"):
        points({"a": list(range(50)), "b": list(range(50))})


@pytest.fixture(scope="module")
def result() -> Result:
    feed = [at(one, title="<script>alert(1)</script>", source=f"=cmd{n % 7}") for n, one in enumerate(articles())]
    truth = [Event("</script><b>run", START + 9 * HOUR, START + 11 * HOUR, Series("credit"))]
    return run_backtest("default", feed=Source("made", iter([table(feed)])), truth=truth, folds=10, budgets=True,
                        split=0.85, grid={"evidence.headlines": [4, 500]})  # fmt: skip


def test_the_report_is_one_file_and_what_strangers_wrote_is_text(result: Result) -> None:
    page = as_html(result.found)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "</script><b>" not in page
    assert 'src="http' not in page
    assert "Plotly.newPlot" in page


def test_the_same_figures_are_in_every_form(result: Result) -> None:
    said = result.summary()["rules"][0]
    assert (said["detected"], said["events"], said["alarms"]) == (1, 1, 1)
    assert result.figures["recall"].to_list() == [1.0]
    rows = list(csv.DictReader(io.StringIO(as_csv(result.found))))
    assert len(rows) == len(result.alarms) == 2
    assert [row["budget"] for row in said["calibration"]] == [0.01, 0.03, 0.1, 0.3, 1.0]


@pytest.mark.parametrize("stories", [True, False])
def test_stories_are_counted_only_where_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stories: bool
) -> None:
    """One event, told ninety times: as a story it is one, and no alarm."""
    monkeypatch.setenv("CROSSWIND_STORIES", str(stories))
    pq.write_table(table(one_story()), tmp_path / "feed.parquet")
    (tmp_path / "rules.yaml").write_bytes(DEFAULT.read_bytes().replace(b"count: headlines", b"count: stories"))
    truth = [Event("run", START + 9 * HOUR, START + 12 * HOUR, Series("credit"))]
    (tmp_path / "truth.csv").write_text(truth_csv(truth))
    asked = ["rules.yaml", "--feed", "feed.parquet", "--truth", "truth.csv", "--no-budgets"]
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, asked).output
    assert f"{0 if stories else 1} of 1 events" in said
    assert ("median lead none" in said) == stories
    found = run_backtest("rules.yaml", feed="feed.parquet", truth=truth, budgets=False)
    assert found.figures["detected"].to_list() == [0 if stories else 1]
    fired = run_replay("feed.parquet", rules="rules.yaml").filter(pl.col("cause") == "fired")
    assert ("credit" in fired["topic"]) != stories


def test_settings_are_chosen_before_the_split_and_judged_after(result: Result) -> None:
    search = result.found.search
    assert search.chosen_on.until == search.judged_on.since
    assert len(search.trials) == 2
    assert search.trials[0].score > 0


def test_what_would_be_chosen_by_no_event_is_not_chosen(result: Result) -> None:
    """The run ends at 11 of 14 hours: eight of ten stretches have nothing to choose by, and neither has the half."""
    assert (len(result.found.folds), result.found.skipped) == (2, 8)
    assert result.summary()["walk_forward_skipped"] == 8
    assert "no event lies before: 8 stretches" in as_html(result.found)
    truth = [Event("run", START + 9 * HOUR, START + 11 * HOUR, Series("credit"))]
    with pytest.raises(DataError, match=r"none of the 1 labelled events lies between .* move the split"):
        run_backtest("default", feed=Source("x", iter([table()])), truth=truth, budgets=False,
                     grid={"evidence.headlines": [4, 8]})  # fmt: skip


def test_trials_without_a_grid_are_refused() -> None:
    with pytest.raises(SettingsError, match="--trials samples a grid"):
        run_backtest("default", feed=Source("x", iter([table()])), truth=[], trials=3)


def test_of_a_narrowed_feed_only_events_that_it_could_tell_of_are_judged(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "feed.parquet")
    truth = [Event("run", START + 9 * HOUR, START + 11 * HOUR, Series("credit")),
             Event("other", START + 5 * HOUR, START + 6 * HOUR, Series("macro")),
             Event("company", START + 5 * HOUR, START + 6 * HOUR, Series("*", "*", "Nobody"))]  # fmt: skip
    (tmp_path / "truth.csv").write_text(
        "name,onset,end,topic,lang,entity\n"
        + "".join(f"{one.name},{one.onset.isoformat()},{one.end.isoformat()},{one.series.topic},,{one.series.entity}\n"
                  for one in truth))  # fmt: skip
    asked = ["default", "--no-budgets"]
    for option, name in (("feed", "feed.parquet"), ("truth", "truth.csv"), ("out", "report")):
        asked += [f"--{option}", str(tmp_path / name)]
    assert "1 of 3 events" in CliRunner().invoke(app, asked).output
    assert "1 of 2 events" in CliRunner().invoke(app, [*asked, "--topic", "credit"]).output
    wanted = Filter(langs=("de",))
    french = [replace(truth[0], series=Series("credit", "fr"))]
    found = run_backtest("default", feed=str(tmp_path / "feed.parquet"), truth=french, wanted=wanted, budgets=False)
    assert found.figures["events"].to_list() == [0]


def test_one_stray_date_changes_no_figure() -> None:
    """An article of ten years ago, and one that is received again half a year later, as backtests see it."""
    truth = [Event("run", START + 9 * HOUR, START + 11 * HOUR, Series("credit")),
             Event("before", START - timedelta(days=400), START - timedelta(days=399), Series("credit"))]  # fmt: skip
    old = at(scored_article(10**6, title="old"), published_at=START - timedelta(days=3650),
             first_seen_at=START - timedelta(days=3650))  # fmt: skip
    again = at(scored_article(10**6 + 1, title="again"), published_at=START, first_seen_at=START + timedelta(days=180))
    asked = {"truth": truth, "budgets": False, "grid": {"evidence.headlines": [500, 6]}, "split": 0.85, "folds": 10}
    plain, stray = (run_backtest("default", feed=Source("x", iter([table(feed)])), **asked).found
                    for feed in (articles(), [old, *articles(), again]))  # fmt: skip
    assert stray.period == plain.period
    assert stray.verdicts[0].measures == plain.verdicts[0].measures
    assert stray.verdicts[0].measures.events == 1
    said, wanted = (summary(found) for found in (stray, plain))
    assert (said["search"], said["walk_forward"]) == (wanted["search"], wanted["walk_forward"])


def test_the_calibration_counts_as_the_budget_does(tmp_path: Path) -> None:
    """The same alarms, by a rule whose budget is each series', by one whose budget is its own, and by both together."""
    log = read_log(replayed(tmp_path).log)
    false = sum(row["cause"] == "fired" for row in log)
    watched = [Series(f"topic {n}") for n in range(20)]
    each = read_rules(DEFAULT)
    whole = parse_rules(DEFAULT.read_bytes().replace(b"per: series", b"per: rule"))
    both = msgspec.structs.replace(each, rules=(*each.rules, msgspec.structs.replace(whole.rules[0], name="second")))
    months = PERIOD.length / timedelta(hours=730)
    for text, budgets in ((each, 20), (whole, 1), (both, 21)):
        [(budget, measured, low, high)] = calibrate(text, {0.1: log}, watched, [], PERIOD)
        assert (budget, measured) == (0.1, pytest.approx(false / months / budgets))
        assert low <= measured <= high


def test_a_choice_never_sees_what_comes_later() -> None:
    """Poison: the trials' scores are the same when everything after the split is something else."""
    feed, truth = articles(), [Event("run", START + 9 * HOUR, START + 11 * HOUR, Series("credit"))]
    span = max(one.article.published_at for one in feed)
    scores = []
    for topic in ("credit", "macro"):
        split = START + 12 * HOUR
        changed = [
            replace(one, score=replace(one.score, topic=topic)) if one.article.published_at >= split else one
            for one in feed
        ]
        found = run_backtest("default", feed=Source("x", iter([table(changed)])), truth=truth, budgets=False, folds=0,
                             split=0.85, grid={"evidence.headlines": [4, 8]})  # fmt: skip
        assert found.found.search is not None
        assert found.found.search.judged_on.since <= split <= span
        scores.append([(dict(trial.values), trial.score) for trial in found.found.search.trials])
    assert scores[0] == scores[1]
    assert scores[0][0][1] > 0


def test_optuna_samples_between_the_ends_of_a_grid() -> None:
    pytest.importorskip("optuna")
    truth = [Event("run", START + 9 * HOUR, START + 11 * HOUR, Series("credit"))]
    found = run_backtest("default", feed=Source("x", iter([table()])), truth=truth, budgets=False, trials=3,
                         split=0.85,
                         grid={"evidence.headlines": [4, 8], "false_alarms.at_most": [0.01, 1.0]})  # fmt: skip
    assert found.found.search is not None
    assert all(4 <= trial.values["evidence.headlines"] <= 8 for trial in found.found.search.trials)


def test_a_preview_finds_the_surges_of_stored_buckets() -> None:
    random = np.random.default_rng(2)
    articles_of = random.poisson(0.1, (6, 20 * 1440))
    negative = random.binomial(articles_of, 0.25)
    more = random.poisson(0.5, 120)
    at_minute = 15 * 1440 + 600
    negative[2, at_minute : at_minute + 120] += more
    articles_of[2, at_minute : at_minute + 120] += more
    stored = Buckets(tuple(Series(f"t{n}") for n in range(6)), START, negative, articles_of, articles_of.sum(axis=0))
    found = preview(load_rules(), stored)
    assert [series.topic for _, series in found.fired] == ["t2"]
    assert timedelta(0) < found.fired[0][0] - (START + timedelta(minutes=at_minute)) < HOUR
    assert found.judged < found.hours / 10
