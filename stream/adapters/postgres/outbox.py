"""The outbox: who is told of a transition, written with it; and the dispatcher's claims and records."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.subscriptions import quiet_from
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.domain.pace import FIRST
from crosswind.stream.notify.domain.subscription import Channel, concerns_all, group_of, over, worth_telling
from crosswind.stream.notify.service.dispatcher import Message, Outcome, Result
from crosswind.structs import known

known(Alert)

DIGESTS = 0x63776E64
"""Advisory lock. Shared by transactions that write the outbox, alone by those that claim digests: so a digest that is
claimed is complete, and what is written later falls into the next one."""

# The same choice as `crosswind.stream.notify.domain.subscription.wants`. What is over is told by the transitions before
# this one: the incidents' own rows are already as they are after the tick that all of this is written with.
_TOLD = """
    SELECT subscription_id FROM outbox WHERE run = :run AND incident_id = :incident_id AND seq < :seq
"""
_GROUP_TOLD = """
    SELECT o.subscription_id FROM incident i JOIN outbox o USING (run, incident_id)
    WHERE i.run = :run AND i.group_id = :group AND i.incident_id <> :incident_id AND o.seq < :seq AND NOT EXISTS (
        SELECT FROM transition t WHERE t.run = i.run AND t.incident_id = i.incident_id AND t.seq < :seq
        AND t.state IN ('resolved', 'lapsed'))
"""
_CHOSEN = """
    SELECT s.subscription_id, s.channel, s.digest_minutes,
           CASE WHEN s.digest_minutes IS NULL THEN clock_timestamp()
                ELSE date_bin(make_interval(mins => s.digest_minutes), clock_timestamp(), 'epoch')
                     + make_interval(mins => s.digest_minutes) END AS due_at
    FROM subscription s
    WHERE s.run = :run AND s.state = 'active' AND (
        CAST(:over AS boolean) AND s.subscription_id IN (SELECT subscription_id FROM told)
        OR NOT CAST(:over AS boolean) AND (s.min_severity = 'warning' OR :severity = 'critical')
        AND (s.subscription_id IN (SELECT subscription_id FROM told)
             OR s.subscription_id NOT IN (SELECT subscription_id FROM group_told))
        AND (CAST(:all AS boolean) OR cardinality(s.topics) + cardinality(s.entities) = 0
             OR :topic = ANY(s.topics) OR :entity = ANY(s.entities))
        AND (cardinality(s.langs) = 0 OR :lang = ANY(s.langs)
             OR :lang = '*' AND (CAST(:all AS boolean) OR s.langs && CAST(:languages AS text[]))))
"""

_ENQUEUE = text(f"""
    WITH told AS MATERIALIZED ({_TOLD}), group_told AS MATERIALIZED ({_GROUP_TOLD}),
    chosen AS MATERIALIZED ({_CHOSEN}), named AS (
        SELECT *, CASE WHEN digest_minutes IS NULL THEN 'msg_' ELSE 'dig_' END || left(encode(sha256(convert_to(
            CASE WHEN digest_minutes IS NULL
                 THEN concat_ws('|', CAST(:run AS text), CAST(:incident_id AS text), CAST(:seq AS bigint),
                                subscription_id)
                 ELSE concat_ws('|', subscription_id, extract(epoch FROM due_at)) END, 'UTF8')), 'hex'), 32)
            AS message_id FROM chosen
    ), put AS (
        INSERT INTO outbox (run, incident_id, seq, subscription_id, message_id)
        SELECT :run, :incident_id, :seq, subscription_id, message_id FROM named
        ON CONFLICT DO NOTHING
    )
    INSERT INTO message (message_id, subscription_id, digest, state, due_at, attempts, created_at)
    SELECT message_id, subscription_id, digest_minutes IS NOT NULL, 'waiting', due_at, 0, clock_timestamp()
    FROM named WHERE channel <> 'stream'
    ON CONFLICT DO NOTHING
