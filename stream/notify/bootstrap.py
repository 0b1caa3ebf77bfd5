"""The composition root of `crosswind notify`."""

import asyncio
import os
import secrets
import signal
import socket
from datetime import UTC, datetime

import structlog

from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.outbox import PostgresOutbox
from crosswind.stream.notify.adapters.senders import Senders
from crosswind.stream.notify.adapters.vault import open_vault
from crosswind.stream.notify.domain.timing import SCHEDULE
from crosswind.stream.notify.service.dispatcher import Checkpoint, Dispatcher, no_checkpoint

_log = structlog.get_logger(__name__)


def run_notify(settings: Settings, checkpoint: Checkpoint = no_checkpoint, **options: float) -> int:
    """Sends what is due until SIGINT or SIGTERM; returns the exit status.

    Raises:
        CrosswindError: whatever is missing, with what to do about it.
    """
    if not settings.database_url:
        raise SettingsError("no database: set CROSSWIND_DATABASE_URL to postgresql://…, or start `crosswind up` first")
    engine = connect(settings.database_url.get_secret_value(), pool_size=2)
    try:
        migrate(engine)
        asyncio.run(_run(settings, PostgresOutbox(engine), checkpoint, options))
    finally:
        engine.dispose()
    return 0


async def _run(settings: Settings, outbox: PostgresOutbox, checkpoint: Checkpoint, options: dict[str, float]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    async with Senders(settings, open_vault(settings)) as send:
        _log.info("notifying", owner=owner)
        dispatcher = Dispatcher(outbox, send, owner, lambda: datetime.now(UTC), SCHEDULE, checkpoint, **options)
        await dispatcher.run(stop)
