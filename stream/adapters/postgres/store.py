"""The trend store on Postgres: article rows, buckets and their hours, moved together in one transaction.

Articles travel as one JSON text, buckets as arrays through `unnest`: row by row was a tenth as fast.
Rows are written in key order, so that two writers cannot deadlock.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine, text

from crosswind.stream.adapters.postgres.article_rows import FIELDS, TYPED, origin_of, rows_of
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.statistics import YoungDatabase
from crosswind.stream.adapters.postgres.stories import keep_meanings
from crosswind.stream.adapters.postgres.versions import settle_others
from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.bucket import fold, minute_of
from crosswind.stream.domain.ingest import Delivery, Ingested
from crosswind.stream.domain.versions import Copy, receipt
from crosswind.stream.domain.watermark import Watermark

_INSERT_ARTICLES = text(f"""
    INSERT INTO article (run, {FIELDS})
    SELECT :run, {FIELDS} FROM json_to_recordset(CAST(:rows AS json)) AS input({TYPED})
    ON CONFLICT (run, article_id) DO NOTHING
    RETURNING article_id
""")

_STORED_RECEIPTS = text("""
    SELECT article_id, first_seen_at, origin_topic, origin_partition, origin_offset FROM article
    WHERE run = :run AND article_id = ANY(:ids)
""")

# Asked after the insert: `retention.py` says why that order is safe.
_TAKE_BACK_EXPIRED = text("""
    DELETE FROM article a USING retention r
    WHERE a.run = :run AND a.article_id = ANY(:ids) AND r.run = a.run AND a.published_at < r.articles_before
    RETURNING a.article_id
""")

_MOVE_BUCKETS = text("""
    INSERT INTO bucket (run, minute, topic, lang, entity, articles, negative, positive, negative_ppm)
    SELECT :run, * FROM unnest(CAST(:minute AS timestamptz[]), CAST(:topic AS text[]), CAST(:lang AS text[]),
                               CAST(:entity AS text[]), CAST(:articles AS int[]), CAST(:negative AS int[]),
                               CAST(:positive AS int[]), CAST(:negative_ppm AS bigint[]))
    ON CONFLICT (run, minute, topic, lang, entity) DO UPDATE
    SET articles = bucket.articles + excluded.articles, negative = bucket.negative + excluded.negative,
        positive = bucket.positive + excluded.positive, negative_ppm = bucket.negative_ppm + excluded.negative_ppm
""")

# The same rows folded to whole hours, in the same transaction: the hours are the sum of the minutes at every commit.
_MOVE_HOURS = text("""
    INSERT INTO bucket_hour (run, entity, topic, lang, hour, articles, negative, positive, negative_ppm)
    SELECT :run, entity, topic, lang, date_bin('1 hour', minute, 'epoch') AS hour, sum(articles), sum(negative),
           sum(positive), sum(negative_ppm)
    FROM unnest(CAST(:minute AS timestamptz[]), CAST(:topic AS text[]), CAST(:lang AS text[]),
                CAST(:entity AS text[]), CAST(:articles AS int[]), CAST(:negative AS int[]),
                CAST(:positive AS int[]), CAST(:negative_ppm AS bigint[]))
         AS input(minute, topic, lang, entity, articles, negative, positive, negative_ppm)
    GROUP BY entity, topic, lang, hour ORDER BY entity, topic, lang, hour
    ON CONFLICT (run, entity, topic, lang, hour) DO UPDATE
    SET articles = bucket_hour.articles + excluded.articles, negative = bucket_hour.negative + excluded.negative,
        positive = bucket_hour.positive + excluded.positive,
        negative_ppm = bucket_hour.negative_ppm + excluded.negative_ppm
""")

_NOTE_DUPLICATES = text("""
    INSERT INTO duplicate (run, origin_topic, origin_partition, origin_offset, article_id, first_seen_at)
    SELECT :run, * FROM unnest(CAST(:origin_topic AS text[]), CAST(:origin_partition AS int[]),
                               CAST(:origin_offset AS bigint[]), CAST(:article_id AS text[]),
                               CAST(:first_seen_at AS timestamptz[]))
    ON CONFLICT DO NOTHING
""")

_READ_WATERMARK = text("SELECT event_time, ahead FROM watermark WHERE run = :run AND lane = :lane FOR UPDATE")

_MOVE_WATERMARK = text("""
    INSERT INTO watermark (run, lane, event_time, ahead, moved_at)
    VALUES (:run, :lane, :event_time, :ahead, clock_timestamp())
    ON CONFLICT (run, lane) DO UPDATE
    SET event_time = GREATEST(watermark.event_time, excluded.event_time), ahead = excluded.ahead,
        moved_at = excluded.moved_at
