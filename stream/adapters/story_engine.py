"""The worker's story engine, or why there is none."""

from datetime import timedelta

import structlog
from sqlalchemy import Engine

from crosswind.stream.adapters.postgres.stories import PostgresStoryStore, available
from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.service.ports import Scorer
from crosswind.stream.service.stories import StoryEngine

PROBE = "Bank fails"
_log = structlog.get_logger(__name__)


def story_engine(
    engine: Engine, run: str, lateness: timedelta, idle_seconds: float, wanted: bool
) -> StoryEngine | None:
    """The engine of a run's stories; None where they are not wanted or the database lacks pgvector, which is logged."""
    if not wanted:
        _log.info("stories are off: the setting `stories` says so")
        return None
    if not available(engine):
        _log.warning("stories are off: the database has no pgvector; create the extension `vector`, then migrate anew")
        return None
    return StoryEngine(PostgresStoryStore(engine), run, lambda: Stories(StoryIndex), lateness, idle_seconds)


def keeps_meanings(engine: Engine, scorer: Scorer, wanted: bool) -> bool:
    """Whether meanings are to be stored with articles. A model that gives none is logged: a later one may give them."""
    if not wanted or not available(engine):
        return False
    if not scorer.score([PROBE])[0].meaning:
        _log.warning(
            "no stories: the bundle has no output `meaning`; give it one with python -m crosswind.models.projection",
            model=scorer.version,
        )
    return True
