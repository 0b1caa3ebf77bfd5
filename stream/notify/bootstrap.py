"""The composition root of `crosswind notify`."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog
from sqlalchemy import Engine

from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.outbox import PostgresOutbox
from crosswind.stream.adapters.postgres.outbox_upkeep import prune, waiting
from crosswind.stream.adapters.translation_desk import open_translations
from crosswind.stream.notify.adapters.metrics import NotifyMetrics, served
from crosswind.stream.notify.adapters.senders import Senders
from crosswind.stream.notify.adapters.upkeep import run_upkeep
from crosswind.stream.notify.adapters.vault import open_vault
from crosswind.stream.notify.domain.timing import SCHEDULE
from crosswind.stream.notify.service.dispatcher import Checkpoint, Dispatcher, no_checkpoint
from crosswind.stream.service.translation import Translations

_log = structlog.get_logger(__name__)


def run_notify(settings: Settings, checkpoint: Checkpoint = no_checkpoint, **options: float) -> int:
    """Sends what is due until SIGINT or SIGTERM; returns the exit status.

    Raises:
        CrosswindError: whatever is missing, with what to do about it.
    """
    if not settings.database_url:
        raise SettingsError("no database: set CROSSWIND_DATABASE_URL to postgresql://…, or start `crosswind up` first")
    engine = connect(settings.database_url.get_secret_value(), pool_size=4)
    try:
        migrate(engine)
        translations = open_translations(settings, engine)
        asyncio.run(_run(settings, engine, translations, checkpoint, options))
    finally:
        engine.dispose()
    return 0


async def _run(
    settings: Settings, engine: Engine, translations: Translations | None, checkpoint: Checkpoint,
    options: dict[str, float],
) -> None:  # fmt: skip
    stop, metrics = asyncio.Event(), NotifyMetrics()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    look = partial(waiting, engine)
    async with (
        served(metrics, look, settings.notify_host, settings.notify_port) as address,
        Senders(settings, open_vault(settings), translations=translations) as send,
        _upkeep(settings, engine, metrics),
    ):
        _log.info("notifying", owner=owner, metrics=address)
        dispatcher = Dispatcher(
            PostgresOutbox(engine), send, owner, lambda: datetime.now(UTC), SCHEDULE, checkpoint,
            observe=metrics.recorded, **options,
        )  # fmt: skip
        await dispatcher.run(stop)


@asynccontextmanager
async def _upkeep(settings: Settings, engine: Engine, metrics: NotifyMetrics) -> AsyncIterator[None]:
    """Drops old deliveries meanwhile, where the settings want it; a batch that is under way ends by itself."""
    if not settings.keep_deliveries_days:
        yield
        return
    task = asyncio.create_task(run_upkeep(partial(prune, engine, settings.keep_deliveries_days), metrics.dropped))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):
            raise error
