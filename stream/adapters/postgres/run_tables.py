"""Tables of replays and backtests that other processes may list. On the same `Base` as `schema`."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class ReplayRunRow(Base):
    """A replay whose rows are in this database; `found` is what came out, `{}` until it is done."""

    __tablename__ = "replay_run"

    run: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    state: Mapped[str]
    asked: Mapped[dict[str, Any]]
    found: Mapped[dict[str, Any]]


class BacktestRow(Base):
    """A backtest that was kept: figures as in `report.json`, and the report as one HTML page."""

    __tablename__ = "backtest"

    backtest_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    title: Mapped[str]
    summary: Mapped[dict[str, Any]]
    report: Mapped[str]
