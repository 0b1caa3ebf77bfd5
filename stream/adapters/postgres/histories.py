"""Histories of the series that may surge, read from buckets and articles.

Two steps: which series have enough negatives at all, then the time before for just those: minute by minute for a day
and a half, hour by hour before, from the roll-up. Most series are quiet, so the second step is small.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, TextClause, text

from crosswind.stream.domain.bucket import ALL, minute_of
from crosswind.stream.domain.panel import LOOKBACK, MENTIONS
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE, Counts, History, Hours, Mention, Series, shared_out


def _candidates(sets: str) -> TextClause:
    """Series with so many negatives in all windows together; a superset of those with so many in one."""
    return text(f"""
        SELECT coalesce(topic, '*') AS topic, coalesce(lang, '*') AS lang, '*' AS entity FROM bucket
        WHERE run = :run AND entity = '*' AND minute BETWEEN :first AND :last
        GROUP BY GROUPING SETS ({sets}) HAVING sum(negative) >= :least
        UNION ALL
        SELECT '*', '*', entity FROM bucket
        WHERE run = :run AND entity <> '*' AND minute BETWEEN :first AND :last
        GROUP BY entity HAVING sum(negative) >= :least
    """)


_CANDIDATES = _candidates("(topic), (topic, lang)")
_WITH_LANGUAGES = _candidates("(topic), (topic, lang), (lang)")  # one grouping more, where a rule asks


@dataclass(frozen=True, slots=True)
class _Queries:
    """Counts per cell of topics, of languages over all topics, of entities and of the whole run."""

    topics: TextClause
    languages: TextClause
    entities: TextClause
    run: TextClause


def _queries(table: str, cell: str) -> _Queries:
    """Over one of the two tables; `cell` is the column that holds a cell's start."""
    sums = f"{cell} AS cell, sum(negative) AS negative, sum(articles) AS articles FROM {table}"
    span = f"run = :run AND {cell} >= :first AND {cell} < :end"
    return _Queries(
        text(f"SELECT topic, lang, {sums} WHERE {span} AND entity = '*' AND topic = ANY(:topics) GROUP BY 1, 2, 3"),
        text(f"SELECT lang, {sums} WHERE {span} AND entity = '*' AND lang = ANY(:langs) GROUP BY 1, 2"),
        text(f"SELECT entity, {sums} WHERE {span} AND entity = ANY(:entities) GROUP BY 1, 2"),
        text(f"SELECT {sums} WHERE {span} AND entity = '*' GROUP BY 1"),
    )


_MINUTES = _queries("bucket", "minute")
_HOURS = _queries("bucket_hour", "hour")  # the very sums of the minutes, a fraction of the rows

# The story that an article came to first: a merge that comes later must not change what was evaluated.
_MENTIONS = text("""
    SELECT published_at, article_id, source, title_key, topic, lang, negative_ppm, model, entities,
           coalesce(joined, '') AS story
    FROM article a LEFT JOIN LATERAL (SELECT joined FROM story_member
                                      WHERE run = a.run AND article_id = a.article_id LIMIT 1) m ON true
    WHERE run = :run AND published_at >= :first AND published_at < :end AND sentiment = 'negative'
          AND (:everything OR topic = ANY(:topics) OR lang = ANY(:langs) OR entities && CAST(:entities AS text[]))
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
    """Cells of `step`, a minute or a whole hour, from `first` on, up to `end`, exclusive; all on the step's grid."""

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
    candidates = _WITH_LANGUAGES if rules.languages else _CANDIDATES
    series = {Series(row.topic, row.lang, row.entity) for row in connection.execute(candidates, values)}
    series |= {*wanted, Series(ALL)}
    # The whole run is always there, for its silence; its articles one by one matter only to a rule that watches it.
    everything = Series(ALL) in wanted or any(rule.match.holds(Series(ALL)) for rule in rules.rules)
    begin = _hour(span.first) - MENTIONS
    minutes = Grid(begin, span.last + MINUTE, MINUTE)
    hours = Grid(_hour(span.first) - LOOKBACK, begin, HOUR)
    fine, coarse = _counts(connection, run, minutes, series), _counts(connection, run, hours, series)
    mentions = _mentions(connection, run, Span(begin, span.last), series, everything)
    held = shared_out(mentions, series)
    run_minutes, run_hours = fine[Series(ALL)][1], coarse[Series(ALL)][1]
    return {
        one: History.of(begin, *fine[one], run_minutes, held[one], Hours(*coarse[one], run_hours))
        for one in sorted(series)
    }


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _counts(connection: Connection, run: str, grid: Grid, series: set[Series]) -> dict[Series, Pair]:
    """Negatives and articles per cell of each series."""
    counts = {one: grid.zeros() for one in series}
    ask = _HOURS if grid.step == HOUR else _MINUTES
    values = {"run": run, "first": grid.first, "end": grid.end}
    for row in connection.execute(ask.run, values):
        grid.add(counts[Series(ALL)], row)
    if _topics(series):
        for row in connection.execute(ask.topics, {**values, "topics": _topics(series)}):
            _add(counts, (Series(row.topic), Series(row.topic, row.lang)), row, grid)
    if _languages(series):
        for row in connection.execute(ask.languages, {**values, "langs": _languages(series)}):
            _add(counts, (Series(ALL, row.lang),), row, grid)
    if _entities(series):
        for row in connection.execute(ask.entities, {**values, "entities": _entities(series)}):
            _add(counts, (Series(ALL, ALL, row.entity),), row, grid)
    return counts


def _add(counts: dict[Series, Pair], series: Iterable[Series], row: Row[Any], grid: Grid) -> None:
    for one in series:
        if one in counts:
            grid.add(counts[one], row)


def _mentions(
    connection: Connection, run: str, span: Span, series: set[Series], everything: bool
) -> list[Mention]:  # fmt: skip
    found = connection.execute(
        _MENTIONS,
        {"run": run, "first": span.first, "end": span.last + MINUTE,
         "everything": everything, "topics": _topics(series), "langs": _languages(series),
         "entities": _entities(series)},
    )  # fmt: skip
    return [
        Mention(minute_of(row.published_at), row.article_id, row.source, row.title_key, row.topic, row.lang,
                row.negative_ppm, row.model, tuple(row.entities), row.story)
        for row in found
    ]  # fmt: skip


def _topics(series: set[Series]) -> list[str]:
    return sorted({one.topic for one in series} - {ALL})


def _languages(series: set[Series]) -> list[str]:
    return sorted({one.lang for one in series if one.topic == one.entity == ALL} - {ALL})


def _entities(series: set[Series]) -> list[str]:
    return sorted({one.entity for one in series} - {ALL})
