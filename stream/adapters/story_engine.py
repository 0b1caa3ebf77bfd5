"""The worker's story engine, or why there is none."""

from datetime import timedelta

import structlog
from sqlalchemy import Engine

from crosswind.stream.adapters.postgres.stories import PostgresStoryStore, available
from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.service.stories import StoryEngine

_log = structlog.get_logger(__name__)


def story_engine(
    engine: Engine, run: str, lateness: timedelta, idle_seconds: float, wanted: bool
) -> StoryEngine | None:
    """The engine of a run's stories; None where they are not wanted or the database lacks pgvector, which is logged."""
    if not wanted:
        return None
    if not available(engine):
        _log.warning("stories are off: the database has no pgvector; create the extension `vector`, then migrate anew")
        return None
    return StoryEngine(PostgresStoryStore(engine), run, lambda: Stories(StoryIndex), lateness, idle_seconds)
