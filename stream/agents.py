"""The Faust app: two stateless agents. The truth is in Postgres.

Commit order, the contract that at-least-once delivery and exactly-once effect rest on:

 1. `news.raw` is read from the committed offset.
 2. A micro-batch is validated and scored in the inference executor.
 3. Scored articles go to `news.scored`, dead letters to `news.dead`; the broker confirms each (acks=all).
 4. Only then are the batch's events acked; Faust commits their offsets some time later.
 5. `news.scored` is read from the committed offset.
 6. One transaction stores what is new, moves the buckets by just that, keeps edits as versions, notes duplicates and
    moves the watermark.
 7. Only then are the events acked; Faust commits their offsets some time later.

The next batches, two side by side, are scored (2), or one is decoded, while those before are published or stored. Those
that wait are published, or stored, together (3, 6), and acked in the order of the topic (4, 7). Offsets are committed
only up to the first chunk that is not acked (`adapters/kafka/chunks.py`).

A crash between any two steps repeats the steps since the last commit, and 6 makes the repetition without effect. No
exception leaves an agent's loop: Faust would ack the event and lose it (seen: 28 of 40 messages). What is transient is
retried in place, poison is dead-lettered, and for anything else the process ends at once, before step 4 or 7.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, cast

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from faust.transport.drivers.aiokafka import Producer
from faust.types import StreamT

from crosswind.errors import ContractError, DatabaseError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka import dead_letters
from crosswind.stream.adapters.kafka.bulk import Record, send_bulk
from crosswind.stream.adapters.kafka.chunks import ChunkTransport
from crosswind.stream.adapters.kafka.security import faust_credentials
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.tracing import Headers, Tracing
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import decode_scored, encode_scored
from crosswind.stream.domain.ingest import Delivery, Ingested
from crosswind.stream.domain.validate import Limits
from crosswind.stream.domain.watchlist import Watchlist
from crosswind.stream.pipeline import Pace, Steps, drain
from crosswind.stream.service.ports import LanguageDetector, Scorer, TrendStore
from crosswind.stream.service.retry import until_done
from crosswind.stream.service.scoring import DeadLetter, Judged, Message, judge

CHUNK = 128
"""Records of a chunk, and of a micro-batch on a machine that is slow."""
BATCH_TIME = 2.0
"""Seconds that a micro-batch may take before the next ones get smaller."""
BUFFERED_CHUNKS = 16
"""Chunks between Faust's fetcher and an agent; Faust stops fetching a partition at four fifths of it."""
STORE_BATCHES = 16
"""Micro-batches of the score agent that one database transaction takes at most: a transaction costs more than a row."""
SCORED_AT_ONCE = 2
"""Micro-batches that are scored side by side: while one is read, or waits for its last texts, inference threads that
have nothing left of it begin with the next."""
PUBLISH_BATCHES = 16
"""Scored micro-batches that one round trip to the broker takes at most."""
SEND_BATCH = 256 * 1024
"""Bytes of a batch to the broker; Kafka's default of 16 KiB is some 30 articles."""

Checkpoint = Callable[[str], Awaitable[None]]
"""Awaited by name between the steps above; tests pass one that kills the process there."""


