"""Incidents on Postgres: the engine's transaction, and the transitions that others read."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres import histories
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.outbox import enqueue
from crosswind.stream.adapters.postgres.universe import universe_at
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.incident import Incident
from crosswind.stream.domain.memory import from_json, to_json
from crosswind.stream.domain.notice import Orders
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE, History, Series
from crosswind.stream.domain.silence import Matcher, Silence
from crosswind.stream.domain.universe import Universe
from crosswind.stream.service.alerting import AlertUnit, Counted, Progress, Told
from crosswind.structs import known

known(Matcher)

EVALUATE, PUBLISH = 0x63776576, 0x63777075
"""Classes of advisory locks, one lock per run in each: who evaluates, who publishes."""

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:kind, hashtext(:run))")

ENDED = 10
"""Times `idle_seconds` after which a feed that is silent everywhere is taken to have paused, not to be restarting."""

_WATERMARK = text("""
    SELECT coalesce(min(event_time) FILTER (WHERE moved_at >= clock_timestamp() - make_interval(secs => :idle)),
                    CASE WHEN max(moved_at) < clock_timestamp() - make_interval(secs => :ended)
                         THEN max(event_time) ELSE min(event_time) END)
    FROM watermark WHERE run = :run
""")

_PROGRESS = text("SELECT evaluated_to, state FROM engine WHERE run = :run FOR UPDATE")

_FIRST_MINUTE = text("""
    SELECT min(minute) FROM bucket
    WHERE run = :run AND minute >= coalesce(CAST(:since AS timestamptz), '-infinity')
""")

# The hour that holds :evaluated_to was evaluated in part; `before` counts that part.
_COUNTED = text("""
    SELECT CAST(extract(epoch FROM date_bin('1 hour', minute, 'epoch')) AS bigint) AS hour,
           coalesce(sum(articles) FILTER (WHERE minute <= :evaluated_to), 0) AS before, sum(articles) AS now
    FROM bucket WHERE run = :run AND entity = '*' AND minute BETWEEN date_bin('1 hour', :since, 'epoch') AND :last
    GROUP BY 1 ORDER BY 1
""")

# Numbers are given in the order of commits, by one worker at a time: what is seen has no gap that fills later.
# Materialised: else a generic plan looks for the least `at` along its own index, through hours of articles each time.
_TOLD = text("""
    WITH fresh AS MATERIALIZED (SELECT at FROM story_member WHERE run = :run AND seq > :after)
    SELECT (SELECT coalesce(max(seq), 0) FROM story_member WHERE run = :run) AS last,
           (SELECT min(at) FROM fresh WHERE at >= :since AND at < :end) AS earliest
""")

_SILENCES = text("""
    SELECT silence_id, matchers, starts_at, ends_at FROM silence WHERE run = :run AND ended_at IS NULL
    ORDER BY silence_id
""")

_ACKNOWLEDGED = text("""
    SELECT incident_id FROM incident WHERE run = :run AND resolved_at IS NULL AND acknowledged_at IS NOT NULL
""")

_NEXT_SEQ = text("SELECT coalesce(max(seq), 0) + 1 FROM transition WHERE run = :run")

# `||` keeps the published cursor, which is moved by another transaction.
_SAVE_PROGRESS = text("""
    INSERT INTO engine (run, evaluated_to, state) VALUES (:run, :evaluated_to, CAST(:state AS jsonb))
    ON CONFLICT (run) DO UPDATE SET evaluated_to = excluded.evaluated_to, state = engine.state || excluded.state
""")

_SAVE_INCIDENTS = text("""
    INSERT INTO incident (run, incident_id, rule, rule_version, topic, lang, entity, state, severity, started_at,
                          fired_at, resolved_at, observed, expected, p_value, negative_share, sources, headlines,
                          languages, evidence, model, group_id, leads, silenced, flapping, window_minutes, chance)
    VALUES (:run, :incident_id, :rule, :rule_version, :topic, :lang, :entity, :state, :severity, :started_at,
            :fired_at, :resolved_at, :observed, :expected, :p_value, :negative_share, :sources, :headlines,
            :languages, :evidence, :model, :group_id, :leads, :silenced, :flapping, :window_minutes, :chance)
    ON CONFLICT (run, incident_id) DO UPDATE
    SET state = excluded.state, severity = excluded.severity, fired_at = excluded.fired_at,
        resolved_at = excluded.resolved_at, observed = excluded.observed, expected = excluded.expected,
        p_value = excluded.p_value, negative_share = excluded.negative_share, sources = excluded.sources,
        headlines = excluded.headlines, languages = excluded.languages, evidence = excluded.evidence,
        model = excluded.model, group_id = excluded.group_id, leads = excluded.leads, silenced = excluded.silenced,
        flapping = excluded.flapping, window_minutes = excluded.window_minutes, chance = excluded.chance
