"""The Faust app: two stateless agents. The truth is in Postgres.

Commit order, the contract that at-least-once delivery and exactly-once effect rest on:

 1. `news.raw` is read from the committed offset.
 2. A micro-batch is validated and scored in the inference executor.
 3. Scored articles go to `news.scored`, dead letters to `news.dead`; the broker confirms each (acks=all).
 4. Only then are the batch's events acked; Faust commits their offsets some time later.
 5. `news.scored` is read from the committed offset.
 6. One transaction stores what is new, moves the buckets by just that, notes duplicates and moves the watermark.
 7. Only then are the events acked; Faust commits their offsets some time later.

A crash between any two steps repeats the steps since the last commit, and 6 makes the repetition without effect. No
exception leaves an agent's loop: Faust would ack the event and lose it (seen: 28 of 40 messages). What is transient is
retried in place, poison is dead-lettered, and for anything else the process ends at once, before step 4 or 7.

Faust's `take` acks in `finally`, even when the body failed; `noack_take` leaves the acks to us.
"""

import asyncio
import os
import sys
import time
import traceback
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.types import EventT, StreamT, TopicT

from crosswind.errors import ContractError, DatabaseError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka import dead_letters
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import decode_scored, encode_scored
from crosswind.stream.domain.ingest import Delivery, Ingested
from crosswind.stream.domain.validate import Limits
from crosswind.stream.service.ports import LanguageDetector, Scorer, TrendStore
from crosswind.stream.service.retry import until_done
from crosswind.stream.service.scoring import DeadLetter, Judged, Message, judge

STUCK = 70
"""Exit status (EX_SOFTWARE) of a worker that met an error it can neither wait out nor dead-letter."""

Checkpoint = Callable[[str], None]
"""Called by name between the steps above; tests pass one that kills the process there."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agents work with; the composition root fills it, tests swap any of it."""

    settings: Settings
    scorer: Scorer
    detector: LanguageDetector
    store: TrendStore
    metrics: Metrics
    checkpoint: Checkpoint


def build_app(parts: Parts, bootstrap: str) -> faust.App:
    """The Faust app with its two agents, not yet started. `bootstrap` is `host:port[,host:port]`."""
    settings = parts.settings
    app = faust.App(
        settings.group,
        broker=[f"kafka://{address.strip()}" for address in bootstrap.split(",")],
        store="memory://",
        datadir=str(settings.data_dir / "faust"),
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_MESSAGE,
        producer_max_request_size=MAX_MESSAGE,
        producer_acks=-1,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 4,
        broker_commit_interval=1.0,
        stream_wait_empty=False,  # on a rebalance do not wait for batches: redelivery is harmless here
        stream_publish_on_commit=False,
        topic_allow_declare=False,  # topics are made by `ensure_topics`, without time retention
        topic_disable_leader=True,
        web_enabled=False,
    )
    raw, scored = app.topic(settings.raw_topic), app.topic(settings.scored_topic)
    dead = app.topic(settings.dead_topic)
    _add_score_agent(app, raw, scored, dead, parts)
    _add_trend_agent(app, scored, dead, parts)
    return app


def _add_score_agent(app: faust.App, raw: TopicT, scored: TopicT, dead: TopicT, parts: Parts) -> None:
    executor = ThreadPoolExecutor(1, thread_name_prefix="score")  # inline, the event loop lagged 600 ms at p99
    limits = Limits(parts.settings.max_bytes, timedelta(seconds=parts.settings.future_seconds))
    publisher = Publisher(scored, dead, parts)

    async def handle(events: Sequence[EventT[Any]]) -> None:
        messages = [_message(event) for event in events]
        parts.metrics.batch.observe(len(messages))
        started = time.monotonic()
        judged = await asyncio.get_running_loop().run_in_executor(
            executor,
            lambda: judge(messages, scorer=parts.scorer, detect=parts.detector.detect, limits=limits),
        )
        parts.metrics.inference.observe(time.monotonic() - started)
        await publisher.publish(judged)

    @app.agent(raw, name="score")
    async def score(stream: StreamT[Any]) -> None:
        await _drain(stream, handle, parts)