async def no_checkpoint(name: str) -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agents work with; the composition root fills it, tests swap any of it."""

    settings: Settings
    scorer: Scorer
    detector: LanguageDetector
    store: TrendStore
    metrics: Metrics
    checkpoint: Checkpoint
    watchlist: Watchlist | None = None
    tracing: Tracing | None = None


def build_app(parts: Parts, bootstrap: str) -> faust.App:
    """The Faust app with its two agents, not yet started. `bootstrap` is `host:port[,host:port]`."""
    settings = parts.settings
    app = faust.App(
        settings.group,
        broker=[f"kafka://{address.strip()}" for address in bootstrap.split(",")],
        broker_credentials=faust_credentials(settings),
        store="memory://",
        datadir=str(settings.data_dir / "faust"),
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_MESSAGE,
        producer_max_request_size=MAX_MESSAGE,
        producer_max_batch_size=SEND_BATCH,
        producer_acks=-1,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 4,
        broker_commit_interval=1.0,
        broker_max_poll_records=settings.batch_size * STORE_BATCHES,
        stream_buffer_maxsize=BUFFERED_CHUNKS,
        stream_wait_empty=False,  # on a rebalance do not wait for batches: redelivery is harmless here
        stream_publish_on_commit=False,
        topic_allow_declare=False,  # topics are made by `ensure_topics`, without time retention
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.transport = ChunkTransport(app.conf.broker_consumer, app, min(CHUNK, settings.batch_size))
    _add_score_agent(app, parts)
    _add_trend_agent(app, parts)
    return app


def _add_score_agent(app: faust.App, parts: Parts) -> None:
    settings, metrics = parts.settings, parts.metrics
    # Inline, the event loop lagged 600 ms at p99.
    executor = ThreadPoolExecutor(SCORED_AT_ONCE, thread_name_prefix="score")
    limits = Limits(settings.max_bytes, timedelta(seconds=settings.future_seconds))
    publisher = Publisher(app, parts)
    pace = Pace(CHUNK, settings.batch_size, BATCH_TIME)

    def prepare(messages: Sequence[Message]) -> Outgoing:
        metrics.batch.observe(len(messages))
        started, begun = time.time_ns(), time.monotonic()
        with metrics.inference.time():
            judged = judge(
                messages, scorer=parts.scorer, detect=parts.detector.detect, limits=limits, watchlist=parts.watchlist
            )
        pace.took(len(messages), time.monotonic() - begun)
        return Outgoing.of(judged, trace_scored(parts.tracing, messages, judged, started) if parts.tracing else {})

    async def settled(messages: Sequence[Message]) -> None:
        await parts.checkpoint("before-ack-raw")
        metrics.done(settings.raw_topic, messages[-1].timestamp, datetime.now(UTC))

    steps = Steps(
        prepare, publisher.publish, settled, executor, pace.batch, settings.batch_seconds, PUBLISH_BATCHES,
        SCORED_AT_ONCE,
    )  # fmt: skip

    @app.agent(app.topic(settings.raw_topic), name="score")
    async def score(stream: StreamT[Any]) -> None:
        await drain(stream, steps)


def _add_trend_agent(app: faust.App, parts: Parts) -> None:
    settings, metrics = parts.settings, parts.metrics
    decoding, storing = (ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("decode", "store"))
    publisher = Publisher(app, parts)

    async def ingest(deliveries: Sequence[Delivery]) -> Ingested:
        loop = asyncio.get_running_loop()
        return await until_done(
            lambda: loop.run_in_executor(storing, parts.store.ingest, settings.run, deliveries),
            transient=DatabaseError,
            what="database",
            on_retry=metrics.retries.labels("database").inc,
        )

    async def settle(batches: Sequence[Decoded]) -> None:
        (found,) = batches
        await publisher.publish([found.unreadable])
        await parts.checkpoint("before-commit")
        started, begun = time.monotonic(), time.time_ns()
        ingested = await ingest(found.deliveries)
        metrics.store.observe(time.monotonic() - started)
        if parts.tracing:
            trace_stored(parts.tracing, found, begun)
        await parts.checkpoint("after-commit")
        metrics.stored.inc(ingested.new)
        metrics.duplicates.inc(ingested.duplicates)
        metrics.edits.inc(ingested.edited)
        metrics.redelivered.inc(ingested.redelivered)
        metrics.expired.inc(ingested.expired)

    async def settled(messages: Sequence[Message]) -> None:
        await parts.checkpoint("before-ack-scored")
        metrics.done(settings.scored_topic, messages[-1].timestamp, datetime.now(UTC))

    most = settings.batch_size * STORE_BATCHES
    steps = Steps(decode, settle, settled, decoding, lambda: most, settings.batch_seconds)

    @app.agent(app.topic(settings.scored_topic), name="trend")
    async def trend(stream: StreamT[Any]) -> None:
        await drain(stream, steps)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a batch became, ready to be published.

    Attributes:
        scored: key, value and headers of each record.
        langs: the languages of these articles.
    """

    scored: list[Record]
    langs: list[str]
    dead: list[DeadLetter]

    @classmethod
    def of(cls, judged: Judged, traced: Mapping[Origin, Headers]) -> "Outgoing":
        """Encodes a judged batch; `traced`: headers of the articles that are traced, by where they came from."""
        records = [
            (scored.article.article_id.encode(), encode_scored(scored), traced.get(scored.article.origin, ()))
            for scored in judged.scored
        ]
        return cls(records, [scored.article.lang for scored in judged.scored], judged.dead)

    @classmethod
    def together(cls, batches: Sequence["Outgoing"]) -> "Outgoing":
        """Batches as one, in order."""
        return cls(*(list(chain.from_iterable(getattr(one, name) for one in batches)) for name in cls.__slots__))


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch of `news.scored`: what goes into the database, what cannot be read, and the headers of what is traced.

    Attributes:
        traced: article id and headers.
    """

    deliveries: list[Delivery]
    unreadable: Outgoing
    traced: list[tuple[str, Headers]]


def decode(messages: Sequence[Message]) -> Decoded:
    """Decodes a batch of `news.scored`."""
    deliveries, dead, traced = list[Delivery](), list[DeadLetter](), list[tuple[str, Headers]]()
    for message in messages:
        try:
            scored = decode_scored(message.value)
        except ContractError as error:
            dead.append(DeadLetter(message, error))
            continue
        deliveries.append(Delivery(scored, message.origin.partition))
        if message.headers:
            traced.append((scored.article.article_id, message.headers))
    return Decoded(deliveries, Outgoing([], [], dead), traced)


def trace_scored(tracing: Tracing, messages: Sequence[Message], judged: Judged, started: int) -> dict[Origin, Headers]:
    """Ends the `score` spans of a batch; the headers that carry them on, by where the articles came from."""
    parents = {message.origin: message.headers for message in messages if message.headers}
    found: dict[Origin, Headers] = {}
    if parents:
        for scored in judged.scored:
            article, model = scored.article, scored.score.model
            about = {"article_id": article.article_id, "lang": article.lang, "model": model}
            found[article.origin] = tracing.step("score", parents.get(article.origin, ()), started, **about)
    return found


def trace_stored(tracing: Tracing, found: Decoded, started: int) -> None:
    """Ends the `store` spans of a batch."""
    for article_id, headers in found.traced:
        tracing.remember(article_id, tracing.step("store", headers, started, article_id=article_id))


class Publisher:
    """Publishes a judged batch and waits until the broker has confirmed all of it."""

    def __init__(self, app: faust.App, parts: Parts) -> None:
        self._app, self._parts = app, parts

    async def publish(self, batches: Sequence[Outgoing]) -> None:
        """Sends until the broker has confirmed; a repetition is a redelivery, which is harmless."""
        batch = Outgoing.together(batches)
        if not batch.scored and not batch.dead:
            return
        metrics = self._parts.metrics
        await self._parts.checkpoint("before-publish")
        await until_done(
            lambda: self._send(batch),
            transient=(KafkaError, TimeoutError, ConnectionError),
            what="broker",
            on_retry=metrics.retries.labels("broker").inc,
        )
        await self._parts.checkpoint("after-publish")
        for lang, number in Counter(batch.langs).items():
            metrics.scored.labels(lang).inc(number)
        for letter in batch.dead:
            metrics.dead.labels(letter.error.reason.value).inc()

    async def _send(self, batch: Outgoing) -> None:
        producer = cast("Producer", self._app.producer)._ensure_producer()  # Faust's own, without its way per message
        settings = self._parts.settings
        if batch.scored:
            await send_bulk(producer, settings.scored_topic, batch.scored)
        for letter in batch.dead:
            await _bury(producer, settings.dead_topic, letter)


async def _bury(producer: AIOKafkaProducer, topic: str, letter: DeadLetter) -> None:
    """Publishes a dead letter. One that is too large unpacked (a record is packed on the wire, and may unpack to any
    size) never fits, however often it is sent: it goes without its message, and says which one it was."""
    message = letter.message
    found = dead_letters.headers(message.origin, letter.error, "VALUE_CONVERTER")
    try:
        await producer.send_and_wait(topic, key=message.key, value=message.value, headers=list(found.items()))
    except (MessageSizeTooLargeError, RecordListTooLargeError):
        found |= dead_letters.in_place_of(message.value)
        key = found[dead_letters.SHA256]  # the key may be what is too large, and a record must have one of the two
        await producer.send_and_wait(topic, key=key, value=None, headers=list(found.items()))