""")

_SAVE_TRANSITIONS = text("""
    INSERT INTO transition (run, incident_id, state, seq, at, recorded_at, payload)
    VALUES (:run, :incident_id, :state, :seq, :at, clock_timestamp(), CAST(:payload AS jsonb))
""")

_TRANSITIONS_AFTER = text("""
    SELECT payload FROM transition WHERE run = :run AND seq > :seq ORDER BY seq LIMIT :limit
""")

_LAST_SEQ = text("SELECT coalesce(max(seq), 0) FROM transition WHERE run = :run")

_PUBLISHED = text("SELECT CAST(state ->> 'published_seq' AS bigint) FROM engine WHERE run = :run")

_MOVE_PUBLISHED = text("""
    UPDATE engine SET state = jsonb_set(state, '{published_seq}', to_jsonb(CAST(:seq AS bigint)))
    WHERE run = :run AND coalesce(CAST(state ->> 'published_seq' AS bigint), 0) < :seq
""")


class PostgresAlertStore:
    """Implements `AlertStore`. Two engines are safe: the run's advisory lock lets one of them work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self, run: str) -> Iterator[AlertUnit | None]:
        """See `AlertStore.begin`."""
        with database(f"evaluating run {run}"), self._engine.begin() as connection:
            held = connection.execute(_TRY_LOCK, {"kind": EVALUATE, "run": run}).scalar_one()
            yield PostgresAlertUnit(connection, run) if held else None


@dataclass(frozen=True, slots=True)
class PostgresAlertUnit:
    """Implements `AlertUnit` on an open transaction."""

    connection: Connection
    run: str

    def watermark(self, idle_seconds: float) -> datetime | None:
        """See `AlertUnit.watermark`. When every lane is silent, each counts: the slowest may only be restarting, and
        what has been read of it still closes buckets. After `ENDED` times as long the newest counts."""
        found: datetime | None = self._scalar(_WATERMARK, idle=idle_seconds, ended=idle_seconds * ENDED)
        return found

    def progress(self) -> Progress | None:
        """See `AlertUnit.progress`."""
        row = self.connection.execute(_PROGRESS, {"run": self.run}).one_or_none()
        if row is None:
            return None
        try:
            memory = from_json(row.state)
            counts = {int(hour): int(count) for hour, count in row.state.get("counts", {}).items()}
            told = None if row.state.get("told") is None else int(row.state["told"])
        except (KeyError, ValueError, msgspec.ValidationError) as error:
            raise DatabaseError(
                f"the engine's state of run {self.run} is not readable ({error}); it was written by "
                "another version: upgrade, or delete its row in `engine` to evaluate anew"
            ) from None
        return Progress(row.evaluated_to, memory, counts, told)

    def first_minute(self, since: datetime | None) -> datetime | None:
        """See `AlertUnit.first_minute`."""
        found: datetime | None = self._scalar(_FIRST_MINUTE, since=since)
        return found

    def counted(self, since: datetime, evaluated_to: datetime, last: datetime) -> list[Counted]:
        """See `AlertUnit.counted`."""
        values = {"run": self.run, "since": since, "evaluated_to": evaluated_to, "last": last}
        found = self.connection.execute(_COUNTED, values)
        return [Counted(int(row.hour), int(row.before), int(row.now)) for row in found]

    def told(self, after: int, since: datetime, evaluated_to: datetime) -> Told:
        """See `AlertUnit.told`."""
        values = {"run": self.run, "after": after, "since": since, "end": evaluated_to + MINUTE}
        row = self.connection.execute(_TOLD, values).one()
        return Told(int(row.last), row.earliest)

    def histories(
        self, rules: RuleSet, first: datetime, last: datetime, wanted: Collection[Series]
    ) -> dict[Series, History]:
        """See `AlertUnit.histories`."""
        return histories.load(self.connection, self.run, rules, histories.Span(first, last), wanted)

    def orders(self) -> Orders:
        """See `AlertUnit.orders`."""
        silences = [
            Silence(row.silence_id, msgspec.convert(row.matchers, tuple[Matcher, ...]), row.starts_at, row.ends_at)
            for row in self.connection.execute(_SILENCES, {"run": self.run})
        ]
        acknowledged = self.connection.execute(_ACKNOWLEDGED, {"run": self.run}).scalars()
        return Orders(silences, frozenset(acknowledged))

    def universe(self, first: datetime, last: datetime) -> Universe:
        """See `AlertUnit.universe`."""
        return universe_at(self.connection, self.run, first, last)

    def next_seq(self) -> int:
        """See `AlertUnit.next_seq`. Only the holder of the run's lock adds transitions, so there is no gap."""
        return int(self._scalar(_NEXT_SEQ))

    def save(self, progress: Progress, changed: Sequence[Incident], alerts: Sequence[Alert]) -> None:
        """See `AlertUnit.save`."""
        counts = {str(hour): count for hour, count in progress.counts.items()}
        state = {**to_json(progress.memory), "counts": counts, "told": progress.told}
        self.connection.execute(
            _SAVE_PROGRESS,
            {"run": self.run, "evaluated_to": progress.evaluated_to, "state": msgspec.json.encode(state).decode()},
        )
        if changed:
            self.connection.execute(_SAVE_INCIDENTS, [_row(incident) for incident in changed])
        if alerts:
            self.connection.execute(_SAVE_TRANSITIONS, [_transition(message) for message in alerts])
            enqueue(self.connection, self.run, alerts)

    def _scalar(self, query: Any, **values: object) -> Any:
        return self.connection.execute(query, {"run": self.run, **values}).scalar_one()


