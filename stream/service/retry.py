"""Waiting out what is transient. A database or broker that is away slows the stream; it loses nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

T = TypeVar("T")
_log = structlog.get_logger(__name__)


async def until_done(
    operation: Callable[[], Awaitable[T]],
    *,
    transient: type[Exception] | tuple[type[Exception], ...],
    what: str,
    on_retry: Callable[[], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Runs `operation` until it succeeds; waits 0.1 s, doubling to 5 s, after each transient failure.

    Raises:
        Exception: whatever is not `transient`, at once.
    """

    def note(state: RetryCallState) -> None:
        on_retry()
        error = state.outcome.exception() if state.outcome else None
        _log.warning("retrying", what=what, attempt=state.attempt_number, error=str(error)[:300])

    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(transient),
        wait=wait_exponential_jitter(initial=0.1, max=5.0, jitter=0.1),
        before_sleep=note,
        sleep=sleep,
        reraise=True,
    ):
        with attempt:
            return await operation()
    raise AssertionError("unreachable: retrying never gives up")
