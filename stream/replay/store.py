"""The articles of a run of our own store, as live has them or as it had them at some moment."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.stories import available
from crosswind.stream.domain.stories.meaning import pack
from crosswind.stream.replay.columns import SCHEMA, Filter
from crosswind.stream.replay.judging import Judge, take_scored
from crosswind.stream.replay.sources import Source

ROWS = 8192
"""Rows fetched at once."""

_STORED = """
    SELECT a.article_id, a.source, a.title, a.body, a.url, a.lang, a.published_at, a.first_seen_at, a.entities,
           a.title_key, {scores}, {meaning}
    FROM {articles} a {join} WHERE a.run = :run
          AND a.published_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
          AND a.published_at < coalesce(CAST(:until AS timestamptz), 'infinity')
    ORDER BY a.published_at, a.article_id
"""
_NAMES = ("run", *(name for name in SCHEMA.names if name not in ("given_id", "meaning")))
# What was known at :as_of. An article that was never edited is its own version.
_KNOWN = f"""(
    SELECT {", ".join(f"a.{name}" for name in _NAMES)}, CAST(NULL AS bytea) AS said FROM article a
    WHERE a.run = :run AND a.first_seen_at <= :as_of
          AND NOT EXISTS (SELECT FROM article_version w WHERE w.run = a.run AND w.article_id = a.article_id)
    UNION ALL
    (SELECT DISTINCT ON (v.article_id) {", ".join(f"v.{name}" for name in _NAMES)}, coalesce(v.meaning, '')
    FROM article_version v WHERE v.run = :run AND v.first_seen_at <= :as_of ORDER BY v.article_id, v.version DESC)
)"""
_RESCORED = "LEFT JOIN score_version s ON s.run = a.run AND s.article_id = a.article_id AND s.model = :model"
_OF_THIS_TEXT = """ AND EXISTS (SELECT FROM article c WHERE c.run = a.run AND c.article_id = a.article_id
                                    AND c.title = a.title AND c.body = a.body)"""
"""What was scored anew is the text that counts."""
_SCORES = ("topic", "sentiment", "negative_ppm", "neutral_ppm", "positive_ppm", "topic_ppm", "unsure", "model")


def open_store(engine: Engine, run: str, wanted: Filter, judge_with: Judge, scores_of: str | None = None) -> Source:
    """The articles of a run of our own store, with the scores of then: what live counted, or with `wanted.as_of` the
    newest version of then.

    Args:
        scores_of: a bundle's version; where `crosswind rescore` has stored its scores, these are taken instead.
    """
    source = Source(f"store:{run}")
    source.tables = _stored(engine, run, wanted, judge_with, scores_of)
    return source


def _stored(engine: Engine, run: str, wanted: Filter, judge_with: Judge, scores_of: str | None) -> Iterator[pa.Table]:
    query, values = _query(engine, run, wanted, scores_of)
    with (
        database(f"reading the articles of run {run}"),
        engine.connect().execution_options(stream_results=True, yield_per=ROWS) as connection,
    ):
        for rows in connection.execute(text(query), values).mappings().partitions():
            table = pa.Table.from_pylist([_row(row) for row in rows], schema=SCHEMA)
            yield from take_scored(table, wanted, judge_with)


def _query(engine: Engine, run: str, wanted: Filter, scores_of: str | None) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {"run": run, "since": wanted.since, "until": wanted.until}
    scores, join, meaning = ", ".join(f"a.{name}" for name in _SCORES), "", "NULL AS meaning"
    if wanted.as_of is not None:
        values["as_of"] = wanted.as_of
    if scores_of:
        values["model"] = scores_of
        scores = ", ".join(f"coalesce(s.{name}, a.{name}) AS {name}" for name in _SCORES)
        join = _RESCORED + (_OF_THIS_TEXT if wanted.as_of is not None else "")
    elif available(engine):  # what was meant is the live bundle's; another bundle's scores say nothing of it
        meaning = "CAST(m.meaning AS real[]) AS meaning" + (", a.said" if wanted.as_of is not None else "")
        join = "LEFT JOIN article_meaning m ON m.run = a.run AND m.article_id = a.article_id"
    articles = "article" if wanted.as_of is None else _KNOWN
    return _STORED.format(scores=scores, articles=articles, join=join, meaning=meaning), values


def _row(found: Mapping[Any, Any]) -> dict[str, Any]:
    row = dict(found)
    said, meaning = row.pop("said", None), row["meaning"]
    if said is not None:
        return {**row, "meaning": bytes(said) or None}
    return {**row, "meaning": None if meaning is None else pack(np.asarray(meaning, np.float32))}
