"""Articles per second, end to end: a topic full of articles, one worker, until the last one is in Postgres.

    python bench/throughput.py                     real Apache Kafka (Maven and Java 17 needed)
    python bench/throughput.py --embedded          the embedded broker
    python bench/throughput.py --json out.json --model runs/bundle-quick

Measured on one machine, one after the other, in one run, from a backlog of the sample feed's headlines:
 - `worker, bundle`: the real worker with the model;
 - `worker, cached scores`: the real worker, every score known beforehand: everything but the model;
 - `naive consumer`: the same job as people write it today: kafka-python, one message after the other through the same
   bundle, one insert and one commit per row;
 - `bare aiokafka`: reads the topic and counts, nothing else: the ceiling of the client underneath.

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
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer
from kafka import KafkaConsumer, KafkaProducer
from sqlalchemy import Engine, text
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `tests.kafka_server` is not part of the installed package

from crosswind.export.bundle import resolve  # noqa: E402
from crosswind.settings import Settings, load_settings  # noqa: E402
from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker, die_with_parent  # noqa: E402
from crosswind.stream.adapters.kafka.topics import ensure_topics  # noqa: E402
from crosswind.stream.adapters.onnx_scorer import OnnxScorer  # noqa: E402
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres  # noqa: E402
from crosswind.stream.adapters.postgres.engine import connect, migrate  # noqa: E402
from crosswind.stream.domain.article import PPM, Score, Sentiment  # noqa: E402
from crosswind.stream.domain.contract import RawNews, decode_raw, encode  # noqa: E402
from crosswind.stream.feed.sample import NEWS  # noqa: E402

DEADLINE = 600.0
CACHED_PER_SECOND, TIMES_NAIVE = 5000.0, 1.0
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
    from crosswind.stream.agents import Parts, build_app
    from crosswind.stream.bootstrap import database_address, kafka_address
    from crosswind.stream.worker import configure_logging

    configure_logging(settings.log_level)
    engine = connect(database_address(settings))
    store = PostgresTrendStore(engine)
    parts = Parts(settings, CachedScorer(), LinguaDetector(), store, Metrics(), lambda name: None)
    app = build_app(parts, kafka_address(settings))
    add_alert_task(app, parts, engine)
    runner = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, quiet=True, override_logging=False)
    runner.execute_from_commandline()
    return 0


_INSERT = text("""
    INSERT INTO article (run, article_id, source, title, body, url, lang, published_at, first_seen_at, entities,
                         title_key, topic, sentiment, negative_ppm, neutral_ppm, positive_ppm, topic_ppm, unsure,
                         model, origin_topic, origin_partition, origin_offset)
    VALUES ('live', :id, :source, :title, :body, :url, :lang, :at, now(), :entities, '', :topic, :sentiment, :negative,
            :neutral, :positive, :topic_ppm, :unsure, :model, '', 0, 0)
    ON CONFLICT DO NOTHING
""")
_COUNT_IT = text("""
    INSERT INTO bucket (run, minute, topic, lang, entity, articles, negative, positive, negative_ppm)
    VALUES ('live', date_trunc('minute', CAST(:at AS timestamptz)), :topic, :lang, '*', 1, 0, 0, :negative)
    ON CONFLICT (run, minute, topic, lang, entity) DO UPDATE SET articles = bucket.articles + 1
