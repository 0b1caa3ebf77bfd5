"""Scoring stored articles with another bundle: all of history on demand, or what arrives, beside the live one.

Nothing of it is published: articles, buckets and alerts stay as they are; the scores go to `score_version`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres import score_versions
from crosswind.stream.adapters.postgres.alerts import PostgresAlertUnit
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.score_versions import Selection
from crosswind.stream.service.deployment import (
    Candidate,
    Deployment,
    DeploymentBook,
    Event,
    Kind,
    Slot,
    event_of,
    explain,
)
from crosswind.stream.service.ports import Scorer

CHUNK = 256
"""Articles per transaction of a rescoring: what an interruption can cost."""
SHADOW_CHUNK = 32
"""Articles that a shadow scores per turn: it shares the processor with the live bundle."""
LATE = timedelta(minutes=2)
"""Event time by which a shadow looks back for articles that came late; later ones are not compared."""


def rescore(
    engine: Engine, selection: Selection, scorer: Scorer, progress: Callable[[int], object],
    dropped: Callable[[int], object] = lambda _: None,
) -> int:  # fmt: skip
    """Scores what the bundle has not scored yet, oldest first; an interrupted rescoring goes on where it was.

    Args:
        progress: called with the number of articles after each chunk is committed.
        dropped: called with how many of them were dropped meanwhile (see `retention`), where there are any.

    Returns:
        the number of articles scored now.

    Raises:
        DatabaseError: the database cannot be reached; what was committed stays.
    """
    done, after = 0, None
    while True:
        with database("rescoring"), engine.begin() as connection:
            found = score_versions.unscored(connection, selection, CHUNK, after)
            if not found:
                return done
            scores = scorer.score([article.text for article in found])
            rows = [(article.article_id, score) for article, score in zip(found, scores, strict=True)]
            gone = score_versions.write(connection, selection.run, selection.model, rows)
        after = (found[-1].published_at, found[-1].article_id)
        done += len(found) - gone
        progress(len(found))
        if gone:
            dropped(gone)


class Shadow:
    """Scores a share of what arrives with the bundle in the run's shadow slot. One thread calls `tick`.

    Args:
        load: gives a verified, loaded and smoke-tested scorer, or raises.
        idle_seconds: a partition silent this long no longer says where event time is.
    """

    def __init__(
        self, run: str, worker: str, engine: Engine, book: DeploymentBook, load: Callable[[Deployment], Candidate],
        idle_seconds: float = 3.0,
    ) -> None:  # fmt: skip
        self._run, self._worker, self._engine, self._book, self._load = run, worker, engine, book, load
        self._idle = idle_seconds
        self._wish: Deployment | None = None
        self._scorer: Candidate | None = None
        self._since: datetime | None = None

    def tick(self) -> tuple[Event | None, int]:
        """Follows the wish and scores one chunk; returns what is new of the wish, and the articles scored.

        A candidate that fails at scoring is put away until there is a new wish.

        Raises:
            DatabaseError: the database cannot be reached; the next tick goes on.
        """
        event = self._follow()
        try:
            return event, self._score()
        except DatabaseError:
            raise
        except Exception as error:  # whatever a candidate does to an article, the stream goes on
            return self._give_up(error), 0

    def close(self) -> None:
        """Frees the candidate."""
        if self._scorer:
            self._scorer.close()
        self._scorer = self._since = None

    def _follow(self) -> Event | None:
        wanted = self._book.wanted(self._run, Slot.SHADOW)
        if wanted is None or (self._wish and self._wish.seq == wanted.seq):
            return None
        self.close()
        event = self._open(wanted)
        self._book.record(self._run, event)
        self._wish = wanted
        return event

    def _give_up(self, error: Exception) -> Event | None:
        if self._wish is None:
            return None
        event = event_of(self._wish, Kind.FAILED, self._worker, explain(error))
        self._book.record(self._run, event)  # first: what is not written down is tried, and fails, once more
        self.close()
        return event

    def _open(self, wanted: Deployment) -> Event:
        if not wanted.version:
            return event_of(wanted, Kind.ENDED, self._worker)
        try:
            self._scorer = self._load(wanted)
        except DatabaseError:
            raise
        except Exception as error:  # whatever a bundle does to a loader, the stream goes on
            return event_of(wanted, Kind.FAILED, self._worker, explain(error))
        return event_of(wanted, Kind.ACTIVE, self._worker)

    def _score(self) -> int:
        wish, scorer = self._wish, self._scorer
        if wish is None or scorer is None:
            return 0
        with database("shadowing"), self._engine.begin() as connection:
            if not score_versions.try_lock(connection, self._run):
                return 0
            now = PostgresAlertUnit(connection, self._run).watermark(self._idle)
            if now is None:
                return 0
            self._since = self._since or now - LATE
            selection = Selection(self._run, wish.version, self._since, share_ppm=wish.share_ppm)
            found = score_versions.unscored(connection, selection, SHADOW_CHUNK)
            scores = scorer.score([article.text for article in found]) if found else []
            rows = [(article.article_id, score) for article, score in zip(found, scores, strict=True)]
            if rows:
                score_versions.write(connection, self._run, wish.version, rows)
        behind = found[-1].published_at if len(found) == SHADOW_CHUNK else now
        self._since = max(self._since, min(behind, now) - LATE)
        return len(found)
