"""The dispatcher's upkeep: drops deliveries that are older than the settings keep, every hour."""

import asyncio
from collections.abc import Callable

import structlog

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres.outbox_upkeep import Pruned

INTERVAL = 3600.0
"""Seconds between sweeps."""
AFTER_TROUBLE = 60.0
"""Seconds to the next try when the database is away."""
BREATH = 0.05
"""Seconds between batches, which belong to those who send."""
_log = structlog.get_logger(__name__)


async def run_upkeep(
    prune: Callable[[], tuple[Pruned, bool]], dropped: Callable[[Pruned], None], interval: float = INTERVAL
) -> None:
    """Sweeps until cancelled.

    Args:
        prune: drops one batch and says whether there may be more; blocks.
        dropped: told what each batch dropped.
    """
    while True:
        done = await _sweep(prune, dropped)
        await asyncio.sleep(interval if done else min(interval, AFTER_TROUBLE))


async def _sweep(prune: Callable[[], tuple[Pruned, bool]], dropped: Callable[[Pruned], None]) -> bool:
    """One sweep; False: the database is away."""
    total, more = Pruned(), True
    try:
        while more:
            batch, more = await asyncio.to_thread(prune)
            dropped(batch)
            total += batch
            await asyncio.sleep(BREATH)
    except DatabaseError as error:
        _log.warning("old deliveries wait for the database", error=str(error)[:300])
        return False
    if total != Pruned():
        _log.info("pruned", messages=total.messages, outbox=total.outbox, deliveries=total.deliveries)
    return True