""")


def run_naive(settings: Settings) -> int:
    """A message, a score, two statements and a commit; and again."""
    assert settings.kafka is not None
    assert settings.database_url is not None
    scorer = OnnxScorer(resolve(settings.model), threads=1)
    engine = connect(settings.database_url.get_secret_value())
    consumer = KafkaConsumer(settings.raw_topic, bootstrap_servers=settings.kafka, group_id=settings.group,
                             auto_offset_reset="earliest")  # fmt: skip
    for message in consumer:
        row = json.loads(message.value)
        title, body = row["title"], row.get("body") or ""
        score = scorer.score([f"{title}\n{body}" if body else title])[0]
        values = {
            "id": row["id"], "source": row["source"], "title": title, "body": body, "url": row.get("url"),
            "lang": row.get("lang") or "und", "at": row["published_at"], "entities": row.get("entities") or [],
            "topic": score.topic, "sentiment": score.sentiment.value, "negative": score.negative_ppm,
            "neutral": score.neutral_ppm, "positive": score.positive_ppm, "topic_ppm": score.topic_ppm,
            "unsure": score.unsure, "model": score.model,
        }  # fmt: skip
        with engine.begin() as connection:
            connection.execute(_INSERT, values)
            connection.execute(_COUNT_IT, values)
    return 0


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


def timed(name: str, process: psutil.Process, done: Callable[[], int], number: int) -> Measured:
    """The rate from a tenth of the articles to the last, and the CPU seconds of the process meanwhile."""
    deadline, begun = time.monotonic() + DEADLINE, None
    with tqdm(total=number, desc=name, unit=" articles", disable=None) as bar:
        while True:
            at, seen = time.monotonic(), done()
            bar.update(seen - bar.n)
            if begun is None and seen >= number // 10:
                begun = (at, seen, _cpu(process))
            if begun is not None and seen >= number:
                seconds = at - begun[0]
                return Measured(name, seen - begun[1], seconds, (_cpu(process) - begun[2]) / seconds)
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE or at > deadline:
                raise SystemExit(f"{name}: stopped at {seen} of {number} articles")
            time.sleep(0.05)


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _stored(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM article")).scalar_one())


def measure_job(name: str, label: str, number: int, kafka: str, postgres: str, model: str, folder: Path) -> Measured:
    """Fresh topics and an empty database, a backlog of `number` articles, one process."""
    settings = load_settings({
        "kafka": kafka, "database_url": postgres, "model": model, "group": name, "partitions": 4,
        "raw_topic": f"{name}.raw", "scored_topic": f"{name}.scored", "data_dir": folder,
    })  # fmt: skip
    ensure_topics(settings, kafka)
    engine = connect(postgres)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE article, bucket, duplicate, watermark, engine, incident CASCADE"))
    fill(kafka, settings.raw_topic, number)
    try:
        with job(name, settings, folder / f"{name}.log") as process:
            return timed(label, process, lambda: _stored(engine), number)
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


def measure(arguments: argparse.Namespace, folder: Path) -> list[Measured]:
    """Every job, one after the other."""
    model, few, many = str(resolve(arguments.model).absolute()), arguments.model_articles, arguments.articles
    with services(arguments.embedded, folder) as (kafka, postgres):
        where = (kafka, postgres, model, folder)
        return [
            measure_job("bundle", "worker, bundle", few, *where),
            measure_job("naive", "naive consumer", few, *where),
            measure_job("cached", "worker, cached scores", many, *where),
            measure_bare(kafka, "cached.raw", many),
        ]


def bars_of(found: Sequence[Measured]) -> list[Bar]:
    """The bars."""
    rate = {measured.job: measured.rate for measured in found}
    return [
        Bar("worker with the bundle, times the naive consumer", rate["worker, bundle"] / rate["naive consumer"],
            TIMES_NAIVE),
        Bar("worker with cached scores, articles/s", rate["worker, cached scores"], CACHED_PER_SECOND),
    ]  # fmt: skip


def main() -> int:
    """Run the bench; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a bundle's folder")
    parser.add_argument("--articles", type=int, default=20_000, help="backlog of the jobs without a model")
    parser.add_argument("--model-articles", type=int, default=2_000, help="backlog of the jobs with the model")
    parser.add_argument("--embedded", action="store_true", help="the embedded broker instead of Apache Kafka")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--job", choices=["bundle", "cached", "naive"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        from crosswind.stream.worker import run_worker

        return {"bundle": run_worker, "cached": run_cached_worker, "naive": run_naive}[arguments.job](load_settings())
    with tempfile.TemporaryDirectory(prefix="crosswind-bench-") as folder:
        found = measure(arguments, Path(folder))
    bars = bars_of(found)
    broker = "the embedded broker" if arguments.embedded else "Apache Kafka"
    print(f"{broker}, embedded Postgres, {os.cpu_count()} cores shared by all\n")
    print("| job | articles | articles/s | cores busy |\n|---|---:|---:|---:|")
    for m in found:
        print(f"| {m.job} | {m.articles} | {m.rate:,.0f} | {m.cores:.2f} |")
    print("\n| bar | measured | to reach | |\n|---|---:|---:|---|")
    for b in bars:
        print(f"| {b.name} | {b.value:,.2f} | ≥ {b.reach:,.0f} | {'holds' if b.holds else '**not reached**'} |")
    if arguments.json:
        report = {"broker": broker, "cores": os.cpu_count(), "jobs": [{**asdict(m), "rate": m.rate} for m in found],
                  "bars": [{**asdict(b), "holds": b.holds} for b in bars]}  # fmt: skip
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    missed = [b.name for b in bars if not b.holds]
    print(f"{len(bars) - len(missed)} of {len(bars)} bars hold" + (f"; not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
