"""Subscriptions on Postgres: made, changed, paused, read, ended; their delivery log, and their stream."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

import msgspec
from sqlalchemy import Engine, text

from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.domain.subscription import Channel, Draft, Filter, Standing, check
from crosswind.stream.notify.domain.timing import Quiet
from crosswind.structs import known

known(Alert)

ALL = "*"
"""The owner that sees every subscription: the command line."""

_COLUMNS = """subscription_id, owner, name, topics, langs, entities, min_severity, channel, shown, language, quiet,
    cap_per_hour, digest_minutes, template, state, state_reason, failures, created_at, updated_at"""
_INSERT = text("""
    INSERT INTO subscription (subscription_id, run, owner, name, topics, langs, entities, min_severity, channel, lane,
        shown, sealed, language, quiet, cap_per_hour, digest_minutes, template, state, state_reason, failures,
        created_at, updated_at)
    VALUES (:subscription_id, :run, :owner, :name, :topics, :langs, :entities, :min_severity, :channel, :lane,
        :shown, :sealed, :language, CAST(:quiet AS jsonb), :cap_per_hour, :digest_minutes, :template, 'active', '', 0,
        clock_timestamp(), clock_timestamp())
""")
_UPDATE = text("""
    UPDATE subscription SET name = :name, topics = :topics, langs = :langs, entities = :entities,
        min_severity = :min_severity, language = :language, quiet = CAST(:quiet AS jsonb), template = :template,
        cap_per_hour = :cap_per_hour, digest_minutes = :digest_minutes, updated_at = clock_timestamp()
    WHERE subscription_id = :subscription_id
""")
_OWNED = "run = :run AND (owner = :owner OR :owner = '*')"
_SELECT = text(f"SELECT {_COLUMNS} FROM subscription WHERE {_OWNED} ORDER BY created_at, subscription_id")
_ONE = text(f"SELECT {_COLUMNS}, sealed, lane FROM subscription WHERE {_OWNED} AND subscription_id = :id")
_LOG = text("""
    SELECT message_id, at, attempt, outcome, status, detail, milliseconds FROM delivery
    WHERE subscription_id = :id ORDER BY delivery_id DESC LIMIT :limit
""")
_STREAM = text("""
    SELECT t.payload FROM outbox o JOIN transition t USING (run, incident_id, seq)
    WHERE o.subscription_id = :id AND o.seq > :seq ORDER BY o.seq LIMIT :limit
""")
_NEWEST = text("SELECT coalesce(max(seq), 0) FROM outbox WHERE subscription_id = :id")
_STAND = text("""
    UPDATE subscription SET state = :state, state_reason = :reason, updated_at = clock_timestamp()
    WHERE subscription_id = :id
""")
_SEAL = text("UPDATE subscription SET sealed = :sealed, updated_at = clock_timestamp() WHERE subscription_id = :id")
_TESTED = text("""
    INSERT INTO delivery (message_id, subscription_id, at, attempt, outcome, status, detail, milliseconds)
    VALUES (:message_id, :id, clock_timestamp(), 1, :outcome, :status, :detail, :milliseconds)