""")

# In the order in which it was written, what is of a critical incident first. By `due_at` it would not do: all that was
# held by quiet hours or a cap is due at one moment, and what came since would pass it. Of an incident a subscriber gets
# one at a time, so that its end does not overtake its beginning on the way; of digests likewise.
_CLAIM = text("""
    WITH due AS (
        SELECT m.message_id, m.subscription_id, m.created_at, s.lane, s.cap_per_hour, told.seq,
               coalesce(told.urgent, false) AS urgent,
               m.leased_until IS NULL OR m.leased_until < clock_timestamp() AS free,
               row_number() OVER (PARTITION BY m.subscription_id, told.run, told.incident_id
                                  ORDER BY m.created_at, told.seq, m.message_id) AS of_incident
        FROM message m JOIN subscription s USING (subscription_id)
        LEFT JOIN LATERAL (
            SELECT o.run, o.incident_id, o.seq, i.severity = 'critical' AS urgent
            FROM outbox o LEFT JOIN incident i USING (run, incident_id)
            WHERE o.message_id = m.message_id AND NOT m.digest
        ) told ON true
        WHERE m.state = 'waiting' AND m.due_at <= clock_timestamp() AND m.digest = :digest AND s.state = 'active'
          AND (s.cap_per_hour IS NULL OR NOT EXISTS (
              SELECT 1 FROM message o WHERE o.subscription_id = m.subscription_id AND o.state = 'waiting'
              AND o.leased_until > clock_timestamp()))
    ), first AS (
        SELECT *, row_number() OVER (PARTITION BY lane ORDER BY urgent DESC, created_at, seq, message_id) AS nth,
               CASE WHEN cap_per_hour IS NOT NULL THEN
                   row_number() OVER (PARTITION BY subscription_id
                                      ORDER BY urgent DESC, created_at, seq, message_id) END AS of_capped
        FROM due WHERE free AND of_incident = 1
    ), chosen AS (
        SELECT message_id FROM first
        LEFT JOIN unnest(CAST(:lanes AS text[]), CAST(:rooms AS int[])) AS known(lane, room) USING (lane)
        WHERE nth <= coalesce(known.room, :fresh) AND coalesce(of_capped, 1) = 1
        ORDER BY urgent DESC, created_at, seq, message_id LIMIT :limit
    ), locked AS (
        SELECT m.message_id FROM message m
        WHERE m.message_id IN (SELECT message_id FROM chosen) AND m.state = 'waiting'
          AND (m.leased_until IS NULL OR m.leased_until < clock_timestamp())
        FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET leased_by = :owner, attempts = m.attempts + 1,
                         leased_until = clock_timestamp() + make_interval(secs => :lease)
    FROM locked WHERE m.message_id = locked.message_id RETURNING m.message_id
""")

_MESSAGES = text("""
    SELECT m.message_id, m.subscription_id, m.attempts, m.digest, s.channel, s.lane, s.language, s.sealed, s.quiet,
           s.cap_per_hour, s.template
    FROM message m JOIN subscription s USING (subscription_id) WHERE m.message_id = ANY(:ids)
    ORDER BY m.created_at, m.message_id
""")
_CONTENTS = text("SELECT message_id, run, incident_id, seq FROM outbox WHERE message_id = ANY(:ids) ORDER BY seq")
_PAYLOADS = text("""
    SELECT run, incident_id, seq, payload FROM transition
    JOIN unnest(CAST(:runs AS text[]), CAST(:incidents AS text[]), CAST(:seqs AS bigint[]))
        AS wanted(run, incident_id, seq) USING (run, incident_id, seq)
""")
_TITLES = text("SELECT article_id, title FROM article WHERE run = ANY(:runs) AND article_id = ANY(:ids)")
_SENT = text("""
    SELECT subscription_id, done_at FROM message
    WHERE subscription_id = ANY(:ids) AND state = 'sent' AND done_at > clock_timestamp() - interval '1 hour'
""")

_RECORD = text("""
    UPDATE message m SET state = r.state, due_at = coalesce(r.due_at, m.due_at), leased_by = NULL, leased_until = NULL,
        attempts = m.attempts - r.held, done_at = CASE WHEN r.state <> 'waiting' THEN clock_timestamp() END
    FROM unnest(CAST(:ids AS text[]), CAST(:states AS text[]), CAST(:dues AS timestamptz[]), CAST(:helds AS int[]))
        AS r(message_id, state, due_at, held)
    WHERE m.message_id = r.message_id AND m.state <> 'sent' AND (r.state = 'sent' OR m.leased_by = :owner)
""")
_LOG = text("""
    INSERT INTO delivery (message_id, subscription_id, at, attempt, outcome, status, detail, milliseconds)
    SELECT r.* FROM unnest(CAST(:ids AS text[]), CAST(:subscriptions AS text[]), CAST(:ats AS timestamptz[]),
        CAST(:attempts AS int[]), CAST(:outcomes AS text[]), CAST(:statuses AS int[]), CAST(:details AS text[]),
        CAST(:spent AS int[])) AS r(message_id, subscription_id, at, attempt, outcome, status, detail, milliseconds)
    WHERE EXISTS (SELECT 1 FROM subscription s WHERE s.subscription_id = r.subscription_id)
""")
_WELL = text("UPDATE subscription SET failures = 0 WHERE subscription_id = ANY(:ids) AND failures <> 0")
_UNWELL = text("UPDATE subscription SET failures = failures + 1 WHERE subscription_id = ANY(:ids)")
_DISABLE = text("""
    UPDATE subscription SET state = 'disabled', state_reason = 'the receiver answered 410 Gone',
                            updated_at = clock_timestamp() WHERE subscription_id = ANY(:ids)
""")


def enqueue(connection: Connection, run: str, transitions: Sequence[Alert]) -> None:
    """Writes one outbox row for each transition and subscriber that wants it, in the caller's transaction.

    The rows of the transitions and of their incidents must be there already. Doing it again changes nothing.
    """
    if not transitions:
        return
    connection.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": DIGESTS})
    for alert in transitions:
        if over(alert) or worth_telling(alert):
            connection.execute(_ENQUEUE, _values(run, alert))


def _values(run: str, alert: Alert) -> dict[str, object]:
    return {
        "run": run, "incident_id": alert.incident_id, "seq": alert.seq, "over": over(alert),
        "all": concerns_all(alert), "severity": alert.severity, "topic": alert.topic, "entity": alert.entity,
        "lang": alert.lang, "languages": list(alert.languages), "group": group_of(alert),
    }  # fmt: skip


class PostgresOutbox:
    """Implements `Outbox`. Every method raises DatabaseError when the database cannot be reached or refuses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, owner: str, limit: int, rooms: Mapping[str, int], lease: float) -> list[Message]:
        """See `Outbox.claim`."""
        values = {
            "owner": owner, "lanes": list(rooms), "rooms": list(rooms.values()), "fresh": FIRST, "lease": lease,
        }  # fmt: skip
        with database("claiming messages"), self._engine.begin() as connection:
            claim = {**values, "limit": limit, "digest": False}
            ids = list(connection.execute(_CLAIM, claim).scalars())
            alone = text("SELECT pg_try_advisory_xact_lock(:lock)")
            if len(ids) < limit and connection.execute(alone, {"lock": DIGESTS}).scalar_one():
                ids += connection.execute(_CLAIM, {**claim, "limit": limit - len(ids), "digest": True}).scalars()
            return _load(connection, ids) if ids else []

    def record(self, owner: str, results: Sequence[Result]) -> None:
        """See `Outbox.record`."""
        with database("recording deliveries"), self._engine.begin() as connection:
            connection.execute(_RECORD, {"owner": owner, **_states(results)})
            tried = [result for result in results if result.outcome is not Outcome.HELD]
            if not tried:
                return
            connection.execute(_LOG, _logged(tried))
            for query, outcomes in (
                (_WELL, (Outcome.SENT,)), (_UNWELL, (Outcome.RETRY, Outcome.FAILED)), (_DISABLE, (Outcome.GONE,)),
            ):  # fmt: skip
                ids = sorted({r.message.subscription_id for r in tried if r.outcome in outcomes})
                if ids:
                    connection.execute(query, {"ids": ids})


