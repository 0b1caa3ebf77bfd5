"""What really happened: labelled events, or prices."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from crosswind.errors import DataError
from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.series import Series


@dataclass(frozen=True, slots=True)
class Event:
    """Bad news that should be warned of.

    Attributes:
        series: `ALL` in a field means any.
    """

    name: str
    onset: datetime
    end: datetime
    series: Series


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices per entity or index, ascending by time: columns `time`, `name`, `price`."""

    frame: pl.DataFrame

    @property
    def names(self) -> list[str]:
        """Whose prices there are."""
        return sorted(self.frame["name"].unique().to_list())


@dataclass(frozen=True, slots=True)
class Alarm:
    """One incident that fired, as the log tells it.

    Attributes:
        group: number of the incident that leads its group; who subscribes to everything hears of that one only.
        ended_at: None when it was open at the end of the log.
        evidence: ids of the most telling articles.
    """

    incident: int
    group: int
    rule: str
    series: Series
    severity: str
    fired_at: datetime
    ended_at: datetime | None
    observed: int
    expected: float
    evidence: tuple[str, ...]
    languages: tuple[str, ...]

    @property
    def leads(self) -> bool:
        """Whether who subscribes to everything hears of it."""
        return self.group == self.incident


def load_truth(path: Path) -> "list[Event] | Prices":
    """Events (columns onset, end, and series or topic, lang, entity; name) or prices (time, price, name).

    CSV or Parquet, or a JSON file with a list `events`, of which those of kind `crisis` count where kinds are given.

    Raises:
        DataError: it is neither, or a value cannot be read.
    """
    if path.suffix == ".json":
        return _json_events(path)
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else _csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"the truth in {path} cannot be read: {str(error).splitlines()[0]}") from None
    names = set(frame.columns)
    if {"onset", "end"} <= names:
        return events_of(frame.to_dicts())
    if {"time", "price"} <= names:
        return prices_of(frame)
    raise DataError(f"{path} has columns {', '.join(frame.columns)}; expected onset, end, series, or time, price, name")


_TEXTS = ("name", "series", "topic", "lang", "entity")
"""Columns of names: a stock exchange's `0700` is no number."""


def _csv(path: Path) -> pl.DataFrame:
    columns = pl.read_csv(path, n_rows=0).columns
    texts = {name: pl.String() for name in _TEXTS if name in columns}
    return pl.read_csv(path, infer_schema_length=10_000, schema_overrides=texts)


def events_of(rows: Iterable[dict[str, Any]]) -> list[Event]:
    """Events from rows of named values, ascending by onset.

    Raises:
        DataError: a value is missing or cannot be read.
    """
    found = []
    for number, row in enumerate(rows, 1):
        try:
            onset, end = moment(row["onset"]), moment(row["end"])
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"event {number}: {error}; expected times as 2026-11-06T10:00:00Z") from None
        if end < onset:
            raise DataError(f"event {number} ends before it begins")
        found.append(Event(str(row.get("name") or f"event {number}"), onset, end, _series(row)))
    return sorted(found, key=lambda event: (event.onset, event.name))


def prices_of(frame: pl.DataFrame) -> Prices:
    """Prices from a frame with `time` (aware, or RFC 3339 text), `price` and perhaps `name`.

    Raises:
        DataError: a time or price cannot be read, or a name is missing where others have one.
    """
    if "name" not in frame.columns:
        frame = frame.with_columns(name=pl.lit(ALL))
    try:
        times = pl.Series("time", [moment(value) for value in frame["time"]], pl.Datetime("us", "UTC"))
        frame = frame.select(pl.col("name").cast(pl.String), pl.col("price").cast(pl.Float64)).with_columns(times)
    except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"prices cannot be read: {str(error).splitlines()[0]}") from None
    if frame["name"].null_count() or (frame["name"] == "").any():
        raise DataError("a price has no name; give each one, or leave the column out where all are of one index")
    if frame["price"].null_count() or not (frame["price"].is_finite() & (frame["price"] > 0)).all():
        raise DataError("prices must be finite and above 0, every one of them")
    return Prices(frame.sort("name", "time"))


def moment(value: Any) -> datetime:
    """An aware moment from one, or from RFC 3339 text.

    Raises:
        ValueError: it has no time zone, or lies outside the years 1 to 9999 of UTC.
    """
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if found.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value} is no moment of the years 1 to 9999") from None


def _series(row: dict[str, Any]) -> Series:
    """From `topic`, `lang`, `entity`, or from `series` as `topic`, `topic/lang` or `entity:NAME`."""
    text, own_topic, own_lang, entity = (str(row.get(name) or "") for name in ("series", "topic", "lang", "entity"))
    if text.startswith("entity:"):
        return Series(ALL, ALL, text.removeprefix("entity:"))
    topic, _, lang = text.partition("/")
    return Series(topic or own_topic or ALL, lang or own_lang or ALL, entity or ALL)


def _json_events(path: Path) -> list[Event]:
    try:
        rows = json.loads(path.read_text("utf-8"))["events"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the truth in {path} cannot be read: {error}") from None
    return events_of([{**row, "lang": None} for row in rows if row.get("kind", "crisis") == "crisis"])


def alarms_of(rows: Iterable[dict[str, Any]]) -> list[Alarm]:
    """The incidents that fired, from the lines of an alert log, in order; the silent feed's own are left out."""
    found: dict[int, Alarm] = {}
    for row in rows:
        if row["cause"] == "fired":
            found[row["incident"]] = Alarm(
                row["incident"], row["group"], row["rule"], Series(row["topic"], row["lang"], row["entity"]),
                row["severity"], moment(row["at"]), None, row["observed"], row["expected"], tuple(row["evidence"]),
                tuple(row["languages"]),
            )  # fmt: skip
        elif row["cause"] == "resolved" and row["incident"] in found:
            found[row["incident"]] = _ended(found[row["incident"]], row)
    return list(found.values())


def _ended(alarm: Alarm, row: dict[str, Any]) -> Alarm:
    """With the figures of its strongest minute."""
    return Alarm(alarm.incident, alarm.group, alarm.rule, alarm.series, row["severity"], alarm.fired_at,
                 moment(row["at"]), row["observed"], row["expected"], tuple(row["evidence"]),
                 tuple(row["languages"]))  # fmt: skip


def concerns(alarm: Series, event: Series) -> bool:
    """Whether an alarm's series speaks of an event's: no field contradicts, and one says the same.

    >>> concerns(Series("credit", "de"), Series("credit")), concerns(Series("credit"), Series("macro"))
    (True, False)
    """
    pairs = [(alarm.topic, event.topic), (alarm.lang, event.lang), (alarm.entity, event.entity)]
    agree = all(ALL in pair or pair[0] == pair[1] for pair in pairs)
    return agree and (any(a == b != ALL for a, b in pairs) or event == Series(ALL))


def within(events: Sequence[Event], since: datetime, until: datetime) -> list[Event]:
    """The events that lie wholly in a period: one that ends later is not known yet when the period ends."""
    return [event for event in events if since <= event.onset and event.end < until]
