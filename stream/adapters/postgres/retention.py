"""Dropping what is old, in bounded batches, beside workers that store.

An article that was dropped must not count again when its message is delivered again, e.g. when a topic is replayed. So:

 1. The horizon is moved in a transaction that locks `article` against writers, so that none is half-way through.
 2. Rows before it are dropped, a batch per transaction; readers and writers go on meanwhile.
 3. A writer asks for the horizon after it has inserted (`PostgresTrendStore`), and takes back what lies before.

A writer that inserted before 1 has committed by then, and its rows go with 2. One that inserts after 1 sees the new
horizon in 3.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.domain.retention import Horizons, Policy, Swept

BATCH = 5000
"""Rows per transaction: some tens of milliseconds."""
RETAIN = 0x63777274
"""Class of advisory locks, one per run: who drops."""
LOCK_SECONDS = 5
"""Writers wait behind the lock of step 1 while it waits for those before it."""

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:kind, hashtext(:run))")
_EVALUATED = text("SELECT evaluated_to FROM engine WHERE run = :run")
_STAND_STILL = (text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"), text("LOCK TABLE article IN SHARE MODE"))

_MOVE = text("""
    INSERT INTO retention (run, articles_before, minutes_before, swept_at)
    VALUES (:run, :articles, :minutes, clock_timestamp())
    ON CONFLICT (run) DO UPDATE
    SET articles_before = GREATEST(retention.articles_before, excluded.articles_before),
        minutes_before = GREATEST(retention.minutes_before, excluded.minutes_before), swept_at = excluded.swept_at
    RETURNING articles_before, minutes_before
""")

# Evidence of incidents stays: an alert of last year can be shown with what it rested on. No NOT IN: where its list
# is larger than `work_mem`, at some 30,000 incidents, Postgres goes through the whole list anew for every article.
_OLD_ARTICLES = """
    FROM article a WHERE run = :run AND published_at < :before
    AND NOT EXISTS (SELECT FROM (SELECT unnest(evidence) AS kept FROM incident WHERE run = :run) e
                    WHERE e.kept = a.article_id)
"""
_OLD_MINUTES = "FROM bucket WHERE run = :run AND minute < :before"
_OLD_DUPLICATES = """
    FROM duplicate d WHERE run = :run AND first_seen_at < :before
    AND NOT EXISTS (SELECT FROM article a WHERE a.run = d.run AND a.article_id = d.article_id)
"""
_OLD_STORIES = """
    FROM story s WHERE run = :run AND last_at < :before
    AND NOT EXISTS (SELECT FROM story_member m WHERE m.run = s.run AND m.story_id = s.story_id)
"""
_KINDS = {
    "articles": ("article", _OLD_ARTICLES, "articles"),
    "minutes": ("bucket", _OLD_MINUTES, "minutes"),
    "duplicates": ("duplicate", _OLD_DUPLICATES, "articles"),
    "stories": ("story", _OLD_STORIES, "articles"),
}
"""Field of `Swept` -> table, its old rows, the horizon that they lie before. In this order: articles come first."""


def sweep(
    engine: Engine, run: str, policy: Policy, *, batch: int = BATCH, go_on: Callable[[], bool] = lambda: True
) -> Swept | None:
    """Drops everything that the policy no longer keeps; safe beside workers, and to be cut off at any moment.

    Args:
        go_on: asked between batches; False ends the sweep, and the next one goes on from there.

    Returns:
        What was dropped; None when another process is at it.

    Raises:
        DatabaseError: what was dropped so far stays dropped; safe to call again.
    """
    with database(f"moving the horizon of run {run}"), engine.begin() as connection:
        if not _held(connection, run):
            return None
        horizons = _move(connection, run, policy)
    dropped = dict.fromkeys(asdict(Swept()), 0)
    for kind, (_, _, horizon) in _KINDS.items():
        before = getattr(horizons, horizon) if horizons else None
        while before is not None and go_on():
            with database(f"dropping old {kind} of run {run}"), engine.begin() as connection:
                rows = _drop(connection, kind, run, before, batch) if _held(connection, run) else 0
            dropped[kind] += rows
            if rows < batch:
                break
    return Swept(**dropped)


def preview(engine: Engine, run: str, policy: Policy) -> Swept:
    """What a sweep would drop now; stories and duplicates only those whose articles are gone already.

    Raises:
        DatabaseError: the database cannot be asked.
    """
    counted = dict.fromkeys(asdict(Swept()), 0)
    with database(f"counting what is old in run {run}"), engine.connect() as connection:
        evaluated_to = connection.execute(_EVALUATED, {"run": run}).scalar_one_or_none()
        if evaluated_to is None:
            return Swept()
        horizons = policy.horizons(evaluated_to)
        for kind, (_, old, horizon) in _KINDS.items():
            before = getattr(horizons, horizon)
            if before is not None:
                values = {"run": run, "before": before}
                counted[kind] = int(connection.execute(text(f"SELECT count(*) {old}"), values).scalar_one())
    return Swept(**counted)


def _held(connection: Connection, run: str) -> bool:
    return bool(connection.execute(_TRY_LOCK, {"kind": RETAIN, "run": run}).scalar_one())


def _move(connection: Connection, run: str, policy: Policy) -> Horizons | None:
    """Moves the horizons on; None before anything was evaluated."""
    evaluated_to = connection.execute(_EVALUATED, {"run": run}).scalar_one_or_none()
    if evaluated_to is None:
        return None
    wanted = policy.horizons(evaluated_to)
    if wanted.articles is not None:
        for statement in _STAND_STILL:
            connection.execute(statement)
    values = {"run": run, "articles": wanted.articles, "minutes": wanted.minutes}
    row = connection.execute(_MOVE, values).one()
    return Horizons(row.articles_before, row.minutes_before)


def _drop(connection: Connection, kind: str, run: str, before: datetime, batch: int) -> int:
    table, old, _ = _KINDS[kind]
    values: dict[str, Any] = {"run": run, "before": before, "batch": batch}
    statement = f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid {old} LIMIT :batch))"
    return int(connection.execute(text(statement), values).rowcount)
