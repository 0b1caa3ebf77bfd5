"""Deployments on Postgres: wishes, events, and what was live when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text

from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.service.deployment import PPM, Deployment, Event, Kind, Slot

_COLUMNS = "seq, slot, version, address, share_ppm, at, reason"

_WANTED = text(f"SELECT {_COLUMNS} FROM deployment WHERE run = :run AND slot = :slot ORDER BY seq DESC LIMIT 1")

_WISH = text(f"""
    INSERT INTO deployment (run, slot, version, address, share_ppm, reason)
    VALUES (:run, :slot, :version, :address, :share_ppm, :reason) RETURNING {_COLUMNS}
""")

_NEWEST = text("SELECT coalesce(max(seq), 0) FROM deployment WHERE run = :run AND slot = :slot")

_ONE_AFTER_THE_OTHER = text("SELECT pg_advisory_xact_lock(hashtextextended('deployment ' || :run, 0))")

_RECORD = text("""
    INSERT INTO deployment_event (run, deployment_seq, slot, kind, version, address, worker, message)
    VALUES (:run, :seq, :slot, :kind, :version, :address, :worker, :message)
""")

_HISTORY = text("""
    SELECT deployment_seq AS seq, slot, kind AS what, version, address, worker, message, at
    FROM deployment_event WHERE run = :run
    UNION ALL
    SELECT seq, slot, reason, version, address, '', '', at FROM deployment WHERE run = :run
    ORDER BY at DESC, what LIMIT :limit
""")

_OUTCOMES = text("""
    SELECT kind, worker, message, at FROM deployment_event
    WHERE run = :run AND deployment_seq = :seq ORDER BY event_id
""")

_LIVE_AT = text("""
    SELECT version, address, worker, at, deployment_seq AS seq FROM deployment_event
    WHERE run = :run AND slot = 'live' AND kind = 'active' AND at <= coalesce(:at, clock_timestamp())
    ORDER BY at DESC, event_id DESC LIMIT 1
""")

_LIVED = text("""
    SELECT version, address, worker, at, deployment_seq AS seq FROM (
        SELECT DISTINCT ON (version) * FROM deployment_event
        WHERE run = :run AND slot = 'live' AND kind = 'active' ORDER BY version, at DESC, event_id DESC
    ) AS latest ORDER BY at DESC, event_id DESC LIMIT :limit
""")

_WAS_LIVE = text("""
    SELECT EXISTS (SELECT FROM deployment_event
                   WHERE run = :run AND slot = 'live' AND kind = 'active' AND version = :version)
""")

# A worker that wrote nothing since the wish before, a minute or more ago, is taken to be gone; it may still be at that
# wish when the next comes sooner.
_SILENT = text("""
    SELECT worker FROM deployment_event WHERE run = :run GROUP BY worker
    HAVING NOT coalesce(bool_or(deployment_seq = :seq), false)
       AND max(at) >= coalesce((SELECT max(at) FROM deployment
                                WHERE run = :run AND slot = :slot AND seq < :seq
                                  AND at < CAST(:at AS timestamptz) - interval '1 minute'), '-infinity')
    ORDER BY max(at) DESC, worker
""")

_FORMER = text("""
    SELECT version, address FROM deployment_event
    WHERE run = :run AND slot = 'live' AND kind = 'active' AND version <> :version
    ORDER BY at DESC, event_id DESC LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Live:
    """Which bundle was live, since when, as the worker that switched last wrote it down."""

    version: str
    address: str
    worker: str
    at: datetime
    seq: int | None


