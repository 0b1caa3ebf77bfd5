"""How long from the article that closes a minute until the alert of that minute is on the `alerts` topic.

A minute of event time passes per second. Each minute a company of its own has a burst of bad news among the neutral
flow, and a rule with the least possible patience alarms on it. A minute closes with the first article that is dated a
minute and the lateness after it; the clock starts when that one is sent, whatever partition it goes to.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from sqlalchemy import Engine

from bench.jobs.latency import Latency, wait_for_the_worker
from bench.jobs.stage import articles
from crosswind.export.bundle import resolve
from crosswind.settings import Settings
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.domain.article import Sentiment
from crosswind.stream.domain.contract import Alert, RawNews, decode_raw, encode

START = datetime(2026, 6, 1, 8, tzinfo=UTC)
SPEED = 60.0
"""Event seconds per second."""
BEFORE = timedelta(hours=3)
"""Quiet history before the first burst: a rule needs an hour."""
BURST, SOURCES, SAMPLE = 12, 4, 400
LATENESS = 120
WAIT = 20.0
"""Seconds to wait for the last alerts."""
RULES = """
version: 1
no_data: null
rules:
  - name: bench
    watch: {kinds: [entity]}
    count: articles
    false_alarms: {at_most: 100}
    evidence: {headlines: 4, sources: 2, hours: 1}
    for: 0m
"""


@dataclass(frozen=True)
class Texts:
    """Titles that the bundle finds negative, and others."""

    bad: Sequence[str]
    other: Sequence[str]


def pick(model: str) -> Texts:
    """Titles of the sample feed, judged by the bundle."""
    titles = [decode_raw(value, 2**20).title for value in articles(SAMPLE)]
    scorer = OnnxScorer(resolve(model))
    scores = scorer.score(titles)
    scorer.close()
    bad = [title for title, score in zip(titles, scores, strict=True) if score.sentiment is Sentiment.NEGATIVE]
    if not bad:
        raise SystemExit("alert latency: the bundle finds no title of the sample feed negative")
    return Texts(bad, [title for title in titles if title not in set(bad)])


def write_rules(folder: Path) -> Path:
    """The rule file of the measurement."""
    path = folder / "rules.yaml"
    path.write_text(RULES, "utf-8")
    return path


def measure(label: str, settings: Settings, engine: Engine, texts: Texts, rate: float, seconds: float) -> Latency:
    """Sends at `rate` articles/s for so long, and listens for the first transition of every incident."""
    wait_for_the_worker(settings, engine, _row(texts.other[0], START - BEFORE, 0, None))
    heard: dict[str, tuple[datetime, float]] = {}
    done = threading.Event()
    listener = threading.Thread(target=_listen, args=(settings, heard, done), daemon=True)
    listener.start()
    sent = _send(settings, texts, rate, seconds)
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and len(heard) < seconds * SPEED / 60 - 4:
        time.sleep(0.1)
    done.set()
    listener.join()
    waits = [moment - sent[place][1] for at, moment in heard.values()
             if (place := bisect_left(sent, (_closes(at), 0.0))) < len(sent)]  # fmt: skip
    if len(waits) < 3:
        raise SystemExit(f"alert latency: only {len(waits)} alerts came; the rule or the feed of this bench is wrong")
    p50, p95, p99 = (float(value) for value in np.percentile(waits, (50, 95, 99)))
    return Latency(f"{label} ({len(waits)} alerts)", rate, p50, p95, p99)


def _closes(minute: datetime) -> datetime:
    return minute + timedelta(minutes=1, seconds=LATENESS)


def _row(title: str, at: datetime, number: int, company: str | None) -> bytes:
    return encode(RawNews(source=f"wire-{number % SOURCES}", title=title, published_at=at, id=f"alert-{number}",
                          lang="en", entities=[company] if company else []))  # fmt: skip


def _send(settings: Settings, texts: Texts, rate: float, seconds: float) -> list[tuple[datetime, float]]:
    """Event time and moment of sending of each article of the fast part, ascending."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=5)
    quiet = 120
    for n in range(1, quiet + 1):
        at = START - BEFORE + BEFORE * n / (quiet + 1)
        producer.send(settings.raw_topic, key=b"%d" % n, value=_row(texts.other[n % len(texts.other)], at, n, None))
    producer.flush()
    sent: list[tuple[datetime, float]] = []
    begun, per_minute = time.monotonic(), max(1, round(rate * 60 / SPEED))
    for n in range(int(rate * seconds)):
        at = START + timedelta(seconds=n / rate * SPEED)
        bad = n % per_minute < BURST
        title = (texts.bad if bad else texts.other)[n % len(texts.bad if bad else texts.other)]
        value = _row(title, at, 1000 + n, f"Company {n // per_minute}" if bad else None)
        time.sleep(max(0.0, begun + n / rate - time.monotonic()))
        sent.append((at, time.monotonic()))
        producer.send(settings.raw_topic, key=b"%d" % n, value=value)
    producer.close()
    return sent


def _listen(settings: Settings, heard: dict[str, tuple[datetime, float]], done: threading.Event) -> None:
    consumer = KafkaConsumer(settings.alerts_topic, bootstrap_servers=settings.kafka, group_id=None,
                             auto_offset_reset="earliest", consumer_timeout_ms=100)  # fmt: skip
    while not done.is_set():
        for message in consumer:
            alert = msgspec.json.decode(message.value, type=Alert)
            heard.setdefault(alert.incident_id, (alert.at, time.monotonic()))
    consumer.close()