""")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription as it may be shown: `shown` names the target without its secrets."""

    subscription_id: str
    owner: str
    draft: Draft
    shown: str
    state: Standing
    state_reason: str
    failures: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, from the log."""

    message_id: str
    at: datetime
    attempt: int
    outcome: str
    status: int | None
    detail: str
    milliseconds: int


class Subscriptions:
    """The subscriptions of one run. Methods raise DatabaseError, and DataError where there is no such subscription.

    Args:
        engine: one that can write.
    """

    def __init__(self, engine: Engine, run: str) -> None:
        self._engine, self._run = engine, run

    def add(self, owner: str, draft: Draft, *, lane: str, shown: str, sealed: str, at_most: int | None = None) -> str:
        """Makes one; returns its id.

        Raises:
            DataError: it cannot be served, or the owner has `at_most` already.
        """
        check(draft)
        new = "sub_" + secrets.token_hex(12)
        values = {"subscription_id": new, "run": self._run, "owner": owner, "lane": lane, "shown": shown,
                  "sealed": sealed, "channel": draft.channel.value, **_values(draft)}  # fmt: skip
        with database("subscribing"), self._engine.begin() as connection:
            if at_most is not None:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:owner))"), {"owner": owner})
                found = connection.execute(_SELECT, {"run": self._run, "owner": owner}).all()
                if len(found) >= at_most:
                    raise DataError(f"this token may have {at_most} subscriptions at most; delete one first")
            connection.execute(_INSERT, values)
        return new

    def list(self, owner: str = ALL) -> Sequence[Subscription]:
        """All of an owner, oldest first."""
        with database("reading subscriptions"), self._engine.connect() as connection:
            found = connection.execute(_SELECT, {"run": self._run, "owner": owner}).all()
        return [_subscription(row) for row in found]

    def get(self, subscription_id: str, owner: str = ALL) -> Subscription:
        """One of an owner's."""
        return _subscription(self._one(subscription_id, owner))

    def sealed(self, subscription_id: str, owner: str = ALL) -> tuple[str, str]:
        """Its encrypted target and keys, and its lane."""
        row = self._one(subscription_id, owner)
        return str(row.sealed), str(row.lane)

    def change(self, subscription_id: str, draft: Draft, owner: str = ALL) -> None:
        """Writes everything but channel and target anew."""
        check(draft)
        self._one(subscription_id, owner)
        self._write(_UPDATE, {"subscription_id": subscription_id, **_values(draft)})

    def stand(self, subscription_id: str, state: Standing, reason: str = "", owner: str = ALL) -> None:
        """Pauses, resumes or ends it. What waits is kept, and sent when it is resumed."""
        self._one(subscription_id, owner)
        self._write(_STAND, {"id": subscription_id, "state": state.value, "reason": reason})

    def seal(self, subscription_id: str, sealed: str) -> None:
        """Writes its encrypted target and keys anew."""
        self._write(_SEAL, {"id": subscription_id, "sealed": sealed})

    def delete(self, subscription_id: str, owner: str = ALL) -> None:
        """Forgets it, its log and what waits for it."""
        self._one(subscription_id, owner)
        self._write(text("DELETE FROM subscription WHERE subscription_id = :id"), {"id": subscription_id})

    def log(self, subscription_id: str, limit: int, owner: str = ALL) -> Sequence[Delivery]:
        """The newest attempts, newest first."""
        self._one(subscription_id, owner)
        with database("reading the delivery log"), self._engine.connect() as connection:
            found = connection.execute(_LOG, {"id": subscription_id, "limit": limit}).all()
        return [Delivery(**row._asdict()) for row in found]

    def tested(self, subscription_id: str, tried: Delivery) -> None:
        """Logs a test."""
        values = {"message_id": tried.message_id, "outcome": tried.outcome, "status": tried.status}
        more = {"id": subscription_id, "detail": tried.detail, "milliseconds": tried.milliseconds}
        self._write(_TESTED, values | more)

    def after(self, subscription_id: str, seq: int, limit: int = 100) -> Sequence[Alert]:
        """What a stream shows after `seq`, in order."""
        with database("reading a stream"), self._engine.connect() as connection:
            found = connection.execute(_STREAM, {"id": subscription_id, "seq": seq, "limit": limit}).scalars().all()
        return [msgspec.convert(payload, Alert) for payload in found]

    def newest(self, subscription_id: str) -> int:
        """The number of its newest alert, 0 before the first."""
        with database("reading a stream"), self._engine.connect() as connection:
            return int(connection.execute(_NEWEST, {"id": subscription_id}).scalar_one())

    def _one(self, subscription_id: str, owner: str) -> Any:
        if "\x00" in subscription_id:  # Postgres takes none
            raise DataError("an id holds no NUL character; list the subscriptions first")
        with database("reading a subscription"), self._engine.connect() as connection:
            values = {"run": self._run, "owner": owner, "id": subscription_id}
            row = connection.execute(_ONE, values).one_or_none()
        if row is None:
            raise DataError(f"there is no subscription {subscription_id[:40]!r}; list them first")
        return row

    def _write(self, query: Any, values: Mapping[str, object]) -> None:
        with database("writing a subscription"), self._engine.begin() as connection:
            connection.execute(query, values)


def quiet_from(stored: Mapping[str, Any] | None) -> Quiet | None:
    """Quiet hours from their JSON."""
    if not stored:
        return None
    start, end = (time.fromisoformat(stored[name]) for name in ("start", "end"))
    return Quiet(stored["zone"], start, end, bool(stored["except_critical"]))


def quiet_to(quiet: Quiet | None) -> dict[str, Any] | None:
    """Their JSON."""
    if quiet is None:
        return None
    return {"zone": quiet.zone, "start": f"{quiet.start:%H:%M}", "end": f"{quiet.end:%H:%M}",
            "except_critical": quiet.except_critical}  # fmt: skip


def _values(draft: Draft) -> dict[str, object]:
    quiet = quiet_to(draft.quiet)
    return {
        "name": draft.name, "topics": list(draft.filter.topics), "langs": list(draft.filter.langs),
        "entities": list(draft.filter.entities), "min_severity": draft.filter.min_severity,
        "language": draft.language, "quiet": msgspec.json.encode(quiet).decode() if quiet else None,
        "cap_per_hour": draft.cap_per_hour, "digest_minutes": draft.digest_minutes, "template": draft.template,
    }  # fmt: skip


def _subscription(row: Any) -> Subscription:
    wanted = Filter(tuple(row.topics), tuple(row.langs), tuple(row.entities), row.min_severity)
    channel = Channel(row.channel)
    target = "" if channel is Channel.STREAM else row.shown
    draft = Draft(
        channel, target, row.name, wanted, row.language, quiet_from(row.quiet), row.cap_per_hour, row.digest_minutes,
        row.template,
    )  # fmt: skip
    return Subscription(
        row.subscription_id, row.owner, draft, row.shown, Standing(row.state), row.state_reason, row.failures,
        row.created_at, row.updated_at,
    )  # fmt: skip
