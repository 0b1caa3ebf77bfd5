"""Scores by other bundles: which articles lack one, writing them, and how far they agree with what was published."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.domain.article import Score

SHADOW_LOCK = 0x63777368
"""Class of advisory locks, one per run: which worker shadows."""

# The share is by the article's id, so that each worker and each bundle takes the same articles.
_WANTED = """
    FROM article a
    WHERE a.run = :run AND a.published_at >= :since
      AND a.published_at < coalesce(CAST(:until AS timestamptz), 'infinity')
      AND a.model <> :model AND abs(hashtextextended(a.article_id, 0) % 1000000) < :share_ppm
      AND NOT EXISTS (SELECT FROM score_version s
                      WHERE s.run = a.run AND s.article_id = a.article_id AND s.model = :model)
"""

_COUNT = text(f"SELECT count(*) {_WANTED}")

_NEXT = text(f"""
    SELECT a.article_id, a.title, a.body, a.published_at {_WANTED}
      AND (a.published_at, a.article_id) > (:after_at, :after_id)
    ORDER BY a.published_at, a.article_id LIMIT :limit
""")

_WRITE = text("""
    INSERT INTO score_version (run, article_id, model, topic, sentiment, negative_ppm, neutral_ppm, positive_ppm,
                               topic_ppm, unsure)
    SELECT :run, article_id, :model, topic, sentiment, negative_ppm, neutral_ppm, positive_ppm, topic_ppm, unsure
    FROM unnest(CAST(:article_id AS text[]), CAST(:topic AS text[]), CAST(:sentiment AS text[]),
                CAST(:negative_ppm AS int[]), CAST(:neutral_ppm AS int[]), CAST(:positive_ppm AS int[]),
                CAST(:topic_ppm AS int[]), CAST(:unsure AS bool[]))
         AS input(article_id, topic, sentiment, negative_ppm, neutral_ppm, positive_ppm, topic_ppm, unsure)
    ON CONFLICT (run, article_id, model) DO NOTHING
""")

# Retention drops articles while others are scored. In key order, as all who lock articles.
_STILL_THERE = text("""
    SELECT article_id FROM article WHERE run = :run AND article_id = ANY(CAST(:article_id AS text[]))
    ORDER BY article_id FOR KEY SHARE
""")

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:kind, hashtext(:run))")

_COMPARED = text("""
    SELECT coalesce(a.lang, '*') AS lang, coalesce(a.topic, '*') AS topic, count(*) AS articles,
           count(*) FILTER (WHERE s.sentiment <> a.sentiment) AS sentiment_differs,
           count(*) FILTER (WHERE s.topic <> a.topic) AS topic_differs,
           count(*) FILTER (WHERE s.sentiment = 'negative' AND a.sentiment <> 'negative') AS newly_negative,
           count(*) FILTER (WHERE s.sentiment <> 'negative' AND a.sentiment = 'negative') AS no_longer_negative,
           avg(abs(s.negative_ppm - a.negative_ppm)) / 1e6 AS negative_moved
    FROM score_version s JOIN article a ON a.run = s.run AND a.article_id = s.article_id
    WHERE s.run = :run AND s.model = :model AND s.scored_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
    GROUP BY GROUPING SETS ((), (a.lang), (a.topic), (a.lang, a.topic))
    ORDER BY articles DESC, lang, topic
""")

_EXAMPLES = text("""
    SELECT a.title, a.lang, a.topic, a.sentiment, a.model, s.topic AS candidate_topic,
           s.sentiment AS candidate_sentiment, abs(s.negative_ppm - a.negative_ppm) / 1e6 AS negative_moved
    FROM score_version s JOIN article a ON a.run = s.run AND a.article_id = s.article_id
    WHERE s.run = :run AND s.model = :model AND s.scored_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
      AND (s.sentiment <> a.sentiment OR s.topic <> a.topic)
    ORDER BY abs(s.negative_ppm - a.negative_ppm) DESC, a.article_id LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Selection:
    """Articles of a run that another bundle shall score: published from `since` to before `until`."""

    run: str
    model: str
    since: datetime
    until: datetime | None = None
    share_ppm: int = 1_000_000

    def values(self) -> dict[str, object]:
        """The queries' parameters."""
        return {"run": self.run, "model": self.model, "since": self.since, "until": self.until,
                "share_ppm": self.share_ppm}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unscored:
    """An article that the bundle has not scored, as the model reads it."""

    article_id: str
    text: str
    published_at: datetime


def count_unscored(engine: Engine, selection: Selection) -> int:
    """How many articles of a selection its bundle has not scored."""
    with database("counting articles"), engine.connect() as connection:
        return int(connection.execute(_COUNT, selection.values()).scalar_one())


def unscored(
    connection: Connection, selection: Selection, limit: int, after: tuple[datetime, str] | None = None
) -> list[Unscored]:
    """Up to `limit` articles that the bundle has not scored, by time and id, after a place in that order."""
    at, article_id = after or (selection.since, "")  # every id comes after the empty one
    values = {**selection.values(), "limit": limit, "after_at": at, "after_id": article_id}
    return [
        Unscored(row.article_id, f"{row.title}\n{row.body}" if row.body else row.title, row.published_at)
        for row in connection.execute(_NEXT, values)
    ]


def write(connection: Connection, run: str, model: str, rows: Sequence[tuple[str, Score]]) -> int:
    """Writes scores beside those that are there; a repetition is without effect.

    Returns:
        the number of articles that were dropped meanwhile, which are left out.
    """
    ids = [article_id for article_id, _ in rows]
    there = set(connection.execute(_STILL_THERE, {"run": run, "article_id": ids}).scalars())
    kept = [row for row in rows if row[0] in there]
    names = ("topic", "negative_ppm", "neutral_ppm", "positive_ppm", "topic_ppm", "unsure")
    columns: dict[str, object] = {name: [getattr(score, name) for _, score in kept] for name in names}
    columns |= {"article_id": [i for i, _ in kept], "sentiment": [score.sentiment.value for _, score in kept]}
    connection.execute(_WRITE, {"run": run, "model": model, **columns})
    return len(rows) - len(kept)


def try_lock(connection: Connection, run: str) -> bool:
    """Whether this transaction is the run's only one that shadows."""
    return bool(connection.execute(_TRY_LOCK, {"kind": SHADOW_LOCK, "run": run}).scalar_one())


def compared(engine: Engine, run: str, model: str, since: datetime | None = None) -> list[dict[str, Any]]:
    """How far a bundle agrees with what was published: overall, per language, per topic, and both (`*`: all)."""
    with database("comparing scores"), engine.connect() as connection:
        rows = connection.execute(_COMPARED, {"run": run, "model": model, "since": since}).mappings()
        return [{**row, "negative_moved": float(row["negative_moved"])} for row in rows if row["articles"]]


def examples(engine: Engine, run: str, model: str, since: datetime | None, limit: int) -> list[dict[str, Any]]:
    """Articles that a bundle judges otherwise than was published, the largest difference first."""
    values = {"run": run, "model": model, "since": since, "limit": limit}
    with database("comparing scores"), engine.connect() as connection:
        rows = connection.execute(_EXAMPLES, values).mappings()
        return [{**row, "negative_moved": float(row["negative_moved"])} for row in rows]
