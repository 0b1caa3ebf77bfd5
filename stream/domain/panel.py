"""Histories of many series side by side, cut into the hours that statistics judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from crosswind.errors import DataError
from crosswind.stream.domain.detect.season import GAP, REACH, WEEK, Counts, learn
from crosswind.stream.domain.detect.view import View
from crosswind.stream.domain.series import MINUTE, Counting, History, Mention, Series, running

WEEKS = 5
"""Weeks of hours that teach what is normal."""
LOOKBACK = timedelta(hours=WEEKS * WEEK + GAP + REACH)
"""History that a judged minute wants to see; less will do."""
COPIES = timedelta(hours=12)
"""A story or headline that was printed this long before makes a copy."""
MENTIONS = COPIES + timedelta(hours=REACH)
"""How far back negative articles are needed one by one."""
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Aligned histories. Row `i` of every array is `series[i]`, parents before their children."""

    series: tuple[Series, ...]
    histories: tuple[History, ...]
    start: datetime
    negative: Counts
    articles: Counts
    run: Counts
    first_hour: datetime
    hour_negative: Counts
    hour_articles: Counts
    hour_run: Counts

    @classmethod
    def of(cls, histories: Mapping[Series, History]) -> "Panel":
        """From histories of one run.

        Raises:
            DataError: they do not begin and end together.
        """
        order = tuple(sorted(histories, key=lambda series: (series.parent is not None, series)))
        rows = tuple(histories[series] for series in order)
        if len({(row.start, len(row.run), row.past is None) for row in rows}) > 1:
            raise DataError("histories of one evaluation must begin and end together: load them with one span")
        head = rows[0]
        negative, articles = (np.stack([getattr(row, name) for row in rows]) for name in ("negative", "articles"))
        into = -head.index(_floor(head.start)) % 60
        hours = [_hourly(sums, into) for sums in (negative, articles, head.run[None, :])]
        first = head.start + into * MINUTE
        if head.past is not None:
            past = [row.past for row in rows if row.past is not None]
            first -= len(head.past.run) * HOUR
            before = (np.stack([p.negative for p in past]), np.stack([p.articles for p in past]), past[0].run[None, :])
            hours = [np.concatenate([old, new], axis=1) for old, new in zip(before, hours, strict=True)]
        return cls(order, rows, head.start, negative, articles, head.run, first, hours[0], hours[1], hours[2][0])

    def view(self, first: datetime, minutes: int) -> View:
        """The `minutes` from `first` on, all in one hour, as statistics see them."""
        hour = _floor(first)
        stop = (hour - self.first_hour) // HOUR - GAP
        negative, articles, run = (
            _ending(counts, stop, WEEKS * WEEK) for counts in (self.hour_negative, self.hour_articles, self.hour_run)
        )
        at = self._indexes(first, minutes)
        normal = learn(negative, articles, run)
        offset = (first - hour) // MINUTE
        return View(self.negative[:, at], self.articles[:, at], self.run[at], normal, negative, minutes, offset)

    def fresh(self, view: View, rows: NDArray[np.intp], first: datetime, counting: Counting) -> View:
        """The view of some rows with every story (or what is counted) once; later copies are neither negatives nor
        articles."""
        at = self._indexes(first, view.minutes)
        copies = np.stack([self._copies(int(row), counting)[at] for row in rows])
        return view.only(rows, view.negative[rows] - copies, view.articles[rows] - copies)

    def _indexes(self, first: datetime, minutes: int) -> NDArray[np.intp]:
        """Places in the running sums, those before the history clipped to its beginning, where the sums are 0."""
        begin = (first - self.start) // MINUTE - REACH * 60
        return np.clip(np.arange(begin, begin + REACH * 60 + minutes + 1), 0, self.run.shape[0] - 1)

    def _copies(self, row: int, counting: Counting) -> Counts:
        """Running counts of negative articles whose story the series had within `COPIES` before."""
        history = self.histories[row]
        found = np.zeros(len(history.run) - 1, np.int64)
        for mention in copies(history.mentions, counting):
            found[history.index(mention.minute)] += 1
        return running(found)


def copies(mentions: Sequence[Mention], counting: Counting = Counting.STORIES) -> list[Mention]:
    """Those, of negative articles ascending by minute, whose story or headline came within `COPIES` before."""
    seen: dict[str, datetime] = {}
    found = []
    for mention in mentions:
        key = mention.counted_as(counting)
        last = seen.get(key)
        if last is not None and mention.minute - last <= COPIES:
            found.append(mention)
        seen[key] = mention.minute
    return found


def _floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _hourly(sums: Counts, into: int) -> Counts:
    """Whole hours, [series, hours], of running sums per minute whose first whole hour begins `into` minutes in."""
    edges = np.arange(into, sums.shape[1], 60)
    return np.diff(sums[:, edges], axis=1)


def _ending(counts: Counts, stop: int, length: int) -> Counts:
    """The `length` columns before `stop`, zeros where there are none."""
    stop = max(stop, 0)
    part = counts[..., max(0, stop - length) : stop]
    missing = [(0, 0)] * (counts.ndim - 1) + [(length - part.shape[-1], 0)]
    return np.pad(part, missing)
