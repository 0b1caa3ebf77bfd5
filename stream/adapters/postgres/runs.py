"""Replays and backtests that are kept in the database, for the dashboard and for other machines."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.errors import database

_SAVE_RUN = text("""
    INSERT INTO replay_run (run, created_at, state, asked, found)
    VALUES (:run, clock_timestamp(), :state, CAST(:asked AS jsonb), CAST(:found AS jsonb))
    ON CONFLICT (run) DO UPDATE SET state = excluded.state, found = excluded.found
""")
_RUNS = text("SELECT run, created_at, state, asked, found FROM replay_run ORDER BY created_at, run")
_SAVE_BACKTEST = text("""
    INSERT INTO backtest (backtest_id, created_at, title, summary, report)
    VALUES (:backtest_id, clock_timestamp(), :title, CAST(:summary AS jsonb), :report)
    ON CONFLICT (backtest_id) DO UPDATE
    SET created_at = excluded.created_at, title = excluded.title, summary = excluded.summary, report = excluded.report
""")
_BACKTESTS = text("SELECT backtest_id, created_at, title, summary FROM backtest ORDER BY created_at DESC LIMIT :limit")
_REPORT = text("SELECT report FROM backtest WHERE backtest_id = :backtest_id")


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A replay whose rows are in the database."""

    run: str
    created_at: datetime
    state: str
    asked: Mapping[str, Any]
    found: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptBacktest:
    """A backtest, without its report."""

    backtest_id: str
    created_at: datetime
    title: str
    summary: Mapping[str, Any]


def save_run(engine: Engine, run: str, state: str, asked: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Notes a replay, or what became of it.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    _write(engine, _SAVE_RUN, run=run, state=state, asked=_json(asked), found=_json(found))


def kept_runs(engine: Engine) -> list[KeptRun]:
    """The replays whose rows are here, oldest first.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    return [KeptRun(row.run, row.created_at, row.state, row.asked, row.found) for row in _read(engine, _RUNS)]


def save_backtest(engine: Engine, backtest_id: str, title: str, summary: Mapping[str, Any], report: str) -> None:
    """Keeps a backtest; one of the same id is replaced.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    _write(engine, _SAVE_BACKTEST, backtest_id=backtest_id, title=title, summary=_json(summary), report=report)


def kept_backtests(engine: Engine, limit: int = 100) -> list[KeptBacktest]:
    """The backtests that were kept, newest first.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    rows = _read(engine, _BACKTESTS, limit=limit)
    return [KeptBacktest(row.backtest_id, row.created_at, row.title, row.summary) for row in rows]


def report_of(engine: Engine, backtest_id: str) -> str | None:
    """A kept backtest's HTML page; None: there is no such backtest.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    rows = _read(engine, _REPORT, backtest_id=backtest_id)
    return str(rows[0].report) if rows else None


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(dict(value)).decode()


def _write(engine: Engine, query: Any, **values: object) -> None:
    with database("keeping replays and backtests"), engine.begin() as connection:
        connection.execute(query, values)


def _read(engine: Engine, query: Any, **values: object) -> list[Any]:
    with database("reading replays and backtests"), engine.connect() as connection:
        return list(connection.execute(query, values))
