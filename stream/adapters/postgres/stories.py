"""Stories on Postgres: the engine's transaction, meanings kept with articles, counts and cards for readers."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from sqlalchemy import Connection, Engine, text

from crosswind.stream.adapters.postgres.alerts import PostgresAlertUnit
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.domain.article import PPM, ScoredArticle
from crosswind.stream.domain.stories.decision import Reason
from crosswind.stream.domain.stories.story import Assignment, Merge, Novelty, Telling
from crosswind.stream.service.stories import StoryUnit

ASSIGN = 0x63777374
"""Class of advisory locks, one per run: who gives articles their stories."""

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:kind, hashtext(:run))")

_AVAILABLE = text("SELECT to_regclass('article_meaning') IS NOT NULL")

# COPY takes half the time of an INSERT, which would have every vector written and read as text. Nothing can conflict:
# the articles are new, and meanings go with their articles.
_KEEP = "COPY article_meaning (run, article_id, meaning) FROM STDIN (FORMAT binary)"

_ASSIGNED = text("SELECT coalesce(max(seq), 0) AS given, max(at) AS newest FROM story_member WHERE run = :run")

_TELLING = """
    SELECT a.article_id, a.published_at, a.source, a.lang, a.title, a.title_key, a.entities, a.model,
           vector_send(v.meaning) AS meaning
"""

# LATERAL … LIMIT 1: each is looked up by its key. Of a run that is newer than the statistics Postgres expects a row or
# two, and would read the whole run for each article instead.
_WAITING = text(f"""
    {_TELLING} FROM article a
         JOIN LATERAL (SELECT meaning FROM article_meaning
                       WHERE run = a.run AND article_id = a.article_id LIMIT 1) v ON true
         LEFT JOIN LATERAL (SELECT true AS given FROM story_member
                            WHERE run = a.run AND article_id = a.article_id LIMIT 1) m ON true
    WHERE a.run = :run AND a.published_at < :until
      AND a.published_at >= coalesce(CAST(:since AS timestamptz), '-infinity') AND m.given IS NULL
    ORDER BY a.published_at, a.article_id LIMIT :limit
""")

_ITS_ARTICLE = "JOIN LATERAL (SELECT * FROM article WHERE run = m.run AND article_id = m.article_id LIMIT 1) a ON true"

_GIVEN_OUT = f"""
    {_TELLING}, m.story_id, m.novelty, m.reason, m.similarity_ppm
    FROM story_member m
         {_ITS_ARTICLE}
         LEFT JOIN LATERAL (SELECT meaning FROM article_meaning
                            WHERE run = m.run AND article_id = m.article_id LIMIT 1) v ON true
"""

# Of a story that began since then no member is older: there is an index on when each was told.
_REMEMBERED = text(f"""
    {_GIVEN_OUT}
         JOIN LATERAL (SELECT first_at FROM story WHERE run = m.run AND story_id = m.story_id LIMIT 1) s ON true
    WHERE m.run = :run AND m.at >= :since AND s.first_at >= :since ORDER BY m.seq
""")

_GIVEN = text(f"{_GIVEN_OUT} WHERE m.run = :run AND m.seq > :after ORDER BY m.seq")

# The article that a story is named after tells what has become of the story: it joined itself first.
_MERGED = text("""
    SELECT m.article_id AS younger, m.story_id AS older, s.first_at
    FROM story_member m JOIN story s USING (run, story_id)
    WHERE m.run = :run AND m.joined = m.article_id AND m.story_id <> m.article_id
      AND m.story_id IN (SELECT story_id FROM story_member WHERE run = :run AND seq > :after)
    ORDER BY m.seq
""")

_JOIN = text("""
    INSERT INTO story_member (run, article_id, story_id, joined, at, seq, novelty, reason, similarity_ppm)
    SELECT :run, article_id, story_id, story_id, at, seq, novelty, reason, similarity_ppm
    FROM unnest(CAST(:article_id AS text[]), CAST(:story_id AS text[]), CAST(:at AS timestamptz[]),
                CAST(:seq AS bigint[]), CAST(:novelty AS text[]), CAST(:reason AS text[]),
                CAST(:similarity_ppm AS int[]))
         AS input(article_id, story_id, at, seq, novelty, reason, similarity_ppm)
    ON CONFLICT (run, article_id) DO NOTHING
