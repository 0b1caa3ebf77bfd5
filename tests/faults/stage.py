"""Everything one fault test works with: topics and a group of its own, a feed, a database, and several real workers."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from sqlalchemy import Engine

from crosswind.settings import Settings, load_settings
from crosswind.stream.adapters.kafka.embedded import free_port
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import decode_scored
from tests.oracle import Feed, check, dead_letters, origins, records, send
from tests.processes import PATIENCE, Worker, count, start_worker, wait_for

DRAIN_SECONDS = 60.0
"""From the end of the last fault to lag 0, at most."""
SESSION = 4.0
"""Seconds without a heartbeat after which Kafka gives a dead worker's partitions away: short, to make tests short."""


@dataclass
class Stage:
    """Real workers on one Kafka and one Postgres; `name` keeps its topics and group apart from other tests'."""

    name: str
    kafka: str
    database_url: str
    engine: Engine
    bundle: Path
    folder: Path
    feed: Feed
    pause: float = 0.8
    partitions: int = 4
    workers: list[Worker] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    sent: list[Origin] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """What the workers run with."""
        return load_settings({
            "raw_topic": f"{self.name}.raw", "scored_topic": f"{self.name}.scored", "dead_topic": f"{self.name}.dead",
            "alerts_topic": f"{self.name}.alerts", "group": self.name, "session_timeout": SESSION, "batch_size": 64,
            "partitions": self.partitions,
        })  # fmt: skip

    def open(self) -> None:
        """Makes the topics and starts two workers."""
        ensure_topics(self.settings, self.kafka)
        self.start(0)
        self.start(1)

    def play(self, parts: int = 1) -> None:
        """Produces the next `1 / parts` of the feed, or what is left of it."""
        first = len(self.sent)
        last = min(first + -(-len(self.feed.rows) // parts), len(self.feed.rows))
        self.sent += send(self.kafka, self.settings.raw_topic, self.feed.rows[first:last], first)

    def start(self, number: int, **settings: str) -> None:
        """Starts worker `number`, again if it is gone; its log is in a folder of its own."""
        folder = self.folder / f"worker-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        names = ("raw_topic", "scored_topic", "dead_topic", "alerts_topic", "group", "session_timeout", "batch_size")
        given = {name: str(getattr(self.settings, name)) for name in names}
        port = free_port()
        given |= {"worker_port": str(port), **settings}
        worker = start_worker(self.kafka, self.database_url, self.bundle, folder, pause=self.pause, **given)
        self.workers[number : number + 1] = [worker]
        self.ports[number : number + 1] = [port]

    def wait_until_shared(self) -> None:
        """Until the workers hold all partitions of both topics between them, each one some."""
        partitions = 2 * self.settings.partitions

        def shared() -> bool:
            held = [_assigned(port) for port in self.ports]
            return all(held) and sum(held) == partitions

        wait_for(shared, DRAIN_SECONDS, f"the workers share {partitions} partitions; see {self.folder}")

    def kill(self, number: int) -> None:
        """SIGKILLs a worker."""
        self.workers[number].kill()
        self.workers[number].wait()

    def stored(self) -> int:
        """Articles in the database."""
        return count(self.engine, "article")

    def wait_for_progress(self, articles: int, seconds: float = DRAIN_SECONDS) -> None:
        """Until that many more articles are stored; fails when no work is left by then."""
        target = self.stored() + articles
        wait_for(lambda: self.stored() >= target, seconds, f"{articles} more articles are stored; see {self.folder}")
        assert self.lag() > 0, "the workers were done before the fault came: it would prove nothing"

    def lag(self, group: str | None = None) -> int:
        """Inputs of both topics that the group has not committed; a large number while Kafka cannot say."""
        topics = (self.settings.raw_topic, self.settings.scored_topic)
        try:
            committed, ends = offsets(self.kafka, topics, group or self.name)
        except KafkaError:
            return 1_000_000_000
        return sum(end - committed.get(part, 0) for part, end in ends.items())

    def drain(self, group: str | None = None, seconds: float = DRAIN_SECONDS) -> float:
        """Waits for lag 0; returns the seconds it took."""
        started = time.monotonic()
        wait_for(lambda: self.lag(group) == 0, seconds, f"lag 0; see {self.folder}", every=0.5)
        return time.monotonic() - started

    def check(self) -> None:
        """Compares everything with the oracle."""
        assert len(self.sent) == len(self.feed.rows)
        check(self.engine, self.kafka, self.settings.dead_topic, self.feed, self.sent, self.bundle)

    def check_offsets(self) -> None:
        """No committed offset runs ahead: of the database, or, for the raw topic, of what is published."""
        settings = self.settings
        committed, _ = offsets(self.kafka, (settings.raw_topic, settings.scored_topic), self.name)
        durable = {*origins(self.engine, "article"), *origins(self.engine, "duplicate")}
        published = {letter.origin for letter in dead_letters(self.kafka, settings.dead_topic, None)}
        for record in records(self.kafka, settings.scored_topic, None):
            origin = decode_scored(record.value).article.origin
            published.add(origin)
            if record.offset < committed.get(TopicPartition(record.topic, record.partition), 0):
                assert origin in durable, f"{record.topic}-{record.partition}:{record.offset} is committed, not stored"
        for origin in self.sent:
            if origin.offset < committed.get(TopicPartition(origin.topic, origin.partition), 0):
                assert origin in published, f"{origin} is committed, not published"

    def memory(self) -> int:
        """Bytes that the workers hold in memory."""
        return sum(psutil.Process(worker.pid).memory_info().rss for worker in self.workers)

    def ended(self) -> list[str]:
        """Workers that have ended by themselves: number, exit status, the end of the log."""
        gone = [(number, worker.poll()) for number, worker in enumerate(self.workers) if worker.poll() is not None]
        logs = [self.folder / f"worker-{number}" / "worker.log" for number, _ in gone]
        return [f"{number}: {status}\n{log.read_text('utf-8')[-1000:]}" for (number, status), log in zip(gone, logs)]

    def stop(self) -> list[int]:
        """SIGTERM to all, exit statuses of all; SIGKILL where one takes over ten seconds, which shows as -9."""
        self.wait_until_shared()  # one that is still starting has no handler for SIGTERM yet
        for worker in self.workers:
            worker.terminate()
        deadline = time.monotonic() + 10 * PATIENCE
        for worker in self.workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        return [worker.returncode for worker in self.workers]


Setter = Callable[..., Stage]
"""Makes a stage: `stages(kafka, database_url, engine, **fields)`."""


def _assigned(port: int) -> int:
    """Partitions that the worker with that health port holds."""
    try:
        return len(httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).json()["assigned"])
    except httpx.HTTPError:
        return 0


def offsets(
    kafka: str, topics: Sequence[str], group: str
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """The group's committed offsets and the partitions' ends."""
    admin = KafkaAdminClient(bootstrap_servers=kafka, request_timeout_ms=5000)
    consumer = KafkaConsumer(bootstrap_servers=kafka, group_id=None, request_timeout_ms=5000)
    try:
        found = admin.list_group_offsets(group)[group]
        known = {topic: consumer.partitions_for_topic(topic) for topic in topics}
        if not all(known.values()):
            raise KafkaError(f"the broker does not name the partitions of {topics}")  # nothing waits in none
        parts = [TopicPartition(topic, p) for topic, numbers in known.items() for p in numbers]
        committed = {part: meta.offset for part, meta in found.items() if meta.offset >= 0}
        return committed, dict(consumer.end_offsets(parts))
    finally:
        consumer.close()
        admin.close()
