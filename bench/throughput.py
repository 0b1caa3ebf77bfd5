"""Articles per second and latency, end to end: real Kafka, real Postgres, from `news.raw` to the bucket.

    python bench/throughput.py                     real Apache Kafka (Maven and Java 17 needed)
    python bench/throughput.py --embedded          the embedded broker; one worker only
    python bench/throughput.py --json out.json --model runs/bundle-quick
    python bench/throughput.py --only cached bundle naive

Measured on one machine, one after the other, in one run, from a backlog of the sample feed's headlines:
 - `worker, bundle`: the real worker with the model;
 - `worker, cached scores`: the real worker, every score known beforehand: everything but the model; and two of them on
   two partitions;
 - `naive consumer`: the same job as people write it today: kafka-python, one message after the other, one commit per
   row; with transformers' `pipeline()` (fp32, sentiment only), and with our own ONNX session;
 - `Quix Streams`: the same with batches (`pip install --no-deps quixstreams==3.28.1 confluent-kafka orjson rocksdict
   jsonpath_ng jsonlines fastavro`; its pydantic pin is older than ours, hence no extra of ours has it);
 - `bare aiokafka`: reads the topic and counts, nothing else: the ceiling of the client underneath;
 - latency: articles sent at half of the cached worker's rate, from `send` until their bucket shows them.

A rate runs from the moment when a tenth of the articles is done, so that no start-up is in it. The last line and the
exit status say which bars hold.
"""

import argparse
import asyncio
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer
from kafka import KafkaProducer
from sqlalchemy import Engine, text
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # `tests.kafka_server` and `bench.jobs` are not part of the installed package

from bench.jobs import latency, rivals  # noqa: E402
from crosswind.export.bundle import resolve  # noqa: E402
from crosswind.settings import Settings, load_settings  # noqa: E402
from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker, die_with_parent  # noqa: E402
from crosswind.stream.adapters.kafka.topics import ensure_topics  # noqa: E402
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres  # noqa: E402
from crosswind.stream.adapters.postgres.engine import connect, migrate  # noqa: E402
from crosswind.stream.domain.article import PPM, Score, Sentiment  # noqa: E402
from crosswind.stream.domain.contract import RawNews, decode_raw, encode  # noqa: E402
from crosswind.stream.feed.sample import NEWS  # noqa: E402

DEADLINE = 600.0
CACHED_PER_SECOND, TIMES_NAIVE, TIMES_QUIX, TIMES_ONE, FLAT = 5000.0, 6.0, 5.0, 1.7, 1.0
MAX_BYTES = 2**20


@dataclass(frozen=True)
class Measured:
    """One job: how many articles per second, and how many cores it kept busy (all of its threads)."""

    job: str
    articles: int
    seconds: float
    cores: float

    @property
    def rate(self) -> float:
        """Articles per second."""
        return self.articles / self.seconds


@dataclass(frozen=True)
class Bar:
    """What must hold."""

    name: str
    value: float
    reach: float

    @property
    def holds(self) -> bool:
        """Whether it is reached."""
        return self.value >= self.reach


class CachedScorer:
    """Implements `Scorer` without a model: the score is looked up by the text's length."""

    version, provider = "cached", "none"

    def __init__(self) -> None:
        topics, moods = ("credit", "earnings", "macro"), list(Sentiment)
        self._scores = [
            Score(topics[n % 3], moods[n % 3], 200_000, 300_000, PPM - 500_000, 800_000, False, self.version)
            for n in range(9)
        ]

    def score(self, texts: Sequence[str]) -> list[Score]:
        """See `Scorer.score`."""
        return [self._scores[len(text) % 9] for text in texts]


def articles(number: int) -> Iterator[bytes]:
    """`news.raw` messages: the sample feed's, again and again, each time with ids of its own."""
    with gzip.open(NEWS, "rb") as lines:
        sample = [decode_raw(line, MAX_BYTES) for line in lines if line.strip()]
    for n in range(number):
        row = sample[n % len(sample)]
        yield encode(RawNews(source=row.source, title=row.title, published_at=row.published_at, id=f"bench-{n}",
                             url=row.url, body=row.body, lang=row.lang, entities=row.entities))  # fmt: skip


def fill(kafka: str, topic: str, number: int) -> None:
    """Produces the articles and waits until the broker has them."""
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=20, batch_size=2**18)
    for n, value in enumerate(articles(number)):
        producer.send(topic, key=b"bench-%d" % n, value=value)
    producer.flush()
    producer.close()


