"""What people say to alerts, on Postgres: acknowledgements, verdicts, silences; and the scorecard made of them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.universe import universe_of
from crosswind.stream.domain.detect.budget import MONTH_HOURS
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.scorecard import Measure, measure
from crosswind.stream.domain.silence import Matcher, Silence
from crosswind.stream.domain.watch import NO_DATA
from crosswind.structs import known

known(Matcher)

_ACKNOWLEDGE = text("""
    UPDATE incident SET acknowledged_at = coalesce(acknowledged_at, clock_timestamp()),
                        acknowledged_by = coalesce(acknowledged_by, :by)
    WHERE run = :run AND incident_id = :incident_id RETURNING acknowledged_by
""")

_VERDICT = text("""
    INSERT INTO verdict (run, incident_id, given_by, useful, given_at)
    SELECT run, incident_id, :by, :useful, clock_timestamp() FROM incident
    WHERE run = :run AND incident_id = :incident_id
    ON CONFLICT (run, incident_id, given_by) DO UPDATE SET useful = excluded.useful, given_at = excluded.given_at
    RETURNING incident_id
""")

_MATCHING = text("SELECT incident_id FROM incident WHERE run = :run AND starts_with(incident_id, :start) LIMIT 2")

_SILENCE = text("""
    INSERT INTO silence (run, silence_id, matchers, starts_at, ends_at, created_by, comment, created_at)
    VALUES (:run, :silence_id, CAST(:matchers AS jsonb), :starts_at, :ends_at, :by, :comment, clock_timestamp())
""")

_SILENCES = text("""
    SELECT silence_id, matchers, starts_at, ends_at FROM silence
    WHERE run = :run AND ended_at IS NULL AND ends_at > :at ORDER BY ends_at, silence_id
""")

_END_SILENCE = text("""
    UPDATE silence SET ended_at = clock_timestamp()
    WHERE run = :run AND silence_id = :silence_id AND ended_at IS NULL RETURNING silence_id
""")

_NOW = text("SELECT coalesce((SELECT evaluated_to FROM engine WHERE run = :run), clock_timestamp())")

# A useful incident: somebody took it on or called it useful, and nobody called it useless. Groups count once.
_SCORECARD = text("""
    WITH judged AS (
        SELECT i.*, coalesce(v.useful, 0) AS useful, coalesce(v.useless, 0) AS useless
        FROM incident i LEFT JOIN (
            SELECT run, incident_id, count(*) FILTER (WHERE useful) AS useful,
                   count(*) FILTER (WHERE NOT useful) AS useless FROM verdict GROUP BY run, incident_id) v
        USING (run, incident_id)
        WHERE i.run = :run AND i.fired_at >= :since AND i.leads)
    SELECT rule, rule_version, count(*) AS fired,
           count(*) FILTER (WHERE useless = 0 AND (useful > 0 OR acknowledged_at IS NOT NULL)) AS useful,
           count(*) FILTER (WHERE useless > 0) AS useless,
           coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM fired_at - started_at)), 0) AS held,
           coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY chance), 0) AS chance
    FROM judged GROUP BY rule, rule_version ORDER BY rule, rule_version
""")

# The silent feed's own incident is told apart by its rule: other rules may watch the whole run or a language.
_FIRED = text("""
    SELECT incident_id, group_id, rule, rule_version, topic, lang, entity, fired_at, resolved_at FROM incident
    WHERE run = :run AND fired_at >= :since AND NOT (rule = :no_data AND (topic, lang, entity) = ('*', '*', '*'))
    ORDER BY fired_at, incident_id
""")

_HOURS = text("""
    SELECT extract(epoch FROM evaluated_to - greatest(:since, (
        SELECT min(hour) FROM bucket_hour WHERE run = :run AND entity = '*'))) / 3600
    FROM engine WHERE run = :run