""")

# Summed up anew from the members, so that it is right whatever happened before.
_SUM_UP = text(f"""
    INSERT INTO story (run, story_id, title, first_source, first_lang, first_at, last_at, articles, sources, langs)
    SELECT :run, m.story_id, (array_agg(a.title ORDER BY a.published_at, a.article_id))[1],
           (array_agg(a.source ORDER BY a.published_at, a.article_id))[1],
           (array_agg(a.lang ORDER BY a.published_at, a.article_id))[1],
           min(a.published_at), max(a.published_at), count(*),
           array_agg(DISTINCT a.source), array_agg(DISTINCT a.lang)
    FROM story_member m
         {_ITS_ARTICLE}
    WHERE m.run = :run AND m.story_id = ANY(:stories) GROUP BY m.story_id
    ON CONFLICT (run, story_id) DO UPDATE
    SET title = excluded.title, first_source = excluded.first_source, first_lang = excluded.first_lang,
        first_at = excluded.first_at, last_at = excluded.last_at, articles = excluded.articles,
        sources = excluded.sources, langs = excluded.langs
""")

_MOVE_MEMBERS = text("UPDATE story_member SET story_id = :older WHERE run = :run AND story_id = :younger")

_MERGE = text("""
    UPDATE story SET merged_into = :older WHERE run = :run AND (story_id = :younger OR merged_into = :younger)
""")

# `cell` is a stretch of :step from :first on; a story counts in each cell that it is told in.
_COUNTS = text("""
    SELECT date_bin(CAST(:step AS interval), m.at, :first) AS cell, count(*) AS articles,
           count(DISTINCT m.story_id) AS stories, count(*) FILTER (WHERE m.novelty = 'first') AS first,
           count(*) FILTER (WHERE m.novelty = 'fresh') AS fresh,
           count(*) FILTER (WHERE m.novelty = 'repeated') AS repeated,
           count(DISTINCT m.story_id) FILTER (WHERE a.sentiment = 'negative') AS negative_stories
    FROM story_member m JOIN article a USING (run, article_id)
    WHERE m.run = :run AND m.at >= :first AND m.at < :end
      AND (CAST(:topics AS text[]) = '{}' OR a.topic = ANY(CAST(:topics AS text[])))
      AND (CAST(:langs AS text[]) = '{}' OR a.lang = ANY(CAST(:langs AS text[])))
      AND (:entity = '*' OR :entity = ANY(a.entities))
    GROUP BY cell ORDER BY cell
""")

_CARDS = text("""
    SELECT story_id, title, first_source, first_lang, first_at, last_at, articles, sources, langs FROM story
    WHERE run = :run AND merged_into IS NULL AND last_at >= :since
    ORDER BY articles DESC, first_at, story_id LIMIT :limit
""")

_TOLD = text("""
    SELECT a.article_id, a.published_at, a.source, a.lang, a.title, m.novelty, m.reason, m.similarity_ppm, m.joined
    FROM story_member m JOIN article a USING (run, article_id)
    WHERE m.run = :run AND m.story_id = :story_id ORDER BY a.published_at, a.article_id LIMIT :limit
""")


def available(engine: Engine) -> bool:
    """Whether this database can keep meanings: it has had pgvector when it was migrated."""
    with database("looking for pgvector"), engine.connect() as connection:
        return bool(connection.execute(_AVAILABLE).scalar_one())


def keep_meanings(connection: Connection, run: str, new: Iterable[ScoredArticle]) -> None:
    """Stores what new articles mean, in the transaction that stores them; only where `available`."""
    rows = [scored for scored in new if scored.score.meaning]
    if not rows:
        return
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor() as cursor, cursor.copy(_KEEP) as copy:
        copy.set_types(("text", "text", "bytea"))  # a meaning goes as the bytes that pgvector reads
        for scored in rows:
            copy.write_row((run, scored.article.article_id, _sent(scored.score.meaning)))


class PostgresStoryStore:
    """Implements `StoryStore`. Two workers are safe: the run's advisory lock lets one of them work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self, run: str) -> Iterator[StoryUnit | None]:
        """See `StoryStore.begin`."""
        with database(f"telling the stories of run {run}"), self._engine.begin() as connection:
            held = connection.execute(_TRY_LOCK, {"kind": ASSIGN, "run": run}).scalar_one()
            yield PostgresStoryUnit(connection, run) if held else None


