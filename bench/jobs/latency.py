"""How long an article takes from `send` until a bucket shows it, at a given rate."""

import time
from bisect import bisect_left
from dataclasses import dataclass
from threading import Thread

import numpy as np
from kafka import KafkaProducer
from sqlalchemy import Engine, text

from bench.jobs.stage import articles
from crosswind.settings import Settings

WARM_UP, DEADLINE = 3.0, 120.0
_VISIBLE = text("SELECT coalesce(sum(articles), 0) FROM bucket WHERE entity = '*'")


@dataclass(frozen=True)
class Latency:
    """Seconds from `send` to the visible bucket, of the articles after the warm-up."""

    job: str
    rate: float
    p50: float
    p95: float
    p99: float


def measure(label: str, settings: Settings, engine: Engine, rate: float, seconds: float) -> Latency:
    """Sends at `rate` for so long after the warm-up; the k-th article is visible when the buckets hold k of them."""
    number = int(rate * (seconds + WARM_UP))
    sent: list[float] = []
    values = list(articles(number + 1))
    wait_for_the_worker(settings, engine, values.pop())
    sender = Thread(target=_send, args=(settings, values, rate, sent), daemon=True)
    sender.start()
    counts, moments = [0], [time.monotonic()]
    deadline = time.monotonic() + DEADLINE
    while counts[-1] < number:
        with engine.connect() as connection:
            seen = int(connection.execute(_VISIBLE).scalar_one()) - 1
        counts.append(seen)
        moments.append(time.monotonic())
        if moments[-1] > deadline:
            raise SystemExit(f"latency: stopped at {seen} of {number} articles")
        time.sleep(0.01)
    sender.join()
    first = int(rate * WARM_UP)
    waits = [moments[bisect_left(counts, n + 1)] - sent[n] for n in range(first, number)]
    p50, p95, p99 = (float(value) for value in np.percentile(waits, (50, 95, 99)))
    return Latency(label, number / (sent[-1] - sent[0]), p50, p95, p99)


def wait_for_the_worker(settings: Settings, engine: Engine, value: bytes) -> None:
    """Sends one article and waits until it is counted."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    producer.send(settings.raw_topic, value=value).get(30)
    producer.close()
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if connection.execute(_VISIBLE).scalar_one() == 1:
                return
        time.sleep(0.05)
    raise SystemExit("latency: the worker did not start")


def _send(settings: Settings, values: list[bytes], rate: float, sent: list[float]) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=5)
    begun = time.monotonic()
    for n, value in enumerate(values):
        ahead = begun + n / rate - time.monotonic()
        if ahead > 0.002:
            time.sleep(ahead)
        sent.append(time.monotonic())
        producer.send(settings.raw_topic, key=b"%d" % n, value=value)
    producer.close()
