"""One series as the pages name it, and what is read of it: a topic (or all), some languages (or all), an entity."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Text, and_, cast, func, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from crosswind.dashboard import known, novel
from crosswind.dashboard.baseline import LEARNED_FROM, Hourly
from crosswind.dashboard.counts import bucket_span, rows_of, table_of
from crosswind.dashboard.queries import (
    PAGE,
    Article,
    ArticlePage,
    Reader,
    Wanted,
    among,
    decode_cursor,
    encode_cursor,
    fields_of,
    passes,
)
from crosswind.dashboard.series import WINDOW_BINS, Span, Trend, trend_from
from crosswind.stream.adapters.postgres.schema import ArticleRow, BucketRow, HourRow
from crosswind.stream.domain.bucket import ALL

MAX_ENTITIES: Final = 12
MENTIONED: Final = timedelta(hours=24)
"""Entities are ranked over this much of the span's end: what is in the news now."""
_HOUR = timedelta(hours=1)
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scope:
    """A topic × languages × an entity; `ALL` and the empty tuple mean all."""

    topic: str = ALL
    langs: tuple[str, ...] = ()
    entity: str = ALL

    @property
    def name(self) -> str:
        """What the page is called."""
        parts = [part for part in (self.entity, self.topic) if part != ALL]
        return " · ".join(parts) or "all topics"


@dataclass(frozen=True, slots=True)
class EntityNews:
    """How often an entity was in the news lately, and how often in bad ones."""

    entity: str
    articles: int
    negative: int


def trend(reader: Reader, span: Span, scope: Scope) -> Trend:
    """The trend of one series; all zero where nothing is known of it. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    chosen = _of(scope, table_of(span)[0], bucket_span(reader.run, span, scope.entity))
    columns = [[0] * (WINDOW_BINS - 1 + span.bins) for _ in range(3)]
    for at, *counts in rows_of(reader, span, (), chosen):
        for column, count in zip(columns, counts, strict=True):
            column[at] = int(count)
    return trend_from(scope.topic, columns)


def hourly(reader: Reader, span: Span, scope: Scope) -> Hourly:
    """Counts per hour of a series and of the whole run, from five weeks before the span to its end. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    first = span.start.replace(minute=0, second=0, microsecond=0) - LEARNED_FROM
    return _hourly(reader, first, span.end.replace(minute=0, second=0, microsecond=0), scope)


@functools.lru_cache(maxsize=64)
def _hourly(reader: Reader, first: datetime, end: datetime, scope: Scope) -> Hourly:
    """Read once per hour of event time: the last two hours teach nothing, so the ones that do are closed."""
    whole = _sums(reader, first, end, Scope())
    negative, articles = whole if scope == Scope() else _sums(reader, first, end, scope)
    return Hourly(first, negative[None, :], articles[None, :], whole[1])