def _states(results: Sequence[Result]) -> dict[str, object]:
    final = {Outcome.SENT: "sent", Outcome.FAILED: "failed", Outcome.GONE: "failed"}
    return {
        "ids": [result.message.message_id for result in results],
        "states": [final.get(result.outcome, "waiting") for result in results],
        "dues": [result.due_at for result in results],
        "helds": [int(result.outcome is Outcome.HELD) for result in results],
    }


def _logged(results: Sequence[Result]) -> dict[str, object]:
    return {
        "ids": [result.message.message_id for result in results],
        "subscriptions": [result.message.subscription_id for result in results],
        "ats": [result.at for result in results],
        "attempts": [result.message.attempt for result in results],
        "outcomes": [result.outcome.value for result in results],
        "statuses": [result.reply.status for result in results],
        "details": [result.reply.detail[:200].replace("\x00", "") for result in results],
        "spent": [result.milliseconds for result in results],
    }


def _load(connection: Connection, ids: Sequence[str]) -> list[Message]:
    contents: dict[str, list[tuple[str, str, int]]] = {}
    for row in connection.execute(_CONTENTS, {"ids": ids}):
        contents.setdefault(row.message_id, []).append((row.run, row.incident_id, row.seq))
    alerts = load_alerts(connection, {key for keys in contents.values() for key in keys})
    titles = load_titles(connection, list(alerts.values()))
    rows = connection.execute(_MESSAGES, {"ids": ids}).all()
    sent: dict[str, list[datetime]] = {}
    capped = [row.subscription_id for row in rows if row.cap_per_hour is not None]
    for row in connection.execute(_SENT, {"ids": capped}) if capped else ():
        sent.setdefault(row.subscription_id, []).append(row.done_at)
    return [
        _message(row, [alerts[key] for key in contents.get(row.message_id, ()) if key in alerts], titles,
                 sent.get(row.subscription_id, []))
        for row in rows
    ]  # fmt: skip


