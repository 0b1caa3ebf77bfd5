"""Stored buckets of the series that rules watch, as `preview` wants them."""

from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.series import Series
from crosswind.stream.replay.preview import Buckets

MOST_SERIES: Final = 300
"""Series previewed at most, those with most bad news: 30 days of them are 200 MB."""

_SPAN = "run = :run AND hour >= :first AND hour < :end"
_LOUDEST = text(f"""
    SELECT coalesce(topic, '*') AS topic, coalesce(lang, '*') AS lang, '*' AS entity, sum(negative) AS negative
    FROM bucket_hour WHERE {_SPAN} AND entity = '*' GROUP BY GROUPING SETS ((), (topic), (lang), (topic, lang))
    UNION ALL
    SELECT '*', '*', entity, sum(negative) FROM bucket_hour WHERE {_SPAN} AND entity <> '*' GROUP BY entity
    ORDER BY negative DESC, topic, lang, entity LIMIT :most
""")
_CELLS = text("""
    SELECT topic, lang, entity, (extract(epoch FROM minute - :first) / 60)::int AS cell, negative, articles
    FROM bucket WHERE run = :run AND minute >= :first AND minute < :end
        AND (entity = '*' OR entity = ANY(:entities))
""")


def buckets(engine: Engine, run: str, end: datetime, days: int) -> Buckets | None:
    """The minutes of the last `days` before `end`; None where there are none. Blocks, for seconds where there are many.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    last = end.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    first = last - timedelta(days=days)
    values = {"run": run, "first": first, "end": last}
    with database("reading stored buckets"), engine.connect() as connection:
        found = connection.execute(_LOUDEST, {**values, "most": MOST_SERIES}).all()
        series = tuple(Series(row.topic, row.lang, row.entity) for row in found)
        entities = sorted({one.entity for one in series} - {ALL})
        rows = connection.execute(_CELLS, {**values, "entities": entities}).all()
    return _aligned(series, first, days * 24 * 60, rows) if rows else None


def _aligned(series: tuple[Series, ...], first: datetime, minutes: int, rows: Any) -> Buckets:
    """Each row counts for its series, and those over all topics, all languages or both; an entity's for its own."""
    place = {one: at for at, one in enumerate(series)}
    negative, articles = (np.zeros((len(series), minutes), np.int64) for _ in range(2))
    run = np.zeros(minutes, np.int64)
    for row in rows:
        if row.entity == ALL:
            run[row.cell] += row.articles
            wanted = [Series(ALL), Series(row.topic), Series(ALL, row.lang), Series(row.topic, row.lang)]
        else:
            wanted = [Series(ALL, ALL, row.entity)]
        for one in wanted:
            at = place.get(one)
            if at is not None:
                negative[at, row.cell] += row.negative
                articles[at, row.cell] += row.articles
    return Buckets(series, first, negative, articles, run)
