"""A database with articles in it and a watermark that the test moves by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.alerts import PostgresAlertStore
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.article import ScoredArticle, Sentiment
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.service.alerting import AlertEngine
from crosswind.stream.service.rules import load_rules
from tests.builders import scored_article
from tests.unit.alerts.feeds import START, Item, Writer

LATENESS = timedelta(minutes=2)
ONSET, END = 9.0, 16.0
"""Hours after the feed's start: the crisis of `short_feed`, and when everything about it is over."""


def short_feed(seed: int = 7) -> list[Item]:
    """14 hours of news and a bank run after 9 of them, which names one company."""
    writer = Writer(seed)
    writer.background(per_hour=40.0)
    writer.crisis("credit", ONSET, 2.0, 90)
    return [item for item in writer.items if item.mention.minute < START + timedelta(hours=14)]


def article_of(item: Item) -> ScoredArticle:
    """The scored article that a simulated one stands for."""
    mention = item.mention
    number = int(mention.article_id, 16)
    sentiment = Sentiment.NEGATIVE if item.negative else Sentiment.NEUTRAL
    scored = scored_article(
        number, topic=mention.topic, lang=mention.lang, sentiment=sentiment, source=mention.source,
        entities=mention.entities,
    )  # fmt: skip
    return replace(scored, article=replace(
        scored.article, published_at=mention.minute, first_seen_at=mention.minute, title_key=mention.title_key
    ))  # fmt: skip


@dataclass(frozen=True)
class World:
    """One run in one database."""

    engine: Engine
    run: str = "live"
    rules: Callable[[], RuleSet] = load_rules

    def ingest(self, items: Sequence[Item], partition: int = 0) -> None:
        deliveries = [Delivery(article_of(item), partition) for item in items]
        for first in range(0, len(deliveries), 500):
            PostgresTrendStore(self.engine).ingest(self.run, deliveries[first : first + 500])

    def move_watermark(self, to: datetime, partition: int = 0, age: float = 0.0) -> None:
        """Sets a partition's event time, moved `age` seconds ago."""
        self.execute(
            "INSERT INTO watermark VALUES (:run, :partition, :to, '{}', clock_timestamp() - :age * interval '1 s') "
            "ON CONFLICT (run, lane) DO UPDATE SET event_time = :to, moved_at = excluded.moved_at",
            to=to, partition=partition, age=age,
        )  # fmt: skip

    def alert_engine(self, chunk: int = 720) -> AlertEngine:
        """A fresh engine, as after a restart."""
        return AlertEngine(PostgresAlertStore(self.engine), self.run, LATENESS, 3.0, self.rules, chunk)

    def end_feed(self, tick: Callable[[], object] | None = None) -> None:
        """Lets an hour pass without an article, and ticks until all is evaluated."""
        tick = tick or (lambda: self.alert_engine().tick())
        while tick():
            continue
        self.execute("UPDATE watermark SET moved_at = moved_at - interval '1 hour'")
        for _ in range(5):
            tick()

    def tick_at(self, hours: float, chunk: int = 720) -> list[Alert]:
        """Closes everything before `hours` after the start, and ticks a fresh engine until it is there."""
        self.move_watermark(START + timedelta(hours=hours) + LATENESS)
        found: list[Alert] = []
        for _ in range(int(hours * 60) // chunk + 3):
            found += self.alert_engine(chunk).tick()
        return found

    def rows(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), {"run": self.run})]

    def execute(self, query: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(query), {"run": self.run, **values})