class PostgresDeployments:
    """Implements `DeploymentBook`, and what the command line needs besides. All times are the database's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wanted(self, run: str, slot: Slot) -> Deployment | None:
        """See `DeploymentBook.wanted`."""
        with database("reading the deployments"), self._engine.connect() as connection:
            row = connection.execute(_WANTED, {"run": run, "slot": slot.value}).one_or_none()
        return None if row is None else _deployment(row)

    def record(self, run: str, event: Event) -> None:
        """See `DeploymentBook.record`."""
        values = {
            "run": run, "seq": event.seq, "slot": event.slot.value, "kind": event.kind.value,
            "version": event.version, "address": event.address, "worker": event.worker, "message": event.message,
        }  # fmt: skip
        with database("writing a deployment's event"), self._engine.begin() as connection:
            connection.execute(_RECORD, values)

    def wish(
        self, run: str, slot: Slot, version: str, address: str, *, reason: str, share_ppm: int = PPM,
        over: int | None = None,
    ) -> Deployment:  # fmt: skip
        """Writes down what shall be live, or in shadow, from now on.

        Args:
            over: `seq` of the newest wish that whoever wishes knows of, 0: none; None: never mind. Two people who roll
                back at the same time would else be where they were.

        Raises:
            DataError: there is a newer wish than `over`.
            DatabaseError: it was not written.
        """
        values = {
            "run": run, "slot": slot.value, "version": version, "address": address, "share_ppm": share_ppm,
            "reason": reason,
        }  # fmt: skip
        with database("writing a deployment"), self._engine.begin() as connection:
            connection.execute(_ONE_AFTER_THE_OTHER, {"run": run})
            newest = connection.execute(_NEWEST, {"run": run, "slot": slot.value}).scalar()
            if over is not None and newest != over:
                raise DataError(f"deployment {newest} came after {over}: somebody else was quicker; look again")
            return _deployment(connection.execute(_WISH, values).one())

    def outcomes(self, run: str, seq: int) -> list[dict[str, Any]]:
        """What became of one deployment: kind, worker, message, at; in the order of their writing."""
        with database("reading a deployment's events"), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(_OUTCOMES, {"run": run, "seq": seq}).mappings()]

    def silent(self, run: str, wished: Deployment) -> list[str]:
        """Workers that seem to run and have not said what became of a wish, the last that said something first.

        Every worker writes an event when it starts, and one per wish. There is no word of its end, so one that ended
        since the wish before seems to run, too.
        """
        values = {"run": run, "seq": wished.seq, "slot": wished.slot.value, "at": wished.at}
        with database("reading the deployments' events"), self._engine.connect() as connection:
            return list(connection.execute(_SILENT, values).scalars())

    def live_at(self, run: str, at: datetime | None = None) -> Live | None:
        """The bundle that was live at a moment (None: now); None before the first worker started."""
        with database("reading what was live"), self._engine.connect() as connection:
            row = connection.execute(_LIVE_AT, {"run": run, "at": at}).one_or_none()
        return None if row is None else Live(row.version, row.address, row.worker, row.at, row.seq)

    def lived(self, run: str, limit: int) -> list[Live]:
        """The bundles that were live, each once, the last first."""
        with database("reading what was live"), self._engine.connect() as connection:
            rows = connection.execute(_LIVED, {"run": run, "limit": limit}).all()
        return [Live(row.version, row.address, row.worker, row.at, row.seq) for row in rows]

    def was_live(self, run: str, version: str) -> bool:
        """Whether a worker of the run ever had this version live."""
        with database("reading what was live"), self._engine.connect() as connection:
            return bool(connection.execute(_WAS_LIVE, {"run": run, "version": version}).scalar_one())

    def former(self, run: str, version: str) -> tuple[str, str] | None:
        """Version and address of the last bundle that was live and is not of this version."""
        with database("reading what was live"), self._engine.connect() as connection:
            row = connection.execute(_FORMER, {"run": run, "version": version}).one_or_none()
        return None if row is None else (row.version, row.address)

    def before(self, run: str) -> tuple[str, str] | None:
        """Version and address of what a rollback puts live; None: nothing else was live before.

        After a deployment that no worker took up, or all refused, that is what is still live.
        """
        wanted, live = self.wanted(run, Slot.LIVE), self.live_at(run)
        return self.former(run, wanted.version if wanted else live.version if live else "")

    def history(self, run: str, limit: int = 100) -> list[dict[str, Any]]:
        """Wishes and events of a run, newest first: seq, slot, what, version, address, worker, message, at."""
        with database("reading the deployments"), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(_HISTORY, {"run": run, "limit": limit}).mappings()]


def started(version: str, address: str, worker: str, why: str = "from the worker's settings") -> Event:
    """The event of a worker that starts with a bundle which is not the deployed one."""
    return Event(None, Slot.LIVE, Kind.ACTIVE, version, address, worker, why)


def _deployment(row: Any) -> Deployment:
    return Deployment(row.seq, Slot(row.slot), row.version, row.address, row.share_ppm, row.at, row.reason)
