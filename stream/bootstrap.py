"""The composition root of a worker: the one place where adapters meet the service."""

import asyncio
from dataclasses import dataclass

import faust
import structlog
from aiohttp import web
from prometheus_client import generate_latest

from crosswind.errors import SettingsError
from crosswind.export.bundle import resolve
from crosswind.settings import Settings
from crosswind.stream.adapters.alert_loop import add_alert_task
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.language import LinguaDetector
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.agents import Checkpoint, Parts, build_app

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is ready to run."""

    app: faust.App
    parts: Parts


def kafka_address(settings: Settings) -> str:
    """Kafka's `host:port[,host:port]`.

    Raises:
        SettingsError: it is not set.
    """
    if not settings.kafka:
        raise SettingsError("no Kafka address: set CROSSWIND_KAFKA to host:port, or start `crosswind up` first")
    return settings.kafka


def database_address(settings: Settings) -> str:
    """The database's `postgresql://…` address.

    Raises:
        SettingsError: it is not set.
    """
    if not settings.database_url:
        raise SettingsError("no database: set CROSSWIND_DATABASE_URL to postgresql://…, or start `crosswind up` first")
    return settings.database_url.get_secret_value()


def build_worker(settings: Settings, checkpoint: Checkpoint = lambda name: None) -> Worker:
    """Verifies the model, migrates the database, makes the topics and builds the app.

    Raises:
        CrosswindError: whatever is missing, with what to do about it.
    """
    bootstrap, url = kafka_address(settings), database_address(settings)
    scorer = OnnxScorer(resolve(settings.model), settings.device, settings.threads)
    engine = connect(url)
    migrate(engine)
    ensure_topics(settings, bootstrap)
    metrics = Metrics()
    metrics.provider.labels(scorer.provider, scorer.version).set(1)
    _log.info("model loaded", model=scorer.version, provider=scorer.provider)
    parts = Parts(settings, scorer, LinguaDetector(), PostgresTrendStore(engine), metrics, checkpoint)
    app = build_app(parts, bootstrap)
    add_alert_task(app, parts, engine)
    _serve_health(app, parts)
    return Worker(app, parts)


def _serve_health(app: faust.App, parts: Parts) -> None:
    """Health, metrics and status on loopback, as a task of the app."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(parts.metrics.registry), content_type="text/plain")

    async def ready(_: web.Request) -> web.Response:
        assigned = sorted(f"{tp.topic}-{tp.partition}" for tp in app.consumer.assignment()) if app.consumer else []
        body = {"ready": bool(assigned), "assigned": assigned}
        return web.json_response(body, status=200 if assigned else 503)

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"model": parts.scorer.version, "provider": parts.scorer.provider})

    async def health() -> None:
        server = web.Application()
        server.add_routes([web.get("/metrics", metrics), web.get("/health/ready", ready), web.get("/status", status)])
        runner = web.AppRunner(server, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", parts.settings.worker_port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    app.task(health)
