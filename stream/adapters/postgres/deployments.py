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

    def live_at(self, run: str, at: datetime | None = None) -> Live | None:
        """The bundle that was live at a moment (None: now); None before the first worker started."""
        with database("reading what was live"), self._engine.connect() as connection:
            row = connection.execute(_LIVE_AT, {"run": run, "at": at}).one_or_none()
        return None if row is None else Live(row.version, row.address, row.worker, row.at, row.seq)

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


def started(version: str, address: str, worker: str) -> Event:
    """The event of a worker that starts with a bundle which nobody deployed: that of its settings."""
    return Event(None, Slot.LIVE, Kind.ACTIVE, version, address, worker, "from the worker's settings")


def _deployment(row: Any) -> Deployment:
    return Deployment(row.seq, Slot(row.slot), row.version, row.address, row.share_ppm, row.at, row.reason)