""")


class PostgresTrendStore:
    """Implements `TrendStore` on a SQLAlchemy engine (psycopg 3)."""

    def __init__(self, engine: Engine, meanings: bool = False) -> None:
        """`meanings`: what articles mean is kept too, for stories; only where `stories.available`."""
        self._engine = engine
        self._meanings = meanings
        self._young = YoungDatabase(engine)

    def ingest(self, run: str, deliveries: Sequence[Delivery]) -> Ingested:
        """See `TrendStore.ingest`."""
        if not deliveries:
            return Ingested(0, 0, 0, None)
        with database(f"storing {len(deliveries)} articles"), self._engine.begin() as connection:
            found = _ingest(connection, run, deliveries, self._meanings)
        self._young.stored(found.new)
        return found

    def close(self) -> None:
        """Closes every pooled connection."""
        self._engine.dispose()


def _ingest(connection: Connection, run: str, deliveries: Sequence[Delivery], meanings: bool) -> Ingested:
    rows = _firsts(deliveries)
    new_ids = set(connection.execute(_INSERT_ARTICLES, {"run": run, "rows": rows_of(rows)}).scalars())
    expired = _take_back_expired(connection, run, new_ids)
    new_ids -= expired
    new = [scored for scored in rows if scored.article.article_id in new_ids]
    _move_buckets(connection, run, new)
    if meanings:
        keep_meanings(connection, run, new)
    kept = [delivery for delivery in deliveries if delivery.scored.article.article_id not in expired]
    others, redelivered = _sort_out_the_rest(connection, run, kept, new_ids)
    found = settle_others(connection, run, others, meanings)
    _note_duplicates(connection, run, found.copies)
    _move_watermarks(connection, run, deliveries, new_ids)
    changed = min((minute_of(scored.article.published_at) for scored in new), default=None)
    redelivered += found.redelivered
    gone = len(deliveries) - len(new) - found.duplicates - redelivered - found.edited
    return Ingested(len(new), found.duplicates, redelivered, changed, gone, found.edited)


def _firsts(deliveries: Sequence[Delivery]) -> list[ScoredArticle]:
    """Of each article the input that was received first, in key order."""
    first: dict[str, ScoredArticle] = {}
    for delivery in deliveries:
        one = delivery.scored
        known = first.setdefault(one.article.article_id, one)
        if receipt(one.article) < receipt(known.article):
            first[one.article.article_id] = one
    return [first[article_id] for article_id in sorted(first)]


def _take_back_expired(connection: Connection, run: str, new_ids: set[str]) -> set[str]:
    """Of the articles that were just inserted, those that retention has dropped, or would; they are gone again."""
    if not new_ids:
        return set()
    return set(connection.execute(_TAKE_BACK_EXPIRED, {"run": run, "ids": sorted(new_ids)}).scalars())


def _sort_out_the_rest(
    connection: Connection, run: str, deliveries: Sequence[Delivery], new_ids: set[str]
) -> tuple[list[ScoredArticle], int]:
    """Other inputs of articles that are stored, and the number of redeliveries of the very input that is stored."""
    if len(new_ids) == len(deliveries):
        return [], 0  # each is an article of its own, stored just now
    ids = sorted({delivery.scored.article.article_id for delivery in deliveries})
    rows = connection.execute(_STORED_RECEIPTS, {"run": run, "ids": ids})
    stored = {row.article_id: receipt(Copy(row.first_seen_at, origin_of(row))) for row in rows}
    unclaimed = set(new_ids)
    others: list[ScoredArticle] = []
    redelivered = 0
    for delivery in deliveries:
        article = delivery.scored.article
        if article.article_id not in stored:
            continue  # it was there when it was to be inserted, and a sweep has dropped it since: it counts as expired
        if receipt(article) != stored[article.article_id]:
            others.append(delivery.scored)
        elif article.article_id in unclaimed:
            unclaimed.discard(article.article_id)
        else:
            redelivered += 1
    return others, redelivered


def _move_buckets(connection: Connection, run: str, new: Iterable[ScoredArticle]) -> None:
    buckets = sorted(fold(new).items())
    if not buckets:
        return
    keys, tallies = [key for key, _ in buckets], [tally for _, tally in buckets]
    columns = {name: [getattr(key, name) for key in keys] for name in ("minute", "topic", "lang", "entity")} | {
        name: [getattr(tally, name) for tally in tallies]
        for name in ("articles", "negative", "positive", "negative_ppm")
    }
    connection.execute(_MOVE_BUCKETS, {"run": run, **columns})
    connection.execute(_MOVE_HOURS, {"run": run, **columns})


def _note_duplicates(connection: Connection, run: str, duplicates: Sequence[ScoredArticle]) -> None:
    if not duplicates:
        return
    articles = sorted(
        (scored.article for scored in duplicates),
        key=lambda article: (article.origin.topic, article.origin.partition, article.origin.offset),
    )
    connection.execute(
        _NOTE_DUPLICATES,
        {
            "run": run,
            "origin_topic": [article.origin.topic for article in articles],
            "origin_partition": [article.origin.partition for article in articles],
            "origin_offset": [article.origin.offset for article in articles],
            "article_id": [article.article_id for article in articles],
            "first_seen_at": [article.first_seen_at for article in articles],
        },
    )


def _move_watermarks(connection: Connection, run: str, deliveries: Sequence[Delivery], new_ids: set[str]) -> None:
    """A lane of nothing but copies moves as well: it would hold back the others."""
    times: dict[int, tuple[list[datetime], list[datetime]]] = {}
    unclaimed = set(new_ids)
    for delivery in deliveries:
        article = delivery.scored.article
        new, again = times.setdefault(delivery.lane, ([], []))
        (new if article.article_id in unclaimed else again).append(delivery.reached)
        unclaimed.discard(article.article_id)
    for lane in sorted(times):
        row = connection.execute(_READ_WATERMARK, {"run": run, "lane": lane}).one_or_none()
        before = Watermark(row.event_time, tuple(row.ahead)) if row else Watermark()
        after = before.advance(*times[lane])
        connection.execute(
            _MOVE_WATERMARK,
            {"run": run, "lane": lane, "event_time": after.event_time, "ahead": list(after.ahead)},
        )
