"""Health, metrics and status of a worker, on loopback unless told otherwise; the watch that ends one which is stuck.

A worker can be up and consume nothing: Faust was seen to restart an agent, or to lose a rebalance, and then to hand out
no more records while it went on sending heartbeats. So a worker lives as long as its offsets advance while there is
lag; offsets that no record has, of transactions' markers and of dropped records, are none. One that waits for a
database or a broker that is away lives too: a restart would not help.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, cast

import faust
import structlog
from aiohttp import web
from aiokafka.errors import KafkaError
from faust.types import TP
from prometheus_client import generate_latest

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.chunks import ChunkConsumer
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.pipeline import STUCK
from crosswind.stream.service.ports import Scorer

INTERVAL = 2.0
"""Seconds between looks at the offsets."""
ASK_SECONDS = 5.0
"""A broker that has not said by then where its partitions end counts as not answering."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the offsets found.

    Attributes:
        reached: per partition that is assigned here, the offset before which nothing is left to do: the committed one
            or, where nothing is open, the one that is read next.
        ends: per partition, the offset after its last record, as far as the broker said.
        waits: how often something waited for a database or broker so far.
        broker: whether a broker accepts connections.
    """

    reached: Mapping[TP, int]
    ends: Mapping[TP, int]
    waits: float = 0.0
    broker: bool = True

    @property
    def lag(self) -> int:
        """Records that are not done."""
        return sum(max(0, end - self.reached.get(tp, 0)) for tp, end in self.ends.items())


@dataclass
class Liveness:
    """Whether offsets advance while there is lag.

    Attributes:
        patience: seconds without progress after which the worker counts as stuck.
    """

    patience: float
    _seen: Look | None = None
    _moved_at: float = field(default=float("-inf"))

    def alive(self, look: Look, now: float) -> bool:
        """Takes a look in; `now` in seconds, of any monotonic clock.

        >>> part, liveness = TP("news.raw", 0), Liveness(patience=60)
        >>> [liveness.alive(Look({part: 5}, {part: 9}), now) for now in (0, 59, 61)]
        [True, True, False]
        >>> liveness.alive(Look({part: 6}, {part: 9}), 62)
        True
        """
        before, self._seen = self._seen, look
        moved = (
            before is None
            or look.lag == 0
            or not look.broker
            or look.waits > before.waits
            or dict(look.reached) != dict(before.reached)
        )
        if moved:
            self._moved_at = now
        return now - self._moved_at <= self.patience


class HealthParts(Protocol):
    """What health needs of `agents.Parts`."""

    @property
    def settings(self) -> Settings:
        """The worker's settings."""
        ...

    @property
    def scorer(self) -> Scorer:
        """The scorer in use."""
        ...

    @property
    def metrics(self) -> Metrics:
        """The worker's metrics."""
        ...


class Watch:
    """Looks at the offsets again and again; keeps the lag metrics, ends the process when it is stuck."""

    def __init__(self, app: faust.App, parts: HealthParts) -> None:
        self._app, self._metrics = app, parts.metrics
        self._liveness = Liveness(parts.settings.stuck_seconds)
        self.alive = True
        self.lag = 0

    def assigned(self) -> set[TP]:
        """The partitions that this worker holds."""
        consumer = cast("ChunkConsumer | None", self._app.consumer)
        try:
            return set(consumer.assignment()) if consumer else set()
        except (AttributeError, AssertionError):  # Faust's consumer thread is not up yet
            return set()

    async def run(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            look = await self._look()
            self.lag, self.alive = look.lag, self._liveness.alive(look, clock())
            self._metrics.set_lag(_by_topic(look), datetime.now(UTC))
            if not self.alive:
                end_stuck(look, self._liveness.patience)
            await asyncio.sleep(INTERVAL)

    async def _look(self) -> Look:
        assigned, waits = self.assigned(), self._metrics.waits()
        if not assigned:
            return Look({}, {}, waits)
        consumer = cast("ChunkConsumer", self._app.consumer)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                ends = dict(await consumer.highwaters(*assigned))
                return Look(await consumer.reached(assigned), ends, waits)
        except (TimeoutError, KafkaError, ConnectionError):
            seen, known = self._liveness._seen or Look({}, {}), consumer.committed()
            reached = {tp: max(known.get(tp, 0), seen.reached.get(tp, 0)) for tp in assigned}
            return Look(reached, seen.ends, waits, await self._broker_answers())

    async def _broker_answers(self) -> bool:
        for url in self._app.conf.broker_consumer:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    _, writer = await asyncio.open_connection(url.host, url.port)
                writer.close()
            except (OSError, TimeoutError):
                continue
            return True
        return False


def _by_topic(look: Look) -> dict[str, int]:
    lags: dict[str, int] = {}
    for tp, end in look.ends.items():
        lags[tp.topic] = lags.get(tp.topic, 0) + max(0, end - look.reached.get(tp, 0))
    return lags


def end_stuck(look: Look, patience: float) -> None:
    """Ends the process so that a supervisor starts it again; what is not acked is delivered again."""
    sys.stderr.write(
        f"the worker is stuck: {look.lag} records wait, and no offset was committed for {patience:.0f} s, although "
        "broker and database answer; it ends itself to be started again. CROSSWIND_STUCK_SECONDS sets the time\n"
    )
    sys.stderr.flush()
    os._exit(STUCK)


def add_health_task(app: faust.App, parts: HealthParts) -> None:
    """Serves `/health/live`, `/health/ready`, `/status` and `/metrics`, and watches the offsets, beside the agents."""
    watch = Watch(app, parts)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(parts.metrics.registry), content_type="text/plain")

    async def ready(_: web.Request) -> web.Response:
        assigned = sorted(f"{tp.topic}-{tp.partition}" for tp in watch.assigned())
        return web.json_response({"ready": bool(assigned), "assigned": assigned}, status=200 if assigned else 503)

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"live": watch.alive, "lag": watch.lag}, status=200 if watch.alive else 503)

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"model": parts.scorer.version, "provider": parts.scorer.provider})

    async def health() -> None:
        server = web.Application()
        routes = {"/metrics": metrics, "/health/ready": ready, "/health/live": live, "/status": status}
        server.add_routes([web.get(path, handler) for path, handler in routes.items()])
        runner = web.AppRunner(server, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, parts.settings.worker_host, parts.settings.worker_port).start()
            _log.info("health and metrics are served", port=runner.addresses[0][1])
            await watch.run()
        finally:
            await runner.cleanup()

    app.task(health)
