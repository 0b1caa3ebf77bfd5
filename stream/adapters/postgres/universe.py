"""The series of a run that had articles, and when; read from the hours, which retention keeps longest."""

from datetime import datetime

import numpy as np
from sqlalchemy import Connection, text

from crosswind.stream.domain.series import Series
from crosswind.stream.domain.universe import NEVER, REACH, Universe, hour_of

_SEEN = """
    WITH seen AS (
        SELECT topic, lang, entity, CAST(extract(epoch FROM hour) AS bigint) / 3600 AS hour FROM bucket_hour
        WHERE run = :run AND hour >= to_timestamp(3600.0 * :since) {until}
    )
    SELECT coalesce(topic, '*') AS topic, coalesce(lang, '*') AS lang, '*' AS entity {more} FROM seen
    WHERE entity = '*' GROUP BY GROUPING SETS ((), (topic), (lang), (topic, lang))
    UNION ALL SELECT '*', '*', entity {more} FROM seen WHERE entity <> '*' GROUP BY entity
"""
_EVER = text(_SEEN.format(until="", more=""))
_WHEN = text(_SEEN.format(
    until="AND hour <= to_timestamp(3600.0 * :last)",
    more=", max(hour) FILTER (WHERE hour < :first) AS before, "
         "array_agg(DISTINCT hour) FILTER (WHERE hour >= :first) AS during",
))  # fmt: skip


def universe_of(connection: Connection, run: str, since: datetime) -> list[Series]:
    """Each series with an article in the hour of `since` or later, once; the whole run in any case."""
    found = connection.execute(_EVER, {"run": run, "since": hour_of(since)})
    return [Series(row.topic, row.lang, row.entity) for row in found]


def universe_at(connection: Connection, run: str, first: datetime, last: datetime) -> Universe:
    """See `AlertUnit.universe`."""
    begin, end = hour_of(first), hour_of(last)
    values = {"run": run, "since": begin - REACH, "first": begin, "last": end}
    rows = connection.execute(_WHEN, values).all()
    before = np.array([NEVER if row.before is None else row.before for row in rows], np.int64)
    during: list[list[int]] = [[] for _ in range(begin, end + 1)]
    for place, row in enumerate(rows):
        for hour in row.during or ():
            during[hour - begin].append(place)
    series = [Series(row.topic, row.lang, row.entity) for row in rows]
    return Universe.of(series, begin, before, [np.array(places, np.intp) for places in during])
