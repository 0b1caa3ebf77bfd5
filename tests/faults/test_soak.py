"""A long feed with known scores: what a worker holds in memory does not grow with what it has seen."""

import json
from pathlib import Path

import psutil
import pytest
from kafka import KafkaProducer
from sqlalchemy import Engine

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.topics import ensure_topics
from tests.processes import count, left, start_worker, wait_for

CACHED = """
from crosswind.stream.domain.article import PPM, Score, Sentiment
known = Score("credit", Sentiment.NEUTRAL, 0, PPM, 0, PPM, False, "cached")
from crosswind.stream.adapters.swap import SwapScorer
SwapScorer.score = lambda self, texts: [known] * len(texts)
"""
GROWTH = 1.05
"""Times what it held at half of the feed."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "articles", [30_000, pytest.param(1_000_000, marks=[pytest.mark.full, pytest.mark.timeout(6000)])]
)
def test_memory_is_flat_over_the_last_half(
    articles: int, kafka: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    name, patience = f"soak-{articles}", 400 if articles < 100_000 else 3000
    names = {"raw_topic": f"{name}.raw", "scored_topic": f"{name}.scored", "group": name}
    settings = Settings(**names)  # type: ignore[arg-type]
    ensure_topics(settings, kafka)
    producer = KafkaProducer(bootstrap_servers=kafka, linger_ms=20, batch_size=2**18, acks="all")
    for number in range(articles):
        row = {"source": f"s{number % 9}", "title": f"bank stays {number}", "id": str(number), "lang": "en",
               "published_at": f"2026-03-{number % 28 + 1:02}T{number % 24:02}:00:00Z"}  # fmt: skip
        producer.send(settings.raw_topic, key=b"%d" % number, value=json.dumps(row).encode())
    producer.close()
    worker = start_worker(kafka, database_url, tiny_bundle, tmp_path, before=CACHED, **names)
    try:
        process = psutil.Process(worker.pid)
        wait_for(lambda: count(engine, "article") >= articles // 2, patience, "half is stored", every=0.5)
        half = process.memory_info().rss
        wait_for(lambda: count(engine, "article") == articles, patience, "all is stored", every=0.5)
        assert process.memory_info().rss < half * GROWTH
    finally:
        worker.terminate()
        assert left(worker) == 0