@functools.lru_cache(maxsize=64)
def _sums(reader: Reader, first: datetime, end: datetime, scope: Scope) -> tuple[Ints, Ints]:
    """Negatives and articles per hour of a series, from the roll-up; those of the whole run serve every chart."""
    negative, articles = (np.zeros((end - first) // _HOUR, np.int64) for _ in range(2))
    of_run = (HourRow.run == reader.run) & (HourRow.entity == scope.entity)
    chosen = _of(scope, HourRow, of_run & (HourRow.hour >= first) & (HourRow.hour < end))
    query = select(HourRow.hour, func.sum(HourRow.negative), func.sum(HourRow.articles)).where(chosen)
    for row in reader.rows(query.group_by(HourRow.hour)):
        at = (row[0] - first) // _HOUR
        negative[at], articles[at] = int(row[1]), int(row[2])
    return negative, articles


def entities(reader: Reader, span: Span, langs: Sequence[str] = ()) -> list[EntityNews]:
    """The entities with most bad news over the last `MENTIONED` of the span, `MAX_ENTITIES` at most. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    negative, articles = func.sum(BucketRow.negative), func.sum(BucketRow.articles)
    query: Any = select(BucketRow.entity, articles, negative).where(
        BucketRow.run == reader.run, BucketRow.entity != ALL,
        BucketRow.minute >= max(span.start, span.end - MENTIONED), BucketRow.minute < span.end,
    )  # fmt: skip
    query = among(query, BucketRow.lang, langs).group_by(BucketRow.entity)
    rows = reader.rows(query.order_by(negative.desc(), articles.desc(), BucketRow.entity).limit(MAX_ENTITIES))
    return [EntityNews(row[0], int(row[1]), int(row[2])) for row in rows]


def mentions(reader: Reader, wanted: Wanted, entity: str, limit: int = PAGE) -> ArticlePage:
    """Articles about an entity, newest first. Blocks.

    The buckets say in which minutes there are any, so that only those minutes' articles are read: a rare name costs
    no more than a frequent one, without an index over all names.

    Raises:
        DataError: the cursor is not one of ours. DatabaseError: the database cannot be reached or refuses.
    """
    before = decode_cursor(wanted.before) if wanted.before else None
    # Of a minute's articles none may be the first of its story, so then every minute of the span is looked at.
    minutes = _minutes(reader, wanted, entity, before, None if wanted.novel else limit + 2)
    fields = [*fields_of(ArticleRow), known.versions()]
    minute = timedelta(minutes=1)
    begins = minutes.c.minute
    within = and_(ArticleRow.published_at >= begins, ArticleRow.published_at < begins + minute)
    query: Any = select(*fields).select_from(minutes).join(ArticleRow, within)
    query = query.where(ArticleRow.run == reader.run, *_passes(ArticleRow, wanted, entity))
    if before:
        query = query.where(tuple_(ArticleRow.published_at, ArticleRow.article_id) < before)
    query = query.order_by(ArticleRow.published_at.desc(), ArticleRow.article_id.desc()).limit(limit + 1)
    there = _passes(novel.OTHER, wanted, entity)
    rows = novel.first_ones(reader.rows, reader.run, query, limit + 1, there) if wanted.novel else reader.rows(query)
    found = [Article(**row._asdict()) for row in rows]
    return ArticlePage(found[:limit], encode_cursor(found[limit - 1]) if len(found) > limit else None)


def _passes(table: Any, wanted: Wanted, entity: str) -> list[Any]:
    return [table.entities.contains(cast([entity], ARRAY(Text))), *passes(table, wanted)]


def _minutes(
    reader: Reader, wanted: Wanted, entity: str, before: tuple[datetime, str] | None, limit: int | None
) -> Any:
    """The newest minutes that hold a wanted article: each holds one at least, so `limit` of them are enough."""
    query: Any = select(BucketRow.minute).where(BucketRow.run == reader.run, BucketRow.entity == entity)
    query = among(among(query, BucketRow.topic, wanted.topics), BucketRow.lang, wanted.langs)
    counts = {"negative": BucketRow.negative, "positive": BucketRow.positive,
              "neutral": BucketRow.articles - BucketRow.negative - BucketRow.positive}  # fmt: skip
    if wanted.sentiment:
        query = query.where(counts[wanted.sentiment] > 0)
    if wanted.start:
        query = query.where(BucketRow.minute > wanted.start - timedelta(minutes=1))
    if wanted.end:
        query = query.where(BucketRow.minute < wanted.end)
    if before:
        query = query.where(BucketRow.minute <= before[0])
    return query.group_by(BucketRow.minute).order_by(BucketRow.minute.desc()).limit(limit).subquery()


def _of(scope: Scope, table: Any, chosen: Any) -> Any:
    """A condition narrowed to a scope's topic and languages."""
    if scope.topic != ALL:
        chosen = chosen & (table.topic == scope.topic)
    return chosen & table.lang.in_(scope.langs) if scope.langs else chosen