def run_cached_worker(settings: Settings) -> int:
    """The real worker's parts, but for the scorer. The same agents, store and alert task."""
    import faust

    from crosswind.stream.adapters.alert_loop import add_alert_task
    from crosswind.stream.adapters.language import LinguaDetector
    from crosswind.stream.adapters.metrics import Metrics
    from crosswind.stream.adapters.postgres.store import PostgresTrendStore
    from crosswind.stream.agents import Parts, build_app, no_checkpoint
    from crosswind.stream.bootstrap import database_address, kafka_address
    from crosswind.stream.worker import configure_logging

    configure_logging(settings.log_level)
    engine = connect(database_address(settings))
    store = PostgresTrendStore(engine)
    parts = Parts(settings, CachedScorer(), LinguaDetector(), store, Metrics(), no_checkpoint)
    app = build_app(parts, kafka_address(settings))
    add_alert_task(app, parts, engine)
    runner = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, quiet=True, override_logging=False)
    runner.execute_from_commandline()
    return 0


RIVALS = {
    "naive": lambda settings: rivals.naive(settings, rivals.onnx),
    "naive-transformers": lambda settings: rivals.naive(settings, rivals.transformers),
    "quix": lambda settings: rivals.quix(settings, rivals.onnx),
    "quix-transformers": lambda settings: rivals.quix(settings, rivals.transformers),
}
LABELS = {
    "bundle": "worker, bundle", "cached": "worker, cached scores", "pair": "two workers, cached scores",
    "naive": "naive consumer, our session", "naive-transformers": "naive consumer, transformers",
    "quix": "Quix Streams, our session", "quix-transformers": "Quix Streams, transformers",
}  # fmt: skip


@contextmanager
def job(name: str, settings: Settings, log: Path) -> Iterator[psutil.Process]:
    """One job in a process of its own; ended when the block is left."""
    assert settings.kafka is not None
    assert settings.database_url is not None
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CROSSWIND_KAFKA": settings.kafka,
                   "CROSSWIND_DATABASE_URL": settings.database_url.get_secret_value(),
                   "CROSSWIND_MODEL": settings.model, "CROSSWIND_DATA_DIR": str(log.parent),
                   "CROSSWIND_RAW_TOPIC": settings.raw_topic, "CROSSWIND_SCORED_TOPIC": settings.scored_topic,
                   "CROSSWIND_GROUP": settings.group}  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, __file__, "--job", name], env=environment, stdout=out, stderr=out,
                                   preexec_fn=die_with_parent)  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def timed(name: str, processes: Sequence[psutil.Process], done: Callable[[], int], number: int) -> Measured:
    """The rate from a tenth of the articles to the last, and the CPU seconds of the process meanwhile."""
    deadline, begun = time.monotonic() + DEADLINE, None
    with tqdm(total=number, desc=name, unit=" articles", disable=None) as bar:
        while True:
            at, seen = time.monotonic(), done()
            bar.update(seen - bar.n)
            if begun is None and seen >= number // 10:
                begun = (at, seen, _cpu(processes))
            if begun is not None and seen >= number:
                seconds = at - begun[0]
                return Measured(name, seen - begun[1], seconds, (_cpu(processes) - begun[2]) / seconds)
            if at > deadline or any(p.status() == psutil.STATUS_ZOMBIE for p in processes):
                raise SystemExit(f"{name}: stopped at {seen} of {number} articles")
            time.sleep(0.05)


def _cpu(processes: Sequence[psutil.Process]) -> float:
    used = [process.cpu_times() for process in processes]
    return float(sum(times.user + times.system for times in used))


