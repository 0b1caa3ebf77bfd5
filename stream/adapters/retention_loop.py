"""The worker's retention task: drops what the settings no longer keep, every hour. Off unless they say so."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Protocol

import faust
import structlog
from sqlalchemy import Engine

from crosswind.errors import DatabaseError
from crosswind.settings import Settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.retention import sweep
from crosswind.stream.domain.retention import Policy

INTERVAL = 3600.0
"""Seconds between sweeps."""
AFTER_TROUBLE = 60.0
"""Seconds to the next try when the database is away."""
BREATH = 0.05
"""Seconds between batches that belong to the workers' own transactions."""

_log = structlog.get_logger(__name__)


class RetentionParts(Protocol):
    """What the task needs of `agents.Parts`."""

    @property
    def settings(self) -> Settings:
        """The worker's settings."""
        ...

    @property
    def metrics(self) -> Metrics:
        """The worker's metrics."""
        ...


def policy_of(settings: Settings) -> Policy:
    """What the settings keep."""
    return Policy.of_days(settings.keep_articles_days, settings.keep_minutes_days)


def add_retention_task(app: faust.App, parts: RetentionParts, engine: Engine) -> None:
    """Sweeps beside the agents of `app`, where the settings want it."""
    if not policy_of(parts.settings):
        return

    async def retention() -> None:
        await run_retention(parts, engine)

    app.task(retention)


async def run_retention(parts: RetentionParts, engine: Engine, interval: float = INTERVAL) -> None:
    """Sweeps until cancelled; a sweep that is under way ends with its batch."""
    executor, ended = ThreadPoolExecutor(1, thread_name_prefix="retention"), threading.Event()
    loop = asyncio.get_running_loop()
    try:
        while True:
            done = await loop.run_in_executor(executor, _swept, parts, engine, lambda: not ended.is_set())
            await asyncio.sleep(interval if done else min(interval, AFTER_TROUBLE))
    finally:
        ended.set()
        executor.shutdown(wait=False)


def _swept(parts: RetentionParts, engine: Engine, wanted: Callable[[], bool]) -> bool:
    """One sweep; False: the database is away."""

    def go_on() -> bool:
        time.sleep(BREATH)
        return wanted()

    run = parts.settings.run
    try:
        swept = sweep(engine, run, policy_of(parts.settings), go_on=go_on)
    except DatabaseError as error:
        parts.metrics.retries.labels("database").inc()
        _log.warning("retention waits for the database", error=str(error)[:300])
        return False
    if swept is not None and swept.rows:
        for what, rows in asdict(swept).items():
            parts.metrics.swept.labels(what).inc(rows)
        _log.info("swept", run=run, **asdict(swept))
    return True
