"""What all jobs of `bench/throughput.py` share: services, a feed, processes, and the rate at which articles arrive."""

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaProducer
from sqlalchemy import Engine, text
from tqdm import tqdm

from bench.jobs.stages import read_stages
from crosswind.settings import Settings, load_settings
from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker, die_with_parent
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.domain.contract import RawNews, decode_raw, encode
from crosswind.stream.feed.sample import NEWS

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench" / "throughput.py"
MAX_BYTES = 2**20
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
DEADLINE = 240.0
"""Seconds after which a job that has done nothing counts as hung."""
LONGEST = 60.0
"""Seconds that a rate is taken over at most: a slow rival need not work off its backlog."""


@dataclass(frozen=True)
class Measured:
    """One job: how many articles per second, and how many cores it kept busy.

    Attributes:
        cores: of the job's process, all of its threads.
        stages: stage -> cores that it kept busy, of the worker, of Kafka and of Postgres.
    """

    job: str
    articles: int
    seconds: float
    cores: float
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Articles per second."""
        return self.articles / self.seconds


def pooled(turns: Sequence[Measured]) -> Measured:
    """One job that was measured in several turns: all of its articles in all of its time."""
    seconds = sum(one.seconds for one in turns)
    stages = {stage: sum(one.stages.get(stage, 0.0) * one.seconds for one in turns) / seconds
              for stage in turns[0].stages}  # fmt: skip
    cores = sum(one.cores * one.seconds for one in turns) / seconds
    return Measured(turns[0].job, sum(one.articles for one in turns), seconds, cores, stages)


@dataclass(frozen=True)
class Services:
    """Broker and database of the bench's own.

    Attributes:
        pids: name -> process id of the service's first process.
        model, device: the bundle that the workers serve, and where.
    """

    kafka: str
    postgres: str
    model: str
    device: str
    folder: Path
    pids: dict[str, int]

    def settings(self, name: str, partitions: int = 4, **more: Any) -> Settings:
        """Settings of a job with topics and a group of its own."""
        names = {topic: f"{name}.{topic.split('_')[0]}" for topic in ("raw_topic", "scored_topic", "alerts_topic")}
        return load_settings({
            "kafka": self.kafka, "database_url": self.postgres, "model": self.model, "device": self.device,
            "group": name, "partitions": partitions, "data_dir": self.folder, **names, **more,
        })  # fmt: skip


DENSITY = 50.0
"""Articles per second of event time. The sample feed's own times are those of a trickle, an article every minute or so,
and a backlog of it would be weeks of minutes to evaluate."""


def articles(number: int, density: float = DENSITY) -> Iterator[bytes]:
    """`news.raw` messages: the sample feed's, again and again, with ids and times of their own."""
    with gzip.open(NEWS, "rb") as lines:
        sample = [decode_raw(line, MAX_BYTES) for line in lines if line.strip()]
    for n in range(number):
        row = sample[n % len(sample)]
        at = START + timedelta(seconds=n / density)
        yield encode(RawNews(source=row.source, title=row.title, published_at=at, id=f"bench-{n}",
                             url=row.url, body=row.body, lang=row.lang, entities=row.entities))  # fmt: skip


def fill(kafka: str, topic: str, number: int, density: float = DENSITY) -> None:
    """Produces the articles and waits until the broker has them."""
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=20, batch_size=2**18)
    for n, value in enumerate(articles(number, density)):
        producer.send(topic, key=b"bench-%d" % n, value=value)
    producer.flush()
    producer.close()


@contextmanager
def services(embedded: bool, model: str, device: str, folder: Path) -> Iterator[Services]:
    """A broker and a migrated database."""
    with ExitStack() as stack:
        broker: Any
        if embedded:
            broker = EmbeddedBroker(folder / "broker.log")
        else:
            from tests.kafka_server import KafkaServer

            broker = KafkaServer(folder / "kafka")
        address = broker.start()
        stack.callback(broker.stop)
        postgres = EmbeddedPostgres(folder / "postgres")
        url = postgres.start()
        stack.callback(postgres.stop)
        engine = connect(url)
        migrate(engine)
        with engine.connect() as connection:
            postmaster = psutil.Process(int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())).ppid()
        engine.dispose()
        pids = {"Postgres": postmaster, "Kafka": broker._process.pid}
        yield Services(address, url, model, device, folder, pids)


def empty(engine: Engine) -> None:
    """No article, bucket or incident is left."""
    tables = "article, bucket, bucket_hour, duplicate, watermark, engine, incident, story"
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} CASCADE"))


def stored(engine: Engine, run: str = "live") -> int:
    """Articles that are in the database, by the buckets' own count, which is cheap however many there are."""
    with engine.connect() as connection:
        query = text("SELECT coalesce(sum(articles), 0) FROM bucket_hour WHERE run = :run AND entity = '*'")
        return int(connection.execute(query, {"run": run}).scalar_one())


