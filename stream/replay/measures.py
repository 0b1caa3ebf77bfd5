"""How good a rule was: alarms against labelled events, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.series import Series
from crosswind.stream.replay.truth import Alarm, Event, concerns

EARLY = timedelta(minutes=30)
"""An alarm so much before the labelled onset still counts for the event: labels are not exact to the minute."""
MONTH_HOURS = 730.0
RESAMPLES = 1000
FALSE_COST, MISS_COST = 0.11, 1.0
"""NAB's standard profile."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Period:
    """Event time that is judged, `until` excluded.

    Attributes:
        pauses: stretches in which the feed was silent, ascending, each within the period: their time does not count,
            and no event that begins in one.
    """

    since: datetime
    until: datetime
    pauses: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def length(self) -> timedelta:
        """Its time without the pauses."""
        return self.upto(self.until)

    @property
    def months(self) -> float:
        """Its length in average months."""
        return self.length / timedelta(hours=MONTH_HOURS)

    def holds(self, at: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.since <= at < self.until

    def counts(self, event: Event) -> bool:
        """Whether an event is judged in it: one that ends later is not known yet when the period ends."""
        paused = any(begin <= event.onset < end for begin, end in self.pauses)
        return self.since <= event.onset and event.end < self.until and not paused

    def upto(self, at: datetime) -> timedelta:
        """Its time before a moment, without the pauses.

        >>> from datetime import UTC
        >>> monday, day = datetime(2026, 3, 2, tzinfo=UTC), timedelta(days=1)
        >>> Period(monday, monday + 9 * day, ((monday + 2 * day, monday + 6 * day),)).upto(monday + 7 * day).days
        3
        """
        return max(min(at, self.until) - self.since - _overlap(self.pauses, self.since, at), timedelta(0))

    def after(self, length: timedelta) -> datetime:
        """The moment before which so much of its time lies: the opposite of `upto`."""
        found = self.since + length
        for begin, end in self.pauses:
            found += end - begin if begin <= found else timedelta(0)
        return min(found, self.until)

    def part(self, since: datetime, until: datetime) -> "Period":
        """A stretch of it, with the pauses that lie there."""
        cut = ((max(begin, since), min(end, until)) for begin, end in self.pauses)
        return Period(since, until, tuple((begin, end) for begin, end in cut if begin < end))


def _overlap(spans: Sequence[tuple[datetime, datetime]], since: datetime, until: datetime) -> timedelta:
    both = (min(end, until) - max(begin, since) for begin, end in spans)
    return sum((max(time, timedelta(0)) for time in both), timedelta(0))


@dataclass(frozen=True, slots=True)
class Matched:
    """Alarms and events, set against each other.

    Attributes:
        alarms: those of the period, without those that speak only of events which are not counted in it.
        first: for each event, the alarm that first spoke of it; None: missed.
        event: for each alarm, the place of the event it (or one of its group) speaks of; -1: false. Of several events
            at the same time it is the one that began last.
    """

    alarms: tuple[Alarm, ...]
    events: tuple[Event, ...]
    first: tuple[Alarm | None, ...]
    event: tuple[int, ...]


def match(alarms: Sequence[Alarm], events: Sequence[Event], period: Period, early: timedelta = EARLY) -> Matched:
    """Sets the period's alarms against its events. An alarm counts from `early` before the onset to the end.

    An event across an edge of the period is not counted in it; an alarm that speaks of such a one is neither true nor
    false. An alarm in the time of several events speaks of each of them.

    Args:
        alarms, events: those outside the period, too, as far as they are known.
    """
    known = tuple(event for event in events if period.counts(event))
    others = [event for event in events if not period.counts(event)]
    spoken = [(alarm, _events_of(alarm, known, early)) for alarm in alarms]
    by_group = {alarm.group: places[-1] for alarm, places in reversed(spoken) if places}
    aside = {alarm.group for alarm in alarms if _events_of(alarm, others, early)} - by_group.keys()
    inside = [(alarm, places) for alarm, places in spoken if period.holds(alarm.fired_at) and alarm.group not in aside]
    first: list[Alarm | None] = [None] * len(known)
    for alarm, places in sorted(inside, key=lambda pair: pair[0].fired_at):
        for place in places:
            first[place] = first[place] or alarm
    place_of = tuple(places[-1] if places else by_group.get(alarm.group, -1) for alarm, places in inside)
    return Matched(tuple(alarm for alarm, _ in inside), known, tuple(first), place_of)


def _events_of(alarm: Alarm, events: Sequence[Event], early: timedelta) -> list[int]:
    """Places of the events that an alarm itself speaks of, the one that began last at the end."""
    found = [
        place for place, event in enumerate(events)
        if event.onset - early <= alarm.fired_at <= event.end and concerns(alarm.series, event.series)
    ]  # fmt: skip
    return sorted(found, key=lambda place: events[place].onset)


@dataclass(frozen=True, slots=True)
class Measures:
    """Figures of one rule over one period. Shares are 0 to 1, NaN where nothing can be said.

    Attributes:
        alarms: those that subscribers hear of (one per group); true_alarms: of which spoke of an event.
        lead_median, lead_q1, lead_q3: minutes from the first alarm to the labelled onset; negative: after it.
        false_per_series_month: false alarms of single series, per watched series and month.
        under_alert: share of the time in which any incident was firing.
        nab: Numenta's score, 100 for an immediate alarm at every event and no false one, 0 for no alarm at all.
        intervals: 95 % bootstrap intervals by name.
    """

    events: int
    detected: int
    alarms: int
    true_alarms: int
    precision: float
    recall: float
    f1: float
    lead_median: float
    lead_q1: float
    lead_q3: float
    false_per_series_month: float
    under_alert: float
    nab: float
    intervals: dict[str, tuple[float, float]]

    def plain(self) -> dict[str, Any]:
        """For JSON: NaN is null."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def measure(matched: Matched, period: Period, series: int, *, seed: int = 1, resamples: int = RESAMPLES) -> Measures:
    """The figures.

    Args:
        series: how many series were watched.
        seed: of the bootstrap: blocks of a week (of a day in periods under eight weeks) are drawn with replacement,
            because alarms of one week are not independent (Künsch, Annals of Statistics 17, 1989).
    """
    parts = _blocks(matched, period)
    point = _ratios(parts.sum(axis=0), period.months, series)
    leads = lead_minutes(matched)
    intervals = {}
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(parts), size=(resamples, len(parts)))
    found = [_ratios(sums, period.months, series) for sums in parts[drawn].sum(axis=1)]
    for name in point:
        intervals[name] = _interval(np.array([one[name] for one in found]))
    picks = rng.integers(max(len(leads), 1), size=(resamples, len(leads))) if len(leads) else np.zeros((0, 0), np.int64)
    intervals["lead_median"] = _interval(np.median(leads[picks], axis=1)) if len(leads) else (np.nan, np.nan)
    q1, median, q3 = np.percentile(leads, [25, 50, 75]) if len(leads) else (np.nan, np.nan, np.nan)
    told = [place for alarm, place in zip(matched.alarms, matched.event, strict=True) if alarm.leads]
    return Measures(
        len(matched.events), sum(alarm is not None for alarm in matched.first), len(told),
        sum(place >= 0 for place in told), point["precision"], point["recall"], point["f1"], float(median), float(q1),
        float(q3), point["false_per_series_month"], _under_alert(matched.alarms, period), point["nab"], intervals,
    )  # fmt: skip


def lead_minutes(matched: Matched) -> Floats:
    """Minutes from the first alarm to the onset, of every event that was detected; negative: after it."""
    pairs = zip(matched.first, matched.events, strict=True)
    return np.array([(event.onset - alarm.fired_at) / timedelta(minutes=1) for alarm, event in pairs if alarm])


_TOLD, _TRUE, _FALSE, _EVENTS, _DETECTED, _NAB = range(6)


def _blocks(matched: Matched, period: Period) -> Floats:
    """Sums per block of time, [blocks, 6]."""
    length = timedelta(days=7 if period.length >= timedelta(weeks=8) else 1)
    parts = np.zeros((max(-(-period.length // length), 1), 6))
    last = len(parts) - 1  # what lies in a pause at the very end is of the last block
    for alarm, place in zip(matched.alarms, matched.event, strict=True):
        row = parts[min(period.upto(alarm.fired_at) // length, last)]
        row[_TOLD] += alarm.leads
        row[_TRUE] += alarm.leads and place >= 0
        row[_FALSE] += place < 0
        if alarm.leads and place < 0:
            row[_NAB] -= FALSE_COST * _false_weight(alarm.fired_at, matched.events)
    for first, event in zip(matched.first, matched.events, strict=True):
        row = parts[min(period.upto(event.onset) // length, last)]
        row[_EVENTS] += 1
        row[_DETECTED] += first is not None
        row[_NAB] += -MISS_COST if first is None else _reward(first.fired_at, event)
    return parts


def _ratios(sums: Floats, months: float, series: int) -> dict[str, float]:
    told, true, false, events, detected, nab = (float(one) for one in sums)
    precision, recall = _over(true, told), _over(detected, events)
    # No true alarm and no event found is the worst there is, not unknown.
    f1 = 2 * precision * recall / (precision + recall) if true and detected else (0.0 if events else np.nan)
    score = _over(nab + MISS_COST * events, (1.0 + MISS_COST) * events)
    return {
        "precision": precision, "recall": recall, "f1": f1, "nab": 100.0 * score,
        "false_per_series_month": _over(false, series * months),
    }  # fmt: skip


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")


def _interval(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return (np.nan, np.nan)
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _sigmoid(place: float) -> float:
    return float(2.0 / (1.0 + np.exp(5.0 * place)) - 1.0)


def _reward(at: datetime, event: Event) -> float:
    """1 for the onset or before, 0 at the event's end: Lavin and Ahmad, Evaluating real-time anomaly detection
    algorithms, ICMLA 2015."""
    length = max((event.end - event.onset) / timedelta(minutes=1), 1.0)
    place = min((at - event.end) / timedelta(minutes=1) / length, 0.0)
    return _sigmoid(max(place, -1.0)) / _sigmoid(-1.0)


def _false_weight(at: datetime, events: Sequence[Event]) -> float:
    """Between 0 right after an event and 1 far from any."""
    before = [event for event in events if event.end < at]
    if not before:
        return 1.0
    last = max(before, key=lambda event: event.end)
    place = (at - last.end) / max(last.end - last.onset, timedelta(minutes=1))
    return -_sigmoid(min(place, 3.0))


def _under_alert(alarms: Sequence[Alarm], period: Period) -> float:
    spans = sorted((alarm.fired_at, min(alarm.ended_at or period.until, period.until)) for alarm in alarms)
    total, reached = timedelta(0), period.since
    for begin, end in spans:
        total += max(period.upto(end) - period.upto(max(begin, reached)), timedelta(0))
        reached = max(reached, end)
    return total / period.length if period.length else float("nan")


def slices(alarms: Sequence[Alarm], events: Sequence[Event], period: Period, series: Sequence[Series]) -> dict[
    str, dict[str, Measures]
]:  # fmt: skip
    """Figures per topic and per language. A language's alarms are those of its own series; its events are its own and
    those of no language."""
    found: dict[str, dict[str, Measures]] = {"topic": {}, "lang": {}}
    for name, table in found.items():
        values = {getattr(one, name) for one in (*(a.series for a in alarms), *(e.series for e in events))} - {"*"}
        for value in sorted(values):
            some = [alarm for alarm in alarms if getattr(alarm.series, name) == value]
            wanted = (value, "*") if name == "lang" else (value,)
            about = [event for event in events if getattr(event.series, name) in wanted]
            watched = sum(getattr(one, name) == value for one in series)
            table[value] = measure(match(some, about, period), period, max(watched, 1), resamples=200)
    return found