def _add_trend_agent(app: faust.App, scored: TopicT, dead: TopicT, parts: Parts) -> None:
    executor = ThreadPoolExecutor(1, thread_name_prefix="store")
    publisher = Publisher(scored, dead, parts)
    run = parts.settings.run

    async def store(deliveries: list[Delivery]) -> Ingested:
        loop = asyncio.get_running_loop()
        return await until_done(
            lambda: loop.run_in_executor(executor, parts.store.ingest, run, deliveries),
            transient=DatabaseError,
            what="database",
            on_retry=parts.metrics.retries.labels("database").inc,
        )

    async def handle(events: Sequence[EventT[Any]]) -> None:
        deliveries, dead_found = _deliveries([_message(event) for event in events])
        await publisher.publish(Judged([], dead_found))
        parts.checkpoint("before-commit")
        started = time.monotonic()
        ingested = await store(deliveries)
        parts.metrics.store.observe(time.monotonic() - started)
        parts.checkpoint("after-commit")
        parts.metrics.stored.inc(ingested.new)
        parts.metrics.duplicates.inc(ingested.duplicates)
        parts.metrics.redelivered.inc(ingested.redelivered)

    @app.agent(scored, name="trend")
    async def trend(stream: StreamT[Any]) -> None:
        await _drain(stream, handle, parts)


def _deliveries(messages: Sequence[Message]) -> tuple[list[Delivery], list[DeadLetter]]:
    deliveries, dead = [], []
    for message in messages:
        try:
            deliveries.append(Delivery(decode_scored(message.value), message.origin.partition))
        except ContractError as error:
            dead.append(DeadLetter(message, error))
    return deliveries, dead


async def _drain(
    stream: StreamT[Any], handle: Callable[[Sequence[EventT[Any]]], Awaitable[None]], parts: Parts
) -> None:
    """Hands out micro-batches and acks each one after `handle` returned (steps 4 and 7)."""
    settings = parts.settings
    faust_stream = cast("faust.Stream[Any]", stream)  # the protocol `StreamT` does not know `noack_take`
    batches: AsyncIterable[Any] = faust_stream.noack_take(settings.batch_size, settings.batch_seconds)
    async for events in batches:
        try:
            await handle(events)
        except asyncio.CancelledError:
            raise  # a rebalance or a shutdown: nothing was acked, it will be delivered again
        except BaseException as error:  # see the module's docstring: none may leave the loop
            _end_process(error)
        parts.checkpoint("before-ack")
        for event in events:
            event.ack()


def _end_process(error: BaseException) -> None:
    """Ends the process before the batch is acked; a supervisor restarts it, and the batch is delivered again."""
    sys.stderr.write("the worker met an error that it can neither wait out nor dead-letter; it ends itself:\n")
    traceback.print_exception(error, limit=-8)
    sys.stderr.flush()
    os._exit(STUCK)


def _message(event: EventT[Any]) -> Message:
    record = event.message
    timestamp = datetime.fromtimestamp(record.timestamp or 0.0, UTC)
    return Message(Origin(record.topic, record.partition, record.offset), timestamp, record.key, record.value)


class Publisher:
    """Publishes a judged batch and waits until the broker has confirmed all of it."""

    def __init__(self, scored: TopicT, dead: TopicT, parts: Parts) -> None:
        self._scored, self._dead, self._parts = scored, dead, parts

    async def publish(self, judged: Judged) -> None:
        """Sends until the broker has confirmed; a repetition is a redelivery, which is harmless."""
        if not judged.scored and not judged.dead:
            return
        metrics = self._parts.metrics
        self._parts.checkpoint("before-publish")
        await until_done(
            lambda: self._send(judged),
            transient=(KafkaError, TimeoutError, ConnectionError),
            what="broker",
            on_retry=metrics.retries.labels("broker").inc,
        )
        self._parts.checkpoint("after-publish")
        for scored in judged.scored:
            metrics.scored.labels(scored.article.lang).inc()
        for letter in judged.dead:
            metrics.dead.labels(letter.error.reason.value).inc()

    async def _send(self, judged: Judged) -> None:
        pending = [
            await self._scored.send(key=scored.article.article_id.encode(), value=encode_scored(scored))
            for scored in judged.scored
        ]
        for letter in judged.dead:
            message = letter.message
            found = dead_letters.headers(message.origin, letter.error, "VALUE_CONVERTER")
            pending.append(await self._dead.send(key=message.key, value=message.value, headers=found))
        await asyncio.gather(*pending)
