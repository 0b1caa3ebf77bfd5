"""Histories of the series that may surge, read from buckets and articles.

Two steps: which series have enough negatives at all, then the days before for just those. Most minutes of most series
are quiet, so the second step is small.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, text

from crosswind.stream.domain.bucket import ALL, minute_of
from crosswind.stream.domain.series import MINUTE, Counts, History, Mention, Series
from crosswind.stream.domain.surge import Rule

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

_TOPICS = text("""
    SELECT topic, lang, minute, negative, articles FROM bucket
    WHERE run = :run AND entity = '*' AND minute BETWEEN :first AND :last AND topic = ANY(:topics)
""")

_ENTITIES = text("""
    SELECT entity, minute, sum(negative) AS negative, sum(articles) AS articles FROM bucket
    WHERE run = :run AND entity = ANY(:entities) AND minute BETWEEN :first AND :last GROUP BY entity, minute
""")

_RUN = text("""
    SELECT minute, sum(articles) AS articles FROM bucket
    WHERE run = :run AND entity = '*' AND minute BETWEEN :first AND :last GROUP BY minute
""")

_MENTIONS = text("""
    SELECT published_at, article_id, source, title_key, topic, lang, negative_ppm, model, entities FROM article
    WHERE run = :run AND published_at >= :first AND published_at < :end AND sentiment = 'negative'
          AND (topic = ANY(:topics) OR entities && CAST(:entities AS text[]))
""")


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes, both inclusive."""

    first: datetime
    last: datetime

    @property
    def minutes(self) -> int:
        """How many."""
        return (self.last - self.first) // MINUTE + 1


def load(connection: Connection, run: str, rule: Rule, span: Span, wanted: Collection[Series]) -> dict[Series, History]:
    """See `AlertUnit.histories`."""
    windows = Span(span.first - (rule.window - 1) * MINUTE, span.last)
    found = connection.execute(
        _CANDIDATES, {"run": run, "first": windows.first, "last": windows.last, "least": rule.least}
    )
    series = {Series(row.topic, row.lang, row.entity) for row in found} | set(wanted)
    if not series:
        return {}
    days = Span(span.first - rule.lookback * MINUTE, span.last)
    counts = _counts(connection, run, days, series)
    heard = _heard(connection, run, days)
    mentions = _mentions(connection, run, windows, series)
    return {
        one: History.of(days.first, *counts[one], heard, [mention for mention in mentions if one.holds(mention)])
        for one in series
    }


def _counts(connection: Connection, run: str, span: Span, series: set[Series]) -> dict[Series, tuple[Counts, Counts]]:
    """Negatives and articles per minute of each series."""
    counts = {one: (np.zeros(span.minutes, np.int64), np.zeros(span.minutes, np.int64)) for one in series}
    values = {"run": run, "first": span.first, "last": span.last}
    for row in connection.execute(_TOPICS, {**values, "topics": _topics(series)}):
        _add(counts, (Series(row.topic), Series(row.topic, row.lang)), row, span)
    for row in connection.execute(_ENTITIES, {**values, "entities": _entities(series)}):
        _add(counts, (Series(ALL, ALL, row.entity),), row, span)
    return counts


def _add(counts: dict[Series, tuple[Counts, Counts]], series: Iterable[Series], row: Row[Any], span: Span) -> None:
    minute = (row.minute - span.first) // MINUTE
    for one in series:
        if one in counts:
            negative, articles = counts[one]
            negative[minute] += int(row.negative)
            articles[minute] += int(row.articles)


def _heard(connection: Connection, run: str, span: Span) -> Counts:
    heard = np.zeros(span.minutes, np.int64)
    for row in connection.execute(_RUN, {"run": run, "first": span.first, "last": span.last}):
        heard[(row.minute - span.first) // MINUTE] = int(row.articles)
    return heard


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
