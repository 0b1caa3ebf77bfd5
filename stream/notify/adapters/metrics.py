"""Prometheus metrics of the dispatcher, on loopback unless told otherwise; `docs/subscriptions.md` has their names."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from crosswind.errors import DatabaseError, SettingsError
from crosswind.stream.adapters.postgres.outbox_upkeep import Pruned, Waiting
from crosswind.stream.notify.domain.subscription import Channel
from crosswind.stream.notify.service.dispatcher import GONE, Outcome, Reply, Result

REASONS = (
    "gone", "busy", "redirect", "client_error", "server_error", "no_answer", "cannot_connect", "not_public", "other",
)  # fmt: skip
"""All values of the label `reason`."""
_BUSY = 429
_log = structlog.get_logger(__name__)


def reason_of(reply: Reply) -> str:
    """Why a reply is a failure, as one of `REASONS`.

    >>> [reason_of(Reply(code)) for code in (410, 429, 302, 404, 503)]
    ['gone', 'busy', 'redirect', 'client_error', 'server_error']
    """
    if reply.status is not None:
        named = {GONE: "gone", _BUSY: "busy"}.get(reply.status)
        return named or {3: "redirect", 4: "client_error", 5: "server_error"}.get(reply.status // 100, "other")
    begins = {"no answer": "no_answer", "cannot connect": "cannot_connect", "refused": "not_public"}
    return next((name for words, name in begins.items() if reply.detail.startswith(words)), "other")


class NotifyMetrics:
    """The dispatcher's metrics, on a registry of their own so that tests can make many."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.delivered = Counter(
            "crosswind_notify_delivered", "Messages that were taken", ["channel"], registry=registry
        )
        self.failed = Counter("crosswind_notify_failed", "Messages given up", ["reason"], registry=registry)
        self.retries = Counter(
            "crosswind_notify_retries", "Attempts that failed and are made again", ["reason"], registry=registry
        )
        self.pruned = Counter(
            "crosswind_notify_pruned_rows", "Rows of old deliveries that were dropped", ["what"], registry=registry
        )
        self.waiting = Gauge("crosswind_notify_waiting", "Messages that wait", registry=registry)
        self.oldest = Gauge(
            "crosswind_notify_oldest_waiting_seconds", "Age of the oldest message that waits", registry=registry
        )
        self.overdue = Gauge(
            "crosswind_notify_overdue_seconds", "Since when the first message could have gone", registry=registry
        )
        for channel in (channel for channel in Channel if channel is not Channel.STREAM):
            self.delivered.labels(channel.value)
        for reason in REASONS:
            self.failed.labels(reason)
            self.retries.labels(reason)

    def recorded(self, results: Sequence[Result]) -> None:
        """Outcomes that were recorded. What is held for quiet hours or a cap is no attempt."""
        for result in results:
            if result.outcome is Outcome.SENT:
                self.delivered.labels(result.message.channel.value).inc()
            elif result.outcome is Outcome.RETRY:
                self.retries.labels(reason_of(result.reply)).inc()
            elif result.outcome in (Outcome.FAILED, Outcome.GONE):
                self.failed.labels(reason_of(result.reply)).inc()

    def dropped(self, pruned: Pruned) -> None:
        """Rows that were dropped."""
        for what in ("messages", "outbox", "deliveries"):
            self.pruned.labels(what).inc(getattr(pruned, what))

    def saw(self, found: Waiting | None) -> None:
        """What waits; None: nobody knows, and the gauges say so by NaN rather than by an old figure."""
        figures = (found.count, found.oldest_seconds, found.overdue_seconds) if found else (float("nan"),) * 3
        for gauge, figure in zip((self.waiting, self.oldest, self.overdue), figures, strict=True):
            gauge.set(figure)


@asynccontextmanager
async def served(metrics: NotifyMetrics, look: Callable[[], Waiting], host: str, port: int) -> AsyncIterator[str]:
    """Serves `/metrics`; gives its address.

    Args:
        look: counts what waits, at each scrape; blocks.

    Raises:
        SettingsError: the port is taken.
    """

    async def show(_: web.Request) -> web.Response:
        try:
            metrics.saw(await asyncio.to_thread(look))
        except DatabaseError as error:
            _log.warning("what waits is not known", error=str(error)[:300])
            metrics.saw(None)
        return web.Response(body=generate_latest(metrics.registry), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(
                f"cannot serve metrics on {host}:{port} ({error.strerror}); set CROSSWIND_NOTIFY_PORT to a free one"
            ) from None
        where, bound = runner.addresses[0][:2]
        yield f"http://{f'[{where}]' if ':' in where else where}:{bound}/metrics"
    finally:
        await runner.cleanup()
