"""Alerts and stories of a replay through Kafka: the live engines on the run's rows, with the replay's event time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from crosswind.stream.adapters.postgres.alerts import PostgresAlertUnit
from crosswind.stream.adapters.postgres.stories import PostgresStoryUnit, available
from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.service.alerting import AlertUnit
from crosswind.stream.service.stories import StoryEngine, StoryUnit


@dataclass(frozen=True, slots=True)
class ClosedUnit(PostgresAlertUnit):
    """A transaction on the run's rows, with event time as the replay has it."""

    mark: datetime | None = None

    def watermark(self, idle_seconds: float) -> datetime | None:
        """See `AlertUnit.watermark`."""
        return self.mark


@dataclass(slots=True)
class ClosedStore:
    """Implements `AlertStore`; the worker evaluates nothing, so no lock is needed against it."""

    engine: Engine
    mark: datetime | None = None

    @contextmanager
    def begin(self, run: str) -> Iterator[AlertUnit | None]:
        """See `AlertStore.begin`."""
        with self.engine.begin() as connection:
            yield ClosedUnit(connection, run, self.mark)


@dataclass(frozen=True, slots=True)
class ClosedStoryUnit(PostgresStoryUnit):
    """A transaction on the run's rows."""

    mark: datetime | None = None

    def watermark(self, idle_seconds: float) -> datetime | None:
        """See `StoryUnit.watermark`."""
        return self.mark


@dataclass(slots=True)
class ClosedStories:
    """Implements `StoryStore`; the run's worker gives no stories, so no lock is needed against it."""

    engine: Engine
    mark: datetime | None = None

    @contextmanager
    def begin(self, run: str) -> Iterator[StoryUnit | None]:
        """See `StoryStore.begin`."""
        with self.engine.begin() as connection:
            yield ClosedStoryUnit(connection, run, self.mark)


class Teller:
    """Gives the articles of a run their stories, up to a moment of event time; does nothing where there are none."""

    def __init__(self, engine: Engine, run: str, lateness: timedelta, wanted: bool) -> None:
        self._store = ClosedStories(engine)
        on = wanted and available(engine)
        self._engine = StoryEngine(self._store, run, lambda: Stories(StoryIndex), lateness, 0.0) if on else None

    def tell(self, mark: datetime | None) -> None:
        """Gives stories to what is closed at `mark`.

        Raises:
            DatabaseError: safe to call again.
        """
        self._store.mark = mark
        if self._engine is not None:
            self._engine.tick()
