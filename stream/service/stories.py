"""The story engine: closed minutes in, a story for each article out, in one transaction per batch.

Like alerts, stories are a function of articles in event time: an article is given its story once its minute is closed,
in the order of event time and id. So live and replay agree however the articles arrived; one that comes late is put
where it fits best by then. A crash between two transactions, or inside one, changes nothing, nor does another worker's
turn: what it gave is read and put into the memory as if this one had given it.

The alert engine may only look at minutes whose articles have their stories: `tick` returns how far that is.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from crosswind.stream.domain.bucket import minute_of
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.domain.stories.story import Assignment, Merge, Telling
from crosswind.stream.service.alerting import looked_at_from

LOOK_BACK = timedelta(minutes=10)
"""Event time after which they are looked for in the whole window: a fifth of a second where it has 180,000 articles."""


class StoryUnit(Protocol):
    """One transaction that holds the run's stories: nothing of it is seen before it ends well."""

    def watermark(self, idle_seconds: float) -> datetime | None:
        """The event time that every partition has reached; see `AlertUnit.watermark`."""
        ...

    def assigned(self) -> tuple[int, datetime | None]:
        """How many articles the run has assigned so far, and the newest of their event times."""
        ...

    def waiting(self, since: datetime | None, until: datetime, limit: int) -> list[Telling]:
        """Articles without a story that have a meaning, from `since` to before `until`, by event time and id."""
        ...

    def remembered(self, since: datetime) -> list[tuple[Telling, Assignment]]:
        """The articles of all stories that began at `since` or later, in the order in which they were given them."""
        ...

    def given(self, after: int) -> list[tuple[Telling, Assignment]]:
        """What was assigned after the first `after` articles, in that order, with the stories as they are."""
        ...

    def merged(self, after: int) -> list[tuple[Merge, datetime]]:
        """Parts of the stories that got an article after the first `after`; with when the whole one began."""
        ...

    def save(self, run_from: int, given: Sequence[tuple[Telling, Assignment]]) -> None:
        """Writes where articles belong, numbered after `run_from`; what they made of stories; and merges, in order."""
        ...


class StoryStore(Protocol):
    """Where stories live."""

    def begin(self, run: str) -> AbstractContextManager[StoryUnit | None]:
        """A transaction that holds the run; None when another worker holds it.

        Raises:
            DatabaseError: nothing was changed; safe to begin again.
        """
        ...


class StoryEngine:
    """Assigns what has closed since the last tick. Not safe for threads: one task ticks it.

    Args:
        make: makes the empty memory of recent stories.
        lateness: event time that a minute stays open after it ends; that of the alert engine.
        idle_seconds: a partition silent this long no longer holds the watermark.
        window: how long a story is remembered after its first article; that of `make`'s stories.
        chunk: articles per transaction at most.
    """

    def __init__(
        self, store: StoryStore, run: str, make: Callable[[], Stories], lateness: timedelta, idle_seconds: float,
        window: timedelta = timedelta(days=3), chunk: int = 1000,
    ) -> None:  # fmt: skip
        self._store, self._run, self._make = store, run, make
        self._lateness, self._idle, self._window, self._chunk = lateness, idle_seconds, window, chunk
        self._memory: Stories | None = None
        self._known = 0
        self._newest: datetime | None = None
        self._looked: datetime | None = None

    def tick(self) -> datetime | None:
        """Gives every closed article its story.

        Returns:
            the watermark up to which that is done, for the alert engine's tick; None when there is none yet or
            another worker is at it.

        Raises:
            DatabaseError: what was committed before stays; safe to tick again.
        """
        while True:
            try:
                mark, more = self._batch()
            except BaseException:
                self._memory = None  # it may be ahead of what was committed
                raise
            if not more:
                return mark

    def _batch(self) -> tuple[datetime | None, bool]:
        with self._store.begin(self._run) as unit:
            mark = unit.watermark(self._idle) if unit else None
            if unit is None or mark is None:
                return None, False
            count, newest = unit.assigned()
            until = minute_of(mark - self._lateness)
            far = self._looked is None or until >= self._looked + LOOK_BACK
            waiting = unit.waiting(self._since(newest, far) if newest else None, until, self._chunk)
            if far and len(waiting) < self._chunk:
                self._looked = until
            if waiting:
                memory = self._remember(unit, count, newest)
                unit.save(count, [(telling, memory.assign(telling)) for telling in waiting])
                self._known, self._newest = count + len(waiting), max(newest or waiting[-1].at, waiting[-1].at)
            return mark, len(waiting) == self._chunk

    def _since(self, newest: datetime, far: bool) -> datetime:
        """From where late articles are looked for: no less than alerts look at, so that these have their stories."""
        window = newest - self._window
        return window if far else max(window, looked_at_from(newest))

    def _remember(self, unit: StoryUnit, count: int, newest: datetime | None) -> Stories:
        """The recent stories: from memory, with what another worker gave since; read whole where that is no less."""
        if newest is None or self._newest is None or self._known > count or self._newest < newest - self._window:
            self._memory = None  # the run's rows were deleted, or all that it knows is over
        if self._memory is None:
            self._memory = self._make()
            _put(self._memory, unit.remembered(newest - self._window) if newest else ())
        elif self._known < count:
            for merge, began in unit.merged(self._known):
                self._memory.unite(merge, began)
            _put(self._memory, unit.given(self._known))
        return self._memory


def _put(memory: Stories, given: Iterable[tuple[Telling, Assignment]]) -> None:
    for telling, was in given:
        memory.restore(telling, was.story_id, was.novelty, was.reason, was.similarity)
