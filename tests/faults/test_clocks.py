"""Wrong clocks: producers an hour off, time stepping back, an article from next year."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kafka import KafkaProducer
from sqlalchemy import Engine, text

from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.topics import ensure_topics
from tests.oracle import buckets, dead_letters, expected, make_feed
from tests.processes import count, left, start_worker, wait_for

FEED = make_feed(500)
YEAR = timedelta(days=365)


def test_clocks_that_are_wrong_change_no_count_and_no_watermark(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    ensure_topics(Settings(), broker)
    rng, now = random.Random(3), datetime.now(UTC)
    future = json.dumps({"source": "a", "title": "bank falls", "id": "next-year",
                         "published_at": (now + YEAR).isoformat()}).encode()  # fmt: skip
    producer = KafkaProducer(bootstrap_servers=broker, acks="all", max_request_size=2**24)
    for number, row in enumerate(FEED.rows):
        written = now + timedelta(seconds=rng.uniform(-3600, 3600))  # each producer's clock, back and forth
        producer.send("news.raw", key=str(number).encode(), value=row, timestamp_ms=int(written.timestamp() * 1000))
    # a clock a year ahead does not let an article of next year pass for one of today
    producer.send("news.raw", value=future, timestamp_ms=int((now + YEAR).timestamp() * 1000)).get(30)
    producer.close()
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: count(engine, "article") == FEED.articles, 60, "every article is stored")
        wait_for(lambda: count(engine, "duplicate") == FEED.duplicates, 30, "every duplicate is named")
    finally:
        worker.terminate()
        assert left(worker) == 0
    assert buckets(engine) == expected(FEED, tiny_bundle)
    refused = [letter.value for letter in dead_letters(broker, "news.dead") if letter.reason == "in_the_future"]
    assert future in refused
    with engine.connect() as connection:
        newest = connection.execute(text("SELECT max(event_time) FROM watermark")).scalar_one()
    assert newest < now
