"""What a backtest counts, and what it does not: pauses, edges, languages, events at once; prices; frames."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from crosswind.errors import DataError
from crosswind.stream.domain.series import Series
from crosswind.stream.replay import Result
from crosswind.stream.replay.backtest import Verdict
from crosswind.stream.replay.columns import TIME
from crosswind.stream.replay.figures import Backtest, as_csv
from crosswind.stream.replay.heard import Heard
from crosswind.stream.replay.measures import Measures, Period, match, measure, slices
from crosswind.stream.replay.notebook import alerts_frame
from crosswind.stream.replay.study import falls, study
from crosswind.stream.replay.truth import Alarm, Event, Prices, load_truth, prices_of

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PERIOD = Period(START, START + 10 * DAY)


def alarm(hours: float, series: Series = Series("credit"), number: int = 1, group: int | None = None) -> Alarm:  # noqa: B008 - frozen
    fired_at = START + hours * HOUR
    return Alarm(number, number if group is None else group, "r", series, "warning", fired_at, fired_at + HOUR, 9, 1.0,
                 (), ())  # fmt: skip


def event(hours: float, series: Series = Series("credit"), length: float = 4.0) -> Event:  # noqa: B008 - frozen
    return Event(f"{series} {hours}", START + hours * HOUR, START + (hours + length) * HOUR, series)


def figures(alarms: list[Alarm], events: list[Event], period: Period = PERIOD) -> Measures:
    return measure(match(alarms, events, period), period, 1)


def heard(*hours: float, until: datetime | None = None) -> Period | None:
    seen = Heard()
    times = pa.array([START + hour * HOUR for hour in hours], TIME)
    for place in range(0, len(hours), 2):  # stretches go on from table to table
        list(seen.over([pa.table({"event_at": times[place : place + 2]})]))
    return seen.period(until)


def test_the_period_is_where_the_feed_told_something() -> None:
    minute = timedelta(minutes=1)
    assert heard() is None
    assert heard(0, 5, 20, 30) == Period(START, START + 30 * HOUR + minute)
    assert heard(-9000, 0, 5, 20, 500, 900) == Period(START, START + 20 * HOUR + minute)
    assert heard(0, 1, 2, 60, 100, 101, 102) == Period(
        START, START + 102 * HOUR + minute, ((START + 2 * HOUR + minute, START + 100 * HOUR),)
    )
    assert heard(0, 50, 100) == Period(START, START + 100 * HOUR + minute)  # too sparse to tell
    assert heard(0, 1, 2, until=START + 3 * HOUR) == Period(START, START + 3 * HOUR)


def test_the_time_of_pauses_does_not_count() -> None:
    paused = Period(START, START + 110 * DAY, ((START + 5 * DAY, START + 105 * DAY),))
    assert paused.length == 10 * DAY
    assert [paused.upto(paused.after(n * DAY)) for n in range(11)] == [n * DAY for n in range(11)]
    assert paused.after(5 * DAY) == START + 105 * DAY
    assert paused.part(START, START + 6 * DAY) == Period(START, START + 6 * DAY, ((START + 5 * DAY, START + 6 * DAY),))
    late = [alarm(105 * 24 + 1, number=2), alarm(105 * 24 + 30, number=3)]
    found = figures([alarm(1), *late], [event(30 * 24)], paused)
    usual = figures([alarm(1), alarm(5 * 24 + 1, number=2), alarm(5 * 24 + 30, number=3)], [])
    assert found.events == 0  # it began when there was no feed
    assert found.false_per_series_month == usual.false_per_series_month
    assert found.under_alert == usual.under_alert
    assert found.intervals["false_per_series_month"] == usual.intervals["false_per_series_month"]


@pytest.mark.parametrize(("began", "told"), [(-2, 1.0), (238, 238.2)])
def test_an_alarm_of_an_event_across_an_edge_is_neither_true_nor_false(began: float, told: float) -> None:
    found = figures([alarm(told), alarm(told, Series("*", "*", "Acme"), 2, group=1), alarm(100, number=3)],
                    [event(began, length=8)])  # fmt: skip
    assert (found.events, found.alarms, found.true_alarms) == (0, 1, 0)


def test_a_split_within_an_event_makes_no_false_alarm_on_either_side() -> None:
    alarms, events = [alarm(118.2), alarm(121, number=2)], [event(118, length=5)]
    for part in (PERIOD.part(START, START + 120 * HOUR), PERIOD.part(START + 120 * HOUR, PERIOD.until)):
        assert figures(alarms, events, part).alarms == 0


def test_of_events_at_once_each_is_found_and_an_alarm_is_told_of_the_later() -> None:
    matched = match([alarm(9.2), alarm(20.2, number=2)], [event(9, length=30), event(20)], PERIOD)
    assert [found and found.incident for found in matched.first] == [1, 2]
    assert matched.event == (0, 1)


def test_a_language_is_judged_by_its_own_events_and_those_of_no_language() -> None:
    german, french = Series("credit", "de"), Series("credit", "fr")
    alarms = [alarm(9.1, german), alarm(50.1, french, 2)]
    found = slices(alarms, [event(9, german), event(50, french), event(100)], PERIOD, [german, french])["lang"]
    assert [(name, part.events, part.detected) for name, part in found.items()] == [("de", 2, 1), ("fr", 2, 1)]


def test_only_false_alarms_and_missed_events_are_an_f1_of_0() -> None:
    assert figures([alarm(100)], [event(9)]).f1 == 0.0
    assert figures([], [event(9)]).f1 == 0.0
    assert np.isnan(figures([alarm(100)], []).f1)
    alarms = [alarm(9.1)] + [alarm(24 * day + 20, number=9 + day) for day in range(9)]
    low, _ = figures(alarms, [event(9)]).intervals["f1"]
    assert low > 0  # days without any event say nothing of it


def prices(names: dict[str, list[int]], step: timedelta = HOUR, count: int = 400, size: float = 0.03) -> Prices:
    """Made prices, by name the places at which they fall."""
    rows = []
    for seed, (name, places) in enumerate(names.items()):
        moves = np.random.default_rng(seed).normal(0, 0.0005, count)
        moves[places] -= size
        times = [(START + n * step).isoformat() for n in range(count)]
        rows.append(pl.DataFrame({"time": times, "name": name, "price": 100 * np.exp(np.cumsum(moves))}))
    return prices_of(pl.concat(rows))


@pytest.mark.parametrize(("place", "earned"), [(252, 0.0), (255, 0.0), (256, 0.0), (258, -0.03)])
def test_nobody_trades_on_an_alarm_before_its_minute_has_closed(place: int, earned: float) -> None:
    """Prices of every half minute; the alarm bears the time of place 250 and is known three minutes later."""
    told = alarm(250 / 120, Series("*", "*", "Acme"))
    found = study([told], prices({"Acme": [place]}, timedelta(seconds=30)), lateness=timedelta(minutes=2))
    assert found.forward[0] == pytest.approx(earned, abs=0.01)


def test_falls_of_the_market_are_nobodys_events() -> None:
    both = prices({"Acme": [250], "Index": [200, 300]})
    assert [one.name for one in falls(both, market="Index")] == ["fall of Acme"]
    assert len(falls(both)) == 3


@pytest.mark.parametrize("name", ["7203", "0700", "true"])
def test_names_are_texts(tmp_path: Path, name: str) -> None:
    rows = [f"{(START + n * HOUR).isoformat()},{name},{100 + n % 3}" for n in range(60)]
    (tmp_path / "prices.csv").write_text("\n".join(["time,name,price", *rows]))
    found = load_truth(tmp_path / "prices.csv")
    assert isinstance(found, Prices)
    assert found.names == [name]
    falls(found)
    (tmp_path / "events.csv").write_text(f"name,onset,end,entity\n1,2026-03-02T09:00:00Z,2026-03-02T12:00:00Z,{name}\n")
    [one] = load_truth(tmp_path / "events.csv")  # type: ignore[misc]
    assert (one.name, one.series) == ("1", Series("*", "*", name))
    (tmp_path / "events.json").write_text('{"events": [{"onset": "2026-03-02T09:00Z", "end": "2026-03-02T12:00Z", '
                                          '"entity": 7203}]}')  # fmt: skip
    [one] = load_truth(tmp_path / "events.json")  # type: ignore[misc]
    assert one.series.entity == "7203"


def test_a_price_without_a_name_beside_others_is_refused() -> None:
    with pytest.raises(DataError, match="a price has no name"):
        prices_of(pl.DataFrame({"time": ["2026-01-01T00:00Z"] * 2, "name": ["Acme", None], "price": [1.0, 1.0]}))


def result(alarms: list[Alarm], events: list[Event]) -> Result:
    matched = match(alarms, events, PERIOD)
    return Result(Backtest("t", "f", "t", PERIOD, 1, [Verdict("x", "v", measure(matched, PERIOD, 1), matched, {})]))


def test_frames_have_the_same_types_whatever_the_rows() -> None:
    many = result([alarm(1 + n / 2, number=n + 1) for n in range(101)] + [alarm(100.1, number=500)], [event(100)])
    none = result([], [])
    assert many.alarms.schema == none.alarms.schema
    assert many.alarms["lead_minutes"].drop_nulls().to_list() == pytest.approx([-6.0])
    assert many.figures.schema == none.figures.schema
    assert alerts_frame([]).filter(pl.col("observed") > 5).schema["at"] == pl.Datetime("us", "UTC")


def test_no_cell_of_alarms_csv_begins_a_formula() -> None:
    for said, kept in (("\uff1d1+1", "'\uff1d1+1"), ("run;=1+1", "run;'=1+1"), ("run\t@x", "run\t'@x"), ("a-b", "a-b")):
        events = [Event(said, START + HOUR, START + 3 * HOUR, Series("credit"))]
        assert kept in as_csv(result([alarm(1.5)], events).found)
