"""Seeded feeds of the sample's shape: 48 hours, 15 topics, 12 languages, three crises, a decoy, a positive burst."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from crosswind.stream.domain.bucket import ALL, minute_of
from crosswind.stream.domain.incident import Transition
from crosswind.stream.domain.memory import Memory
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE, History, Mention, Series
from crosswind.stream.domain.watch import RUN, Watch
from crosswind.stream.service.rules import load_rules

START = datetime(2026, 3, 2, tzinfo=UTC)
HOURS = 48
SILENCE = timedelta(hours=3)
"""Before the feed begins; the engine, too, sees minutes before the first article."""
TOPICS = ("earnings", "deals", "capital", "credit", "macro", "rates", "policy", "legal", "markets", "commodities",
          "crypto", "business", "people", "incidents", "other")  # fmt: skip
LANGS = ("en", "zh", "ja", "ko", "de", "fr", "es", "pt", "ru", "ar", "hi", "id")


@dataclass(frozen=True)
class Item:
    """One scored article, as far as detection cares."""

    mention: Mention
    negative: bool


@dataclass(frozen=True)
class Crisis:
    topic: str
    onset: datetime
    hours: float
    articles: int


@dataclass(frozen=True)
class Feed:
    items: tuple[Item, ...]
    crises: tuple[Crisis, ...] = ()
    decoy: str = ""
    burst: str = ""


class Writer:
    """Makes articles; every random choice comes from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.items: list[Item] = []

    def write(
        self, minutes: float, topic: str, negative: bool, *, title: str = "", entities: tuple[str, ...] = ()
    ) -> None:
        number = len(self.items)
        mention = Mention(
            minute=minute_of(START + timedelta(minutes=minutes)),
            article_id=f"{number:032x}",
            source=f"source-{self.random.integers(40)}",
            title_key=title or f"title-{number}",
            topic=topic,
            lang=str(self.random.choice(LANGS)),
            negative_ppm=int(self.random.integers(700_000, 990_000)) if negative else 100_000,
            model="m1",
            entities=entities,
        )
        self.items.append(Item(mention, negative))

    def background(self, per_hour: float = 72.0, negative: float = 0.25, clustering: float = 0.15) -> None:
        """Day and night (a third of the rate), topics of unequal size, hours that cluster."""
        weights = self.random.dirichlet(np.full(len(TOPICS), 8.0))
        shares = np.clip(self.random.normal(negative, 0.06, len(TOPICS)), 0.08, 0.45)
        for hour in range(HOURS):
            rhythm = 1.3 if 7 <= hour % 24 < 21 else 0.43
            for topic, weight, share in zip(TOPICS, weights, shares, strict=True):
                rate = per_hour * rhythm * weight * self.random.gamma(1 / clustering, clustering)
                for _ in range(self.random.poisson(rate)):
                    self.write(60 * (hour + self.random.random()), topic, bool(self.random.random() < share))

    def crisis(self, topic: str, hour: float, hours: float, articles: int, negative: float = 0.8) -> Crisis:
        """Most of it early on; the onset is its first minute."""
        for share in self.random.beta(1.0, 1.4, articles):
            self.write(60 * (hour + hours * share), topic, bool(self.random.random() < negative), entities=("Acme",))
        return Crisis(topic, START + timedelta(hours=hour), hours, articles)

    def copies(self, topic: str, hour: float, count: int = 50) -> None:
        """One negative story, syndicated."""
        for _ in range(count):
            self.write(60 * (hour + 1.5 * self.random.random()), topic, True, title="the-story")

    def burst(self, topic: str, hour: float, count: int = 90) -> None:
        """Good news, with the model's few mistakes."""
        for _ in range(count):
            self.write(60 * (hour + 3 * self.random.random()), topic, bool(self.random.random() < 0.06))


def sample_like(seed: int) -> Feed:
    """The sample feed's shape."""
    writer = Writer(seed)
    writer.background()
    topics = [str(topic) for topic in writer.random.permutation(TOPICS[:-1])]
    hours = (float(writer.random.uniform(9, 16)), float(writer.random.uniform(20, 28)),
             float(writer.random.uniform(32, 42)))  # fmt: skip
    crises = tuple(
        writer.crisis(topic, hour, float(writer.random.uniform(2, 4)), int(writer.random.integers(60, 151)))
        for topic, hour in zip(topics, hours, strict=False)
    )
    writer.copies(topics[3], float(writer.random.uniform(10, 40)))
    writer.burst(topics[4], float(writer.random.uniform(10, 40)))
    return Feed(tuple(writer.items), crises, topics[3], topics[4])


def histories(items: Iterable[Item], hours: int = HOURS) -> dict[Series, History]:
    """The closed buckets of every series of some articles, over `hours` from `START`."""
    begin = START - SILENCE
    minutes = hours * 60 + SILENCE // MINUTE
    negative: dict[Series, np.ndarray] = defaultdict(lambda: np.zeros(minutes, np.int64))
    articles: dict[Series, np.ndarray] = defaultdict(lambda: np.zeros(minutes, np.int64))
    mentions: dict[Series, list[Mention]] = defaultdict(list)
    run = np.zeros(minutes, np.int64)
    for item in items:
        mention = item.mention
        minute = (mention.minute - begin) // MINUTE
        if not 0 <= minute < minutes:
            continue
        run[minute] += 1
        series = [RUN, Series(mention.topic), Series(mention.topic, mention.lang)]
        for one in (*series, *(Series(ALL, ALL, entity) for entity in mention.entities)):
            articles[one][minute] += 1
            negative[one][minute] += item.negative
            if item.negative:
                mentions[one].append(mention)
    return {one: History.of(begin, negative[one], articles[one], run, mentions[one]) for one in articles}


def transitions(items: Sequence[Item], rules: RuleSet | None = None) -> list[Transition]:
    """Every transition of a feed."""
    watch = Watch("test", rules or load_rules())
    return watch.over(histories(items), Memory(), START, START + (HOURS * 60 - 1) * MINUTE)[1]