def evaluated(engine: Engine, run: str = "live") -> int:
    """Articles of the minutes that alerts have been evaluated for, and so, where stories are on, have their stories."""
    with engine.connect() as connection:
        query = text("SELECT count(*) FROM article WHERE run = :run AND published_at < "
                     "(SELECT evaluated_to FROM engine WHERE run = :run)")  # fmt: skip
        return int(connection.execute(query, {"run": run}).scalar_one())


def through(number: int, closed: float = 0.7) -> Callable[[Engine], int]:
    """What of a backlog of `number` articles is stored; not all of it before `closed` of it is evaluated, too.

    Evaluation alone is no rate: it begins late, and then goes through minutes that were stored long before.
    """

    def count(engine: Engine) -> int:
        found = stored(engine)
        return found if found < number or evaluated(engine) >= closed * number else number - 1

    return count


@contextmanager
def job(name: str, settings: Settings, log: Path, python: Path | None = None) -> Iterator[psutil.Process]:
    """One job in a process of its own; ended when the block is left.

    Args:
        python: the interpreter, where it is not this one; it finds this one's packages after its own.
    """
    assert settings.kafka is not None
    assert settings.database_url is not None
    names = (
        "kafka",
        "model",
        "device",
        "raw_topic",
        "scored_topic",
        "alerts_topic",
        "group",
        "rules",
        "lateness_seconds",
        "stories",
    )
    given = {name: getattr(settings, name) for name in names}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CROSSWIND_DATA_DIR": str(log.parent),
                   "CROSSWIND_DATABASE_URL": settings.database_url.get_secret_value(),
                   **{f"CROSSWIND_{key.upper()}": str(value) for key, value in given.items()
                      if value is not None}}  # fmt: skip
    command = [str(python or sys.executable), str(BENCH), "--job", name, "--stages", str(log.with_suffix(".stages"))]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, preexec_fn=die_with_parent)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Crew:
    """The processes of a job, the files in which they write down their stages, and the services beside them."""

    processes: Sequence[psutil.Process]
    files: Sequence[Path]
    pids: dict[str, int]

    def seconds(self) -> dict[str, float]:
        """CPU seconds so far: of the job as `all`, of its stages, of the services."""
        found = {"all": sum(map(_cpu, self.processes))}
        for file in self.files:
            for stage, used in read_stages(file).items():
                found[stage] = found.get(stage, 0.0) + used
        return found | {name: _family(pid) for name, pid in self.pids.items()}

    def gone(self) -> bool:
        """Whether one of the job's processes has ended."""
        return any(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in self.processes)


def measure_job(
    name: str, label: str, number: int, where: Services, *, kind: str | None = None, copies: int = 1,
    partitions: int = 4, python: Path | None = None, settings: dict[str, Any] | None = None, fresh: bool = True,
    density: float = DENSITY, done: Callable[[Engine], int] = stored,
) -> Measured:  # fmt: skip
    """Fresh topics, an empty database unless not `fresh`, a backlog of `number` articles, `copies` processes.

    Args:
        done: how many articles are through.
    """
    chosen = where.settings(name, partitions, **(settings or {}))
    assert chosen.kafka is not None
    ensure_topics(chosen, chosen.kafka)
    engine = connect(where.postgres)
    if fresh:
        empty(engine)
    before = done(engine)
    fill(where.kafka, chosen.raw_topic, number, density)
    logs = [where.folder / f"{name}{n or ''}.log" for n in range(copies)]
    try:
        with ExitStack() as stack:
            made = [stack.enter_context(job(kind or name, chosen, log, python)) for log in logs]
            crew = Crew(made, [log.with_suffix(".stages") for log in logs], where.pids)
            return timed(label, crew, lambda: done(engine) - before, number, logs[0])
    finally:
        engine.dispose()


def timed(label: str, crew: Crew, done: Callable[[], int], number: int, log: Path) -> Measured:
    """The rate from a tenth of the articles to the last, so that no start-up is in it, and the CPU used meanwhile.

    After `LONGEST` seconds of that it is the rate so far.
    """
    deadline, begun = time.monotonic() + DEADLINE, None
    with tqdm(total=number, desc=label, unit=" articles", disable=None) as bar:
        while True:
            at, seen = time.monotonic(), done()
            bar.update(seen - bar.n)
            if begun is None and seen >= number // 10:
                begun = (at, seen, crew.seconds())
            enough = begun is not None and at - begun[0] > LONGEST and seen > begun[1]
            if begun is not None and (seen >= number or enough):
                seconds = max(at - begun[0], 1e-3)
                used = {stage: (total - begun[2].get(stage, 0.0)) / seconds
                        for stage, total in crew.seconds().items()}  # fmt: skip
                return Measured(label, max(seen - begun[1], 1), seconds, used.pop("all"), used)
            if at > deadline or crew.gone():
                raise SystemExit(f"{label}: stopped at {seen} of {number} articles; its log ends with\n{_tail(log)}")
            time.sleep(0.05)


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-2000:]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _family(pid: int) -> float:
    """CPU seconds of a process and of its children, those that have ended included."""
    try:
        parent = psutil.Process(pid)
        ended = parent.cpu_times().children_user + parent.cpu_times().children_system
        return _cpu(parent) + ended + sum(map(_cpu, parent.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0.0