""")


@dataclass(frozen=True, slots=True)
class Scored:
    """How one version of a rule has done.

    Attributes:
        fired: groups of incidents that were told and began with one of its own; silenced ones too.
        useful: acknowledged or called useful, and by nobody useless; `useless`: called so by somebody.
        precision: useful of those that were judged; None: none was.
        measure: what the two rates are of: each series that it watches, or the whole rule; and its budget.
        told_per_month: fired per month, of each series or of the whole rule as `measure.per` says. What was worth
            telling counts, too, so it may be above the budget, which is of false alarms. Of a version that was in use
            for a part of the days it is too low: all hours that were evaluated count.
        useless_per_month: the false alarms among them, as far as people said; counted the same.
        held_seconds: median event time from the first raised minute to the alert.
        chance: median of how many such alarms chance gives a series in a month.
    """

    rule: str
    rule_version: str
    fired: int
    useful: int
    useless: int
    precision: float | None
    measure: Measure
    told_per_month: float
    useless_per_month: float
    held_seconds: float
    chance: float


@dataclass(frozen=True, slots=True)
class Fired:
    """An incident that fired, event times; `group_id`: of the incident that leads its group."""

    incident_id: str
    group_id: str
    rule: str
    rule_version: str
    topic: str
    lang: str
    entity: str
    fired_at: datetime
    resolved_at: datetime | None


def acknowledge(engine: Engine, run: str, incident_id: str, by: str) -> str:
    """Takes an incident on, until it is resolved; returns who has it: the first one who took it.

    Raises:
        DataError: there is no such incident. DatabaseError: the database cannot be reached or refuses.
    """
    with database("acknowledging an incident"), engine.begin() as connection:
        values = {"run": run, "incident_id": _whole(connection, run, incident_id), "by": by}
        return str(connection.execute(_ACKNOWLEDGE, values).scalar_one())


def judge(engine: Engine, run: str, incident_id: str, by: str, useful: bool) -> None:
    """Notes what somebody thinks of an incident; a later word of the same person replaces the earlier.

    Raises:
        DataError: there is no such incident. DatabaseError: the database cannot be reached or refuses.
    """
    with database("noting a verdict"), engine.begin() as connection:
        whole = _whole(connection, run, incident_id)
        connection.execute(_VERDICT, {"run": run, "incident_id": whole, "by": by, "useful": useful})


def silence(
    engine: Engine, run: str, matchers: Sequence[Matcher], lasts: timedelta, by: str, comment: str = ""
) -> Silence:
    """Silences what matches all of `matchers` for a time, from the last evaluated minute on.

    Raises:
        DataError: there is no matcher, or no time. DatabaseError: the database cannot be reached or refuses.
    """
    if not matchers or lasts <= timedelta(0):
        raise DataError("a silence needs at least one matcher, e.g. topic=credit, and a time above 0, e.g. 2h")
    with database("adding a silence"), engine.begin() as connection:
        now: datetime = connection.execute(_NOW, {"run": run}).scalar_one()
        made = Silence(secrets.token_hex(8), tuple(matchers), now, now + lasts)
        connection.execute(_SILENCE, {
            "run": run, "silence_id": made.silence_id, "matchers": msgspec.json.encode(made.matchers).decode(),
            "starts_at": made.starts_at, "ends_at": made.ends_at, "by": by, "comment": comment,
        })  # fmt: skip
    return made


def silences(engine: Engine, run: str) -> list[Silence]:
    """The silences that are not over, those that end first first.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    with database("reading the silences"), engine.begin() as connection:
        now = connection.execute(_NOW, {"run": run}).scalar_one()
        return [
            Silence(row.silence_id, msgspec.convert(row.matchers, tuple[Matcher, ...]), row.starts_at, row.ends_at)
            for row in connection.execute(_SILENCES, {"run": run, "at": now})
        ]


def end_silence(engine: Engine, run: str, silence_id: str) -> None:
    """Ends a silence now.

    Raises:
        DataError: there is no such silence, or it is over. DatabaseError: the database cannot be reached or refuses.
    """
    with database("ending a silence"), engine.begin() as connection:
        if not connection.execute(_END_SILENCE, {"run": run, "silence_id": silence_id}).one_or_none():
            raise DataError(f"no silence {silence_id} is in force; list them with `crosswind alerts silences`")


def scorecard(engine: Engine, run: str, days: int, rules: RuleSet) -> list[Scored]:
    """How each version of each rule has done in the last `days` of event time.

    Args:
        rules: those in use; they say what each watches, and what its budget is.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    with database("reading the scorecard"), engine.begin() as connection:
        now: datetime = connection.execute(_NOW, {"run": run}).scalar_one()
        since = now - timedelta(days=days)
        values = {"run": run, "since": since}
        rows = connection.execute(_SCORECARD, values).all()
        if not rows:
            return []
        universe = universe_of(connection, run, since)
        months = max(float(connection.execute(_HOURS, values).scalar() or 0.0) / MONTH_HOURS, 1e-9)
    return [_scored(row, measure(rules, row.rule, row.rule_version, universe), months) for row in rows]


def _scored(row: Any, by: Measure, months: float) -> Scored:
    judged = row.useful + row.useless
    return Scored(
        row.rule, row.rule_version, row.fired, row.useful, row.useless, row.useful / judged if judged else None, by,
        by.per_month(row.fired, months), by.per_month(row.useless, months), float(row.held), float(row.chance),
    )  # fmt: skip


def fired(engine: Engine, run: str, days: int) -> tuple[datetime, datetime, list[Fired]]:
    """The last `days` of event time, from and until, and what fired in them; the silent feed's own are left out.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    with database("reading what fired"), engine.begin() as connection:
        now: datetime = connection.execute(_NOW, {"run": run}).scalar_one()
        since = now - timedelta(days=days)
        found = connection.execute(_FIRED, {"run": run, "since": since, "no_data": NO_DATA})
        return since, now, [Fired(**row._asdict()) for row in found]


def _whole(connection: Connection, run: str, start: str) -> str:
    """The one incident whose id begins so."""
    found = list(connection.execute(_MATCHING, {"run": run, "start": start}).scalars()) if start else []
    if len(found) != 1:
        what = "several incidents begin" if found else "no incident begins"
        raise DataError(f"{what} with {start!r}; the pages and `alerts` messages name the whole id")
    return str(found[0])
