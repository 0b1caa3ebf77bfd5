"""Histories of the series that may surge, read from buckets and articles.

Two steps: which series have enough negatives at all, then the time before for just those: minute by minute for a day
and a half, hour by hour before. Most series are quiet, so the second step is small.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, text

from crosswind.stream.domain.bucket import ALL, minute_of
from crosswind.stream.domain.panel import LOOKBACK, MENTIONS
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE, Counts, History, Hours, Mention, Series

# A series with so many negatives in all windows together; a superset of those with so many in one.
_CANDIDATES = text("""
    SELECT topic, coalesce(lang, '*') AS lang, '*' AS entity FROM bucket
    WHERE run = :run AND entity = '*' AND minute BETWEEN :first AND :last
    GROUP BY GROUPING SETS ((topic), (topic, lang)) HAVING sum(negative) >= :least
    UNION ALL
    SELECT '*', '*', entity FROM bucket
    WHERE run = :run AND entity <> '*' AND minute BETWEEN :first AND :last
    GROUP BY entity HAVING sum(negative) >= :least
""")

# One query for minutes and one for whole hours: :step is the length of a cell.
_TOPICS = text("""
    SELECT topic, lang, date_bin(CAST(:step AS interval), minute, :first) AS cell, sum(negative) AS negative,
           sum(articles) AS articles
    FROM bucket WHERE run = :run AND entity = '*' AND minute >= :first AND minute < :end AND topic = ANY(:topics)
    GROUP BY topic, lang, cell
""")

_ENTITIES = text("""
    SELECT entity, date_bin(CAST(:step AS interval), minute, :first) AS cell, sum(negative) AS negative,
           sum(articles) AS articles
    FROM bucket WHERE run = :run AND entity = ANY(:entities) AND minute >= :first AND minute < :end
    GROUP BY entity, cell
""")

_RUN = text("""
    SELECT date_bin(CAST(:step AS interval), minute, :first) AS cell, sum(negative) AS negative,
           sum(articles) AS articles
    FROM bucket WHERE run = :run AND entity = '*' AND minute >= :first AND minute < :end GROUP BY cell
""")

_MENTIONS = text("""
    SELECT published_at, article_id, source, title_key, topic, lang, negative_ppm, model, entities FROM article
    WHERE run = :run AND published_at >= :first AND published_at < :end AND sentiment = 'negative'
          AND (topic = ANY(:topics) OR entities && CAST(:entities AS text[]))
""")


HOUR = timedelta(hours=1)
Pair = tuple[Counts, Counts]
"""Negatives and articles per cell."""


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes, both inclusive."""

    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of `step` from `first` on, up to `end`, exclusive."""

    first: datetime
    end: datetime
    step: timedelta

    @property
    def cells(self) -> int:
        """How many."""
        return (self.end - self.first) // self.step

    def zeros(self) -> Pair:
        """Counts of no article."""
        return np.zeros(self.cells, np.int64), np.zeros(self.cells, np.int64)

    def add(self, pair: Pair, row: Row[Any]) -> None:
        """Adds a row to its cell."""
        cell = (row.cell - self.first) // self.step
        pair[0][cell] += int(row.negative)
        pair[1][cell] += int(row.articles)


def load(
    connection: Connection, run: str, rules: RuleSet, span: Span, wanted: Collection[Series]
) -> dict[Series, History]:
    """See `AlertUnit.histories`."""
    windows = span.first - (rules.widest - 1) * MINUTE
    values = {"run": run, "first": windows, "last": span.last, "least": rules.least_headlines}
    series = {Series(row.topic, row.lang, row.entity) for row in connection.execute(_CANDIDATES, values)}
    series |= {*wanted, Series(ALL)}
    begin = _hour(span.first) - MENTIONS
    minutes = Grid(begin, span.last + MINUTE, MINUTE)
    hours = Grid(_hour(span.first) - LOOKBACK, begin, HOUR)
    fine, coarse = _counts(connection, run, minutes, series), _counts(connection, run, hours, series)
    mentions = _mentions(connection, run, Span(begin, span.last), series)
    run_minutes, run_hours = fine[Series(ALL)][1], coarse[Series(ALL)][1]
    return {
        one: History.of(
            begin, *fine[one], run_minutes, [mention for mention in mentions if one.holds(mention)],
            Hours(*coarse[one], run_hours),
        )
        for one in sorted(series)
    }  # fmt: skip


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _counts(connection: Connection, run: str, grid: Grid, series: set[Series]) -> dict[Series, Pair]:
    """Negatives and articles per cell of each series."""
    counts = {one: grid.zeros() for one in series}
    values = {"run": run, "first": grid.first, "end": grid.end, "step": grid.step}
    for row in connection.execute(_RUN, values):
        grid.add(counts[Series(ALL)], row)
    if _topics(series):
        for row in connection.execute(_TOPICS, {**values, "topics": _topics(series)}):
            _add(counts, (Series(row.topic), Series(row.topic, row.lang)), row, grid)
    if _entities(series):
        for row in connection.execute(_ENTITIES, {**values, "entities": _entities(series)}):
            _add(counts, (Series(ALL, ALL, row.entity),), row, grid)
    return counts


def _add(counts: dict[Series, Pair], series: Iterable[Series], row: Row[Any], grid: Grid) -> None:
    for one in series:
        if one in counts:
            grid.add(counts[one], row)


def _mentions(connection: Connection, run: str, span: Span, series: set[Series]) -> list[Mention]:
    found = connection.execute(
        _MENTIONS,
        {"run": run, "first": span.first, "end": span.last + MINUTE,
         "topics": _topics(series), "entities": _entities(series)},
    )  # fmt: skip
    return [
        Mention(minute_of(row.published_at), row.article_id, row.source, row.title_key, row.topic, row.lang,
                row.negative_ppm, row.model, tuple(row.entities))
        for row in found
    ]  # fmt: skip


def _topics(series: set[Series]) -> list[str]:
    return sorted({one.topic for one in series} - {ALL})


def _entities(series: set[Series]) -> list[str]:
    return sorted({one.entity for one in series} - {ALL})
