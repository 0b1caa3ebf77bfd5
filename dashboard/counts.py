"""Counts of a span, read once: topic × language × bin. Every chart, filter and sum of a range is made of these.

Bins of an hour and more are read from the hourly roll-up, finer ones from the minutes: the rows read grow with the
bins shown, not with the articles stored. Of what was read before only the hours are read anew that have changed since,
as the roll-up tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Integer, cast, func, literal, or_, select

from crosswind.dashboard.queries import Reader
from crosswind.dashboard.series import WINDOW_BINS, Span, Trend, trend_from
from crosswind.stream.adapters.postgres.schema import BucketRow, HourRow
from crosswind.stream.domain.bucket import ALL

HOUR: Final = timedelta(hours=1)
MOST_ANEW: Final = 8
"""Changed hours that are read one by one; with more of them everything is read in one go."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAD: Final = WINDOW_BINS - 1


@dataclass(frozen=True, slots=True)
class Cell:
    """Articles of one topic in one language over a span."""

    topic: str
    lang: str
    articles: int
    negative: int


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What a span holds, over all entities.

    Attributes:
        topics, langs: what occurs, sorted.
        counts: int64 [topics, langs, lead + bins, 3]: articles, negative, positive per bin; the first
            `WINDOW_BINS - 1` bins lie before the span, for the first trailing window.
        marks: hour -> what it held, when bins are finer than that; another mark means another content.
    """

    span: Span
    topics: tuple[str, ...]
    langs: tuple[str, ...]
    counts: NDArray[np.int64]
    marks: Mapping[datetime, int] = field(default_factory=dict)

    def trends(self, topics: Sequence[str] = (), langs: Sequence[str] = ()) -> dict[str, Trend]:
        """Topic -> its trend; topics without an article in the span are absent. Empty filters mean all."""
        found = {topic: self.trend(topic, langs) for topic in self.topics if not topics or topic in topics}
        return {topic: trend for topic, trend in found.items() if trend.total}

    def trend(self, topic: str, langs: Sequence[str] = ()) -> Trend:
        """One topic's trend, or that of `ALL` of them; all zero where nothing is known of it."""
        rows = [at for at, name in enumerate(self.topics) if topic in (ALL, name)]
        kept = [at for at, name in enumerate(self.langs) if not langs or name in langs]
        return trend_from(topic, self.counts[np.ix_(rows, kept)].sum(axis=(0, 1)).T.tolist())

    @property
    def totals(self) -> list[int]:
        """Articles per bin over everything: where this is 0, the feed was silent."""
        return [int(count) for count in self.counts[:, :, _LEAD:, 0].sum(axis=(0, 1))]

    @property
    def cells(self) -> list[Cell]:
        """Articles per topic and language in the span, the most frequent first."""
        sums = self.counts[:, :, _LEAD:, :2].sum(axis=2)
        cells = [
            Cell(topic, lang, int(sums[row, column, 0]), int(sums[row, column, 1]))
            for row, topic in enumerate(self.topics) for column, lang in enumerate(self.langs)
            if sums[row, column, 0]
        ]  # fmt: skip
        return sorted(cells, key=lambda cell: (-cell.articles, cell.topic, cell.lang))

    @property
    def languages(self) -> dict[str, int]:
        """Language -> articles in the span, the most frequent first."""
        sums = self.counts[:, :, _LEAD:, 0].sum(axis=(0, 2))
        found = {lang: int(count) for lang, count in zip(self.langs, sums, strict=True) if count}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def read(reader: Reader, span: Span, before: Counts | None = None) -> Counts:
    """The counts of a span, in one pass over its rows. Blocks.

    Args:
        before: what was read earlier, of the same or another span; hours that have not changed are taken from it.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    # read before the rows: what comes in between is in the rows, and makes the mark another one next time
    marks = _marks(reader, span) if span.step < HOUR else {}
    kept = _unchanged(span, marks, before)
    chosen = bucket_span(reader.run, span)
    if before is not None and kept:
        hours = sorted({_hour(at) for at in set(_times(span)) - set(kept)} & set(marks))
        if len(hours) <= MOST_ANEW:
            anew = [(BucketRow.minute >= hour) & (BucketRow.minute < hour + HOUR) for hour in hours]
            rows = rows_of(reader, span, ("topic", "lang"), chosen & or_(*anew)) if anew else []
            return _merged(span, rows, marks, before, kept)
    return _merged(span, rows_of(reader, span, ("topic", "lang"), chosen), marks, None, {})


def _times(span: Span) -> list[datetime]:
    """The start of each bin, those before the span included."""
    return [span.warm_start + at * span.step for at in range(_LEAD + span.bins)]


def _hour(moment: datetime) -> datetime:
    return moment - (moment - _EPOCH) % HOUR


def _marks(reader: Reader, span: Span) -> dict[datetime, int]:
    """Hour -> a fingerprint of what all its topics and languages counted: whatever is counted moves it."""
    weights = cast(func.hashtext(HourRow.topic + "/" + HourRow.lang), BigInteger)
    content = HourRow.articles + 31 * HourRow.negative + 1009 * cast(HourRow.positive, BigInteger)
    mark = func.sum(weights * content + HourRow.negative_ppm)
    of_run = (HourRow.run == reader.run) & (HourRow.entity == ALL)
    within = (HourRow.hour >= _hour(span.warm_start)) & (HourRow.hour < span.end)
    found = reader.rows(select(HourRow.hour, mark).where(of_run & within).group_by(HourRow.hour))
    return {row[0]: int(row[1]) for row in found}


def _unchanged(span: Span, marks: Mapping[datetime, int], before: Counts | None) -> dict[datetime, int]:
    """Bins that `before` holds and whose hours are as they were -> their places there."""
    if before is None or before.span.step != span.step or span.step >= HOUR:
        return {}
    places = {at: place for place, at in enumerate(_times(before.span))}
    return {
        at: places[at] for at in _times(span)
        if at in places and marks.get(_hour(at)) == before.marks.get(_hour(at))
    }  # fmt: skip


def _merged(
    span: Span, rows: Sequence[Any], marks: Mapping[datetime, int], before: Counts | None, kept: Mapping[datetime, int]
) -> Counts:
    """Counts of rows, and of the bins that are kept; rows in those are ignored."""
    old = before or Counts(span, (), (), np.zeros((0, 0, 0, 3), np.int64))
    topics, langs = (
        tuple(sorted({*names, *(row[at] for row in rows)})) for at, names in enumerate((old.topics, old.langs))
    )
    row_of, column_of = ({name: at for at, name in enumerate(names)} for names in (topics, langs))
    counts = np.zeros((len(topics), len(langs), _LEAD + span.bins, 3), np.int64)
    for topic, lang, at, *found in rows:
        counts[row_of[topic], column_of[lang], at] = found
    if kept:
        into = [(at - span.warm_start) // span.step for at in kept]
        of_old = [row_of[name] for name in old.topics], [column_of[name] for name in old.langs]
        here = np.ix_(of_old[0], of_old[1], into, range(3))
        counts[here] = old.counts[:, :, list(kept.values()), :]
    return Counts(span, topics, langs, counts, marks)


def table_of(span: Span) -> tuple[Any, Any]:
    """Where a span is read: a table, and its column of time."""
    return (HourRow, HourRow.hour) if span.step >= HOUR else (BucketRow, BucketRow.minute)


def rows_of(reader: Reader, span: Span, keys: Sequence[str], where: Any) -> Sequence[Any]:
    """Rows of the keys, the bin's number from `warm_start` on, and articles, negative and positive in it. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    table, time = table_of(span)
    names = [getattr(table, key) for key in keys]
    at = func.date_bin(span.step, time, literal(_EPOCH)).label("at")
    sums = [func.sum(getattr(table, name)).label(name) for name in ("articles", "negative", "positive")]
    folded = select(*names, at, *sums).where(where).group_by(*names, at).subquery()
    number = func.extract("epoch", folded.c.at - literal(span.warm_start)) / int(span.step.total_seconds())
    columns = [folded.c[name] for name in keys], [folded.c[name] for name in ("articles", "negative", "positive")]
    return reader.rows(select(*columns[0], cast(number, Integer), *columns[1]))


def bucket_span(run: str, span: Span, entity: str = ALL) -> Any:
    """The condition of a span's rows, its first trailing window included: over all entities, or of one."""
    table, time = table_of(span)
    return (table.run == run) & (table.entity == entity) & (time >= span.warm_start) & (time < span.end)
