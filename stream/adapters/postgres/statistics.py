"""Statistics for Postgres' planner while a database is young.

One that was just made knows nothing of its tables until autovacuum comes by, up to a minute later. Until then plans are
those for empty tables: the foreign key of a story's member was checked by an index over the whole run, 65 µs for each
of 1,200 articles, and more with every article, where 4 are enough.
"""

import structlog
from sqlalchemy import Engine, text

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres.errors import database

LOOKS = (1_000, 10_000)
"""Articles that a process has stored when it looks whether the planner knows of them."""
TABLES = ("article", "duplicate", "bucket", "bucket_hour", "article_meaning", "story", "story_member")

_KNOWN = text("SELECT reltuples FROM pg_class WHERE oid = to_regclass('article')")
_THERE = text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NOT NULL")
_log = structlog.get_logger(__name__)


class YoungDatabase:
    """Looks after a process has stored some articles, and again after some more; then never again."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._stored, self._left = engine, 0, list(LOOKS)

    def stored(self, articles: int) -> None:
        """So many more are stored and committed. A failure is logged: nothing rests on this but speed."""
        self._stored += articles
        if not self._left or self._stored < self._left[0]:
            return
        look = self._left.pop(0)
        try:
            self._analyze_below(look)
        except DatabaseError as error:
            _log.info("the tables' statistics are left to autovacuum", error=str(error)[:200])

    def _analyze_below(self, known: int) -> None:
        """Where the planner knows of fewer articles than this. An old database is left to autovacuum."""
        with database("looking at the tables' statistics"), self._engine.begin() as connection:
            if connection.execute(_KNOWN).scalar_one() >= known / 2:
                return
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))  # autovacuum, or another worker, is at it
            there = connection.execute(_THERE, {"names": list(TABLES)}).scalars().all()
            connection.execute(text(f"ANALYZE {', '.join(there)}"))  # names of ours, from `TABLES`