def _stored(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM article")).scalar_one())


def _empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE article, bucket, duplicate, watermark, engine, incident CASCADE"))


def measure_job(name: str, label: str, number: int, kafka: str, postgres: str, model: str, folder: Path) -> Measured:
    """Fresh topics and an empty database, a backlog of `number` articles, one process; for `pair` two."""
    partitions = 2 if name == "pair" else 4
    settings = load_settings({
        "kafka": kafka, "database_url": postgres, "model": model, "group": name, "partitions": partitions,
        "raw_topic": f"{name}.raw", "scored_topic": f"{name}.scored", "data_dir": folder,
    })  # fmt: skip
    ensure_topics(settings, kafka)
    engine = connect(postgres)
    _empty(engine)
    fill(kafka, settings.raw_topic, number)
    try:
        with ExitStack() as stack:
            kind, copies = ("cached", 2) if name == "pair" else (name, 1)
            made = [stack.enter_context(job(kind, settings, folder / f"{name}{n or ''}.log")) for n in range(copies)]
            return timed(label, made, lambda: _stored(engine), number)
    finally:
        engine.dispose()


def measure_bare(kafka: str, topic: str, number: int) -> Measured:
    """Reading the cached job's backlog once more, with nothing done to it."""

    async def run() -> int:
        seen = 0
        async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
            while seen < number:
                seen += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
        return seen

    started, used = time.monotonic(), time.process_time()
    seen = asyncio.run(run())
    seconds = time.monotonic() - started
    return Measured("bare aiokafka", seen, seconds, (time.process_time() - used) / seconds)


@contextmanager
def services(embedded: bool, folder: Path) -> Iterator[tuple[str, str]]:
    """Broker and database of our own; their addresses."""
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
        engine.dispose()
        yield address, url


def measure(arguments: argparse.Namespace, folder: Path) -> tuple[list[Measured], list[latency.Latency]]:
    """Every job, one after the other, and then the latencies."""
    model = str(resolve(arguments.model).absolute())
    found, waits = [], []
    with services(arguments.embedded, folder) as (kafka, postgres):
        where = (kafka, postgres, model, folder)
        for name in arguments.only:
            number = arguments.articles if name in ("cached", "pair") else arguments.model_articles
            if name == "pair" and arguments.embedded:
                print(f"{LABELS[name]}: left out, the embedded broker is for one worker")
                continue
            if name.startswith("quix") and find_spec("quixstreams") is None:
                print(f"{LABELS[name]}: left out, quixstreams is not installed")
                continue
            found.append(measure_job(name, LABELS[name], number, *where))
        if "cached" in arguments.only:
            found.append(measure_bare(kafka, "cached.raw", arguments.articles))
            rate = {one.job: one.rate for one in found}[LABELS["cached"]] / 2
            waits.append(_latency("worker, cached scores, half load", rate, *where))
    return found, waits


def _latency(label: str, rate: float, kafka: str, postgres: str, model: str, folder: Path) -> latency.Latency:
    settings = load_settings({
        "kafka": kafka, "database_url": postgres, "model": model, "group": "latency", "partitions": 4,
        "raw_topic": "latency.raw", "scored_topic": "latency.scored", "data_dir": folder,
    })  # fmt: skip
    ensure_topics(settings, kafka)
    engine = connect(postgres)
    _empty(engine)
    try:
        with job("cached", settings, folder / "latency.log"):
            return latency.measure(label, settings, engine, articles, rate)
    finally:
        engine.dispose()


def bars_of(found: Sequence[Measured]) -> list[Bar]:
    """The bars, of what was measured."""
    rate = {measured.job: measured.rate for measured in found}
    wanted = [
        ("worker, times the naive consumer on transformers", "bundle", "naive-transformers", TIMES_NAIVE),
        ("worker, times Quix Streams on transformers", "bundle", "quix-transformers", TIMES_QUIX),
        ("worker, times Quix Streams on our session", "bundle", "quix", FLAT),
        ("two workers on two partitions, times one", "pair", "cached", TIMES_ONE),
    ]
    bars = [Bar(name, rate[LABELS[ours]] / rate[LABELS[theirs]], reach) for name, ours, theirs, reach in wanted
            if LABELS[ours] in rate and LABELS[theirs] in rate]  # fmt: skip
    if LABELS["cached"] in rate:
        bars.append(Bar("worker with cached scores, articles/s", rate[LABELS["cached"]], CACHED_PER_SECOND))
    return bars


def main() -> int:
    """Run the bench; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a bundle's folder")
    parser.add_argument("--articles", type=int, default=20_000, help="backlog of the jobs without a model")
    parser.add_argument("--model-articles", type=int, default=2_000, help="backlog of the jobs with the model")
    parser.add_argument("--embedded", action="store_true", help="the embedded broker instead of Apache Kafka")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(LABELS), default=list(LABELS), help="these jobs only")
    parser.add_argument("--job", choices=["bundle", "cached", *RIVALS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        from crosswind.stream.worker import run_worker

        return {"bundle": run_worker, "cached": run_cached_worker, **RIVALS}[arguments.job](load_settings())
    with tempfile.TemporaryDirectory(prefix="crosswind-bench-") as folder:
        found, waits = measure(arguments, Path(folder))
    bars = bars_of(found)
    broker = "the embedded broker" if arguments.embedded else "Apache Kafka"
    print(f"{broker}, embedded Postgres, {os.cpu_count()} cores shared by all\n")
    print("| job | articles | articles/s | cores busy |\n|---|---:|---:|---:|")
    for m in found:
        print(f"| {m.job} | {m.articles} | {m.rate:,.0f} | {m.cores:.2f} |")
    if waits:
        print("\n| from send to visible bucket | articles/s | p50 s | p95 s | p99 s |\n|---|---:|---:|---:|---:|")
        for w in waits:
            print(f"| {w.job} | {w.rate:,.0f} | {w.p50:.2f} | {w.p95:.2f} | {w.p99:.2f} |")
    print("\n| bar | measured | to reach | |\n|---|---:|---:|---|")
    for b in bars:
        print(f"| {b.name} | {b.value:,.2f} | ≥ {b.reach:,.0f} | {'holds' if b.holds else '**not reached**'} |")
    if arguments.json:
        report = {"broker": broker, "cores": os.cpu_count(), "jobs": [{**asdict(m), "rate": m.rate} for m in found],
                  "latency": [asdict(w) for w in waits],
                  "bars": [{**asdict(b), "holds": b.holds} for b in bars]}  # fmt: skip
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    missed = [b.name for b in bars if not b.holds]
    print(f"{len(bars) - len(missed)} of {len(bars)} bars hold" + (f"; not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
