"""The worker's alert task: evaluate what has closed, then publish what is not yet published.

Every worker runs one; the run's advisory locks let one of them evaluate and one publish at a time. The order, which
at-least-once delivery on `alerts` rests on:

 0. Where stories are on, the articles of closed minutes get theirs; alerts look at no minute before.
 1. A tick evaluates closed minutes and commits incidents and transitions, together.
 2. Transitions after the published cursor are read.
 3. Each is sent; the broker confirms all of them (acks=all).
 4. Only then is the cursor moved.

A crash between 3 and 4 sends them again: same key, same value, same `seq`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta
from functools import cache
from typing import Protocol, TypeVar

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.types import TopicT
from sqlalchemy import Engine

from crosswind.errors import DatabaseError
from crosswind.settings import Settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.alerts import PostgresAlertStore, Unpublished, unpublished
from crosswind.stream.adapters.story_engine import story_engine
from crosswind.stream.adapters.tracing import Tracing
from crosswind.stream.domain.contract import Alert, encode
from crosswind.stream.service.alerting import AlertEngine
from crosswind.stream.service.rules_live import LiveRules
from crosswind.stream.service.stories import StoryEngine

INTERVAL = 0.1
"""Seconds between ticks."""
LONGEST_PAUSE = 5.0
"""Seconds between two tries while database or broker are away; from `INTERVAL` it doubles up to there."""
BATCH = 100
"""Transitions published per turn at most."""
SEND_SECONDS = 10.0
"""A broker that has not confirmed by then is tried again next turn; the publisher's transaction must not stay open."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class AlertParts(Protocol):
    """What the task needs of `agents.Parts`."""

    @property
    def settings(self) -> Settings:
        """The worker's settings."""
        ...

    @property
    def metrics(self) -> Metrics:
        """The worker's metrics."""
        ...

    @property
    def tracing(self) -> Tracing | None:
        """Where spans go; None: nowhere."""
        ...


def add_alert_task(app: faust.App, parts: AlertParts, engine: Engine) -> None:
    """Runs alerts beside the agents of `app`, on the database `engine`.

    Raises:
        SettingsError: the rule file cannot be used: said before anything starts, not by a crash of the task.
    """
    alert_engine(parts.settings, engine)

    async def alerts() -> None:
        await run_alerts(parts, engine, app)

    app.task(alerts)


def alert_engine(settings: Settings, engine: Engine) -> AlertEngine:
    """The alert engine that the settings describe."""
    lateness = timedelta(seconds=settings.lateness_seconds)
    rules = LiveRules(settings.rules)
    rules()  # a wrong file must stop the start, not the first tick
    return AlertEngine(PostgresAlertStore(engine), settings.run, lateness, settings.idle_seconds, rules)


def worker_stories(settings: Settings, engine: Engine) -> StoryEngine | None:
    """The story engine that the settings describe; None where there is none.

    Raises:
        DatabaseError: the database cannot be asked.
    """
    lateness = timedelta(seconds=settings.lateness_seconds)
    return story_engine(engine, settings.run, lateness, settings.idle_seconds, settings.stories)


async def run_alerts(parts: AlertParts, engine: Engine, app: faust.App) -> None:
    """Evaluates and publishes until cancelled. What is transient is logged, once for an outage, and tried again."""
    topic = app.topic(parts.settings.alerts_topic)
    evaluator = alert_engine(parts.settings, engine)
    stories = cache(lambda: worker_stories(parts.settings, engine))  # an error is not cached: it is asked again
    executor = ThreadPoolExecutor(1, thread_name_prefix="alerts")
    outage = _Outage(parts.metrics)
    try:
        while True:
            try:
                await _evaluate(parts, lambda: told_and_evaluated(stories(), evaluator), executor)
                await _publish(unpublished(engine, parts.settings.run, BATCH), executor, topic, parts.tracing)
                outage.over()
            except DatabaseError as error:
                outage.of("database", error)
            except (KafkaError, TimeoutError, ConnectionError) as error:
                outage.of("broker", error)
            await asyncio.sleep(outage.pause)
    finally:
        executor.shutdown(wait=False)  # waiting here would stop the loop that the thread's work may need


class _Outage:
    """What the task waits for, said when it begins and when it is over; `pause`: seconds to the next turn."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._what, self.pause = metrics, "", INTERVAL

    def of(self, what: str, error: Exception) -> None:
        self._metrics.retries.labels(what).inc()
        if what != self._what:
            _log.warning(f"alerts wait for the {what}", error=str(error)[:300] or type(error).__name__)
        self._what, self.pause = what, min(2 * self.pause, LONGEST_PAUSE)

    def over(self) -> None:
        if self._what:
            _log.info(f"alerts no longer wait for the {self._what}")
        self._what, self.pause = "", INTERVAL


def told_and_evaluated(stories: StoryEngine | None, evaluator: AlertEngine) -> list[Alert]:
    """One tick of both: nothing is evaluated whose articles have no stories yet, or get them from another worker.

    Raises:
        DatabaseError: safe to call again.
    """
    if stories is None:
        return evaluator.tick()
    mark = stories.tick()
    return evaluator.tick(mark) if mark else []


async def _evaluate(parts: AlertParts, tick: Callable[[], list[Alert]], executor: ThreadPoolExecutor) -> None:
    for alert in await asyncio.get_running_loop().run_in_executor(executor, tick):
        parts.metrics.alerts.labels(alert.state).inc()
        _log.info("incident", incident=alert.incident_id, state=alert.state, seq=alert.seq, run=alert.run)


async def _publish(
    waiting: AbstractContextManager[Unpublished | None],
    executor: ThreadPoolExecutor,
    topic: TopicT,
    tracing: Tracing | None,
) -> None:
    async with _in_thread(waiting, executor) as batch:
        if batch and batch.alerts:
            await _send(topic, batch.alerts, tracing)
            await asyncio.get_running_loop().run_in_executor(executor, batch.published, batch.alerts[-1].seq)


@asynccontextmanager
async def _in_thread(manager: AbstractContextManager[T], executor: ThreadPoolExecutor) -> AsyncIterator[T]:
    """A blocking context manager, entered and left in the executor."""
    loop = asyncio.get_running_loop()
    value = await loop.run_in_executor(executor, manager.__enter__)
    try:
        yield value
    except BaseException as error:
        await loop.run_in_executor(executor, manager.__exit__, type(error), error, error.__traceback__)
        raise
    await loop.run_in_executor(executor, manager.__exit__, None, None, None)


async def _send(topic: TopicT, alerts: Sequence[Alert], tracing: Tracing | None) -> None:
    """Sends in order and waits until the broker has confirmed all."""
    async with asyncio.timeout(SEND_SECONDS):
        sent = [
            await topic.send(
                key=alert.incident_id.encode(),
                value=encode(alert),
                headers=_traced(tracing, alert) if tracing else None,
            )
            for alert in alerts
        ]
        await asyncio.gather(*sent)


def _traced(tracing: Tracing, alert: Alert) -> list[tuple[str, bytes]]:
    return tracing.alert(alert.evidence, incident_id=alert.incident_id, state=alert.state, run=alert.run)