def _row(incident: Incident) -> dict[str, object]:
    subject, found = incident.subject, incident.strongest
    return {
        "run": subject.run,
        "incident_id": incident.incident_id,
        "rule": subject.rule,
        "rule_version": subject.rule_version,
        "topic": subject.series.topic,
        "lang": subject.series.lang,
        "entity": subject.series.entity,
        "state": incident.state.value,
        "severity": incident.severity.value,
        "started_at": incident.started_at,
        "fired_at": incident.fired_at,
        "resolved_at": incident.resolved_at,
        "observed": found.observed,
        "expected": found.expected,
        "p_value": found.p_value,
        "negative_share": found.negative_share,
        "sources": found.evidence.sources,
        "headlines": found.evidence.headlines,
        "languages": list(found.evidence.languages),
        "evidence": list(found.evidence.articles),
        "model": found.evidence.model,
        "group_id": incident.group or incident.incident_id,
        "leads": incident.leads,
        "silenced": incident.silenced,
        "flapping": incident.flapping,
        "window_minutes": found.window,
        "chance": found.chance,
    }


def _transition(message: Alert) -> dict[str, object]:
    return {
        "run": message.run,
        "incident_id": message.incident_id,
        "state": message.state,
        "seq": message.seq,
        "at": message.at,
        "payload": msgspec.json.encode(message).decode(),
    }


def transitions_after(engine: Engine, run: str, seq: int, limit: int) -> list[Alert]:
    """Up to `limit` transitions of a run with a `seq` greater than the given one, in order.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    with database(f"reading the alerts of run {run}"), engine.connect() as connection:
        return _after(connection, run, seq, limit)


def last_seq(engine: Engine, run: str) -> int:
    """The `seq` of a run's latest transition, 0 before the first.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    with database(f"reading the alerts of run {run}"), engine.connect() as connection:
        return int(connection.execute(_LAST_SEQ, {"run": run}).scalar_one())


@dataclass(frozen=True, slots=True)
class Unpublished:
    """Transitions to publish, while nobody else publishes those of the run."""

    connection: Connection
    run: str
    alerts: list[Alert]

    def published(self, seq: int) -> None:
        """Moves the cursor to `seq`, never back; seen once the `with` of `unpublished` ends well."""
        self.connection.execute(_MOVE_PUBLISHED, {"run": self.run, "seq": seq})


@contextmanager
def unpublished(engine: Engine, run: str, limit: int) -> Iterator[Unpublished | None]:
    """The transitions after the published cursor, in order; None when another process publishes this run.

    At least once: what was sent but not marked by `published` when the process dies, or the block raises, comes again.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    with database(f"reading the unpublished alerts of run {run}"), engine.begin() as connection:
        if not connection.execute(_TRY_LOCK, {"kind": PUBLISH, "run": run}).scalar_one():
            yield None
            return
        seq = connection.execute(_PUBLISHED, {"run": run}).scalar_one_or_none() or 0
        yield Unpublished(connection, run, _after(connection, run, seq, limit))


def _after(connection: Connection, run: str, seq: int, limit: int) -> list[Alert]:
    found = connection.execute(_TRANSITIONS_AFTER, {"run": run, "seq": seq, "limit": limit})
    return [msgspec.convert(payload, Alert) for payload in found.scalars()]