@dataclass(frozen=True, slots=True)
class PostgresStoryUnit:
    """Implements `StoryUnit` on an open transaction."""

    connection: Connection
    run: str

    def watermark(self, idle_seconds: float) -> datetime | None:
        """See `StoryUnit.watermark`."""
        return PostgresAlertUnit(self.connection, self.run).watermark(idle_seconds)

    def assigned(self) -> tuple[int, datetime | None]:
        """See `StoryUnit.assigned`."""
        row = self.connection.execute(_ASSIGNED, {"run": self.run}).one()
        return int(row.given), row.newest

    def waiting(self, since: datetime | None, until: datetime, limit: int) -> list[Telling]:
        """See `StoryUnit.waiting`."""
        values = {"run": self.run, "since": since, "until": until, "limit": limit}
        return [_telling(row) for row in self.connection.execute(_WAITING, values)]

    def remembered(self, since: datetime) -> list[tuple[Telling, Assignment]]:
        """See `StoryUnit.remembered`."""
        rows = self.connection.execute(_REMEMBERED, {"run": self.run, "since": since})
        return [(_telling(row), _assignment(row)) for row in rows]

    def given(self, after: int) -> list[tuple[Telling, Assignment]]:
        """See `StoryUnit.given`."""
        rows = self.connection.execute(_GIVEN, {"run": self.run, "after": after})
        return [(_telling(row), _assignment(row)) for row in rows]

    def merged(self, after: int) -> list[tuple[Merge, datetime]]:
        """See `StoryUnit.merged`."""
        rows = self.connection.execute(_MERGED, {"run": self.run, "after": after})
        return [(Merge(row.younger, row.older), row.first_at) for row in rows]

    def save(self, run_from: int, given: Sequence[tuple[Telling, Assignment]]) -> None:
        """See `StoryUnit.save`."""
        assignments = [assignment for _, assignment in given]
        columns: dict[str, list[object]] = {
            "article_id": [a.article_id for a in assignments],
            "story_id": [a.story_id for a in assignments],
            "at": [telling.at for telling, _ in given],
            "seq": [run_from + place for place in range(1, len(given) + 1)],
            "novelty": [a.novelty.value for a in assignments],
            "reason": [a.reason.value for a in assignments],
            "similarity_ppm": [round(a.similarity * PPM) for a in assignments],
        }
        self.connection.execute(_JOIN, {"run": self.run, **columns})
        self._sum_up({a.story_id for a in assignments})
        merges = [merge for a in assignments for merge in a.merges]
        for merge in merges:
            self._merge(merge)
        self._sum_up({merge.older for merge in merges})

    def _sum_up(self, stories: set[str]) -> None:
        if stories:
            self.connection.execute(_SUM_UP, {"run": self.run, "stories": sorted(stories)})

    def _merge(self, merge: Merge) -> None:
        values = {"run": self.run, "older": merge.older, "younger": merge.younger}
        self.connection.execute(_MOVE_MEMBERS, values)
        self.connection.execute(_MERGE, values)


@dataclass(frozen=True, slots=True)
class Selection:
    """A series of a run over a time, in cells of `step`; no topic, no language and `*` are all."""

    run: str
    first: datetime
    end: datetime
    step: timedelta
    topics: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    entity: str = "*"


def counts(engine: Engine, selection: Selection) -> list[dict[str, Any]]:
    """Articles, distinct stories and novelty per cell, ascending; cells without articles are left out."""
    values = {name: getattr(selection, name) for name in Selection.__slots__}
    values |= {"topics": list(selection.topics), "langs": list(selection.langs)}
    with database("counting stories"), engine.connect() as connection:
        return [dict(row) for row in connection.execute(_COUNTS, values).mappings()]


def cards(engine: Engine, run: str, since: datetime, limit: int) -> list[dict[str, Any]]:
    """The stories told since then, the most told first: title, first source, spread over sources and languages."""
    with database("reading stories"), engine.connect() as connection:
        values = {"run": run, "since": since, "limit": limit}
        return [dict(row) for row in connection.execute(_CARDS, values).mappings()]


def told(engine: Engine, run: str, story_id: str, limit: int = 200) -> list[dict[str, Any]]:
    """The articles of a story, by event time, with why each is in it."""
    with database("reading a story"), engine.connect() as connection:
        values = {"run": run, "story_id": story_id, "limit": limit}
        return [dict(row) for row in connection.execute(_TOLD, values).mappings()]


def _telling(row: Any) -> Telling:
    meaning = _received(row.meaning) if row.meaning is not None else b""
    return Telling(row.article_id, row.published_at, row.source, row.lang, row.title, row.title_key,
                   tuple(row.entities), meaning, row.model)  # fmt: skip


def _assignment(row: Any) -> Assignment:
    similarity = row.similarity_ppm / PPM
    return Assignment(row.article_id, row.story_id, Novelty(row.novelty), Reason(row.reason), similarity)


def _sent(packed: bytes) -> bytes:
    """A packed meaning as pgvector sends and receives vectors: the width and 0, of two bytes each, then the entries."""
    return struct.pack("!hh", len(packed), 0) + np.frombuffer(packed, np.int8).astype(">f4").tobytes()


def _received(vector: bytes) -> bytes:
    """The packed meaning of what `_sent` made; `real[]` would take ten times as long to read."""
    return np.frombuffer(vector, ">f4", offset=4).astype(np.int8).tobytes()
