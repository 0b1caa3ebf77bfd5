"""The composition root of a worker: the one place where adapters meet the service."""

from dataclasses import dataclass

import faust
import structlog

from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.alert_loop import add_alert_task
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.language import LangidDetector
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.retention_loop import add_retention_task
from crosswind.stream.adapters.story_engine import keeps_meanings
from crosswind.stream.adapters.swap_loop import add_swap_task, open_scorer
from crosswind.stream.adapters.tracing import open_tracing
from crosswind.stream.agents import Checkpoint, Parts, build_app, no_checkpoint
from crosswind.stream.health import add_health_task
from crosswind.stream.service.watchlists import load_watchlist

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


def build_worker(settings: Settings, checkpoint: Checkpoint = no_checkpoint) -> Worker:
    """Verifies the model, migrates the database, makes the topics and builds the app.

    Raises:
        CrosswindError: whatever is missing, with what to do about it.
    """
    bootstrap, url = kafka_address(settings), database_address(settings)
    engine = connect(url)
    migrate(engine)
    scorer = open_scorer(settings, engine)
    ensure_topics(settings, bootstrap)
    metrics = Metrics()
    _log.info("model loaded", model=scorer.version, provider=scorer.provider)
    watchlist = load_watchlist(settings.watchlist)
    store = PostgresTrendStore(engine, keeps_meanings(engine, scorer, settings.stories))
    (settings.data_dir / "faust").mkdir(parents=True, exist_ok=True)  # Faust makes the last folder only
    parts = Parts(settings, scorer, LangidDetector(), store, metrics, checkpoint, watchlist, open_tracing())
    app = build_app(parts, bootstrap)
    add_alert_task(app, parts, engine)
    add_swap_task(app, settings, scorer, metrics, engine)
    add_retention_task(app, parts, engine)
    add_health_task(app, parts)
    return Worker(app, parts)