def _message(row: Any, alerts: Sequence[Alert], titles: Mapping[str, str], sent: Sequence[datetime]) -> Message:
    return Message(
        row.message_id, row.subscription_id, Channel(row.channel), row.lane, row.language, row.sealed, tuple(alerts),
        row.attempts, row.digest, titles, quiet_from(row.quiet), row.cap_per_hour, tuple(sent), row.template,
    )  # fmt: skip


def load_alerts(connection: Connection, keys: set[tuple[str, str, int]]) -> dict[tuple[str, str, int], Alert]:
    """The alerts of transitions, by run, incident and number."""
    if not keys:
        return {}
    runs, incidents, seqs = (list(column) for column in zip(*sorted(keys)))
    found = connection.execute(_PAYLOADS, {"runs": runs, "incidents": incidents, "seqs": seqs})
    return {(row.run, row.incident_id, row.seq): msgspec.convert(row.payload, Alert) for row in found}


def load_titles(connection: Connection, alerts: Sequence[Alert]) -> dict[str, str]:
    """The titles of the evidence, by article id."""
    ids = sorted({article for alert in alerts for article in alert.evidence})
    if not ids:
        return {}
    found = connection.execute(_TITLES, {"ids": ids, "runs": sorted({alert.run for alert in alerts})})
    return {row.article_id: row.title for row in found}
