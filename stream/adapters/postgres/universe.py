"""The series of a run that had an article since a moment."""

from datetime import datetime

from sqlalchemy import Connection, text

from crosswind.stream.domain.series import Series

_SERIES = """
    SELECT coalesce(topic, '*') AS topic, coalesce(lang, '*') AS lang, '*' AS entity FROM {table}
    WHERE run = :run AND entity = '*' AND {begins} >= date_bin('1 hour', :since, 'epoch')
    GROUP BY GROUPING SETS ((), (topic), (lang), (topic, lang))
    UNION ALL SELECT '*', '*', entity FROM {table}
    WHERE run = :run AND entity <> '*' AND {begins} >= date_bin('1 hour', :since, 'epoch') GROUP BY entity
"""
_BY_MINUTE = text(_SERIES.format(table="bucket", begins="minute"))
_BY_HOUR = text(_SERIES.format(table="bucket_hour", begins="hour"))


def universe_of(connection: Connection, run: str, since: datetime, *, by_hour: bool = False) -> list[Series]:
    """Each series with an article in the hour of `since` or later, once.

    Args:
        by_hour: read from the hours: a fraction of the rows, and retention drops minutes long before them.
    """
    found = connection.execute(_BY_HOUR if by_hour else _BY_MINUTE, {"run": run, "since": since})
    return [Series(row.topic, row.lang, row.entity) for row in found]
