"""Made feeds: scored articles of any length with crises whose onset is known. Seeded: the same every time.

For benchmarks, examples and tests. Nights and weekends are quiet, topics and languages differ in size, hours cluster.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from crosswind.stream.domain.series import Series
from crosswind.stream.replay.columns import TIME, normalise
from crosswind.stream.replay.truth import Event

TOPICS = ("earnings", "deals", "capital", "credit", "macro", "rates", "policy", "legal", "markets", "commodities",
          "crypto", "business", "people", "incidents", "other")  # fmt: skip
LANGUAGES = ("en", "zh", "ja", "ko", "de", "fr", "es", "pt", "ru", "ar", "hi", "id", "tr", "it", "nl", "pl", "sv", "vi",
             "th", "uk")  # fmt: skip
START = datetime(2025, 1, 6, tzinfo=UTC)
NEGATIVE = 0.22
HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """A made feed: articles as in `columns.SCHEMA`, ascending by time, and its crises."""

    table: pa.Table
    events: list[Event]


def made_feed(articles: int, days: int, *, crises: int = 4, languages: int = 20, seed: int = 1) -> Made:
    """So many articles of everyday news over so many days, and crises of 60 to 150 articles on top.

    Args:
        languages: how many of `LANGUAGES`, at most 20.
    """
    random = np.random.default_rng(seed)
    hour = np.arange(days * 24)
    rhythm = np.where((hour % 24 >= 7) & (hour % 24 < 21), 1.3, 0.43) * np.where(hour // 24 % 7 >= 5, 0.4, 1.0)
    rhythm = rhythm * random.gamma(8.0, 1.0 / 8.0, len(hour))
    at = random.choice(len(hour), articles, p=rhythm / rhythm.sum()) * HOUR + random.integers(0, HOUR, articles)
    topic = random.choice(len(TOPICS), articles, p=random.dirichlet(np.full(len(TOPICS), 8.0)))
    shares = np.clip(random.normal(NEGATIVE, 0.05, len(TOPICS)), 0.08, 0.4)
    mood = np.where(random.random(articles) < shares[topic], 0, 1 + (random.random(articles) < 0.4))
    entity = np.where(random.random(articles) < 0.3, random.integers(0, 300, articles), -1)
    parts = [(at, topic, mood, entity)]
    events = []
    for number, begin in enumerate(np.sort(random.uniform(8 * 24, days * 24 - 8, crises)) if days > 9 else []):
        size, length = int(random.integers(60, 151)), float(random.uniform(2, 5))
        about, company = int(random.integers(len(TOPICS) - 1)), 1000 + number
        when = (begin + length * random.beta(1.0, 1.4, size)) * HOUR
        parts.append((when.astype(np.int64), np.full(size, about), np.where(random.random(size) < 0.85, 0, 1),
                      np.full(size, company)))  # fmt: skip
        onset = START + timedelta(hours=float(begin))
        events.append(Event(f"crisis {number + 1}", onset, onset + timedelta(hours=length), Series(TOPICS[about])))
    at, topic, mood, entity = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(at, kind="stable")
    weights = random.dirichlet(np.full(languages, 2.0))
    lang, source = random.choice(languages, len(at), p=weights), random.integers(0, 80, len(at))
    return Made(_table(at[order], topic[order], mood[order], entity[order], lang, source), events)


def _table(
    at: np.ndarray, topic: np.ndarray, mood: np.ndarray, entity: np.ndarray, lang: np.ndarray, source: np.ndarray
) -> pa.Table:
    count = len(at)
    moods = ("negative", "neutral", "positive")
    start = int(START.timestamp()) * 1_000_000
    titles = [f"Headline {number}" for number in range(count)]
    table, _ = normalise(pa.table({
        "article_id": pa.array([f"{number:032x}" for number in range(count)]),
        "source": _named([f"source-{n}" for n in range(80)], source), "title": pa.array(titles),
        "title_key": pa.array([f"{number:016x}" for number in range(count)]),
        "lang": _named(LANGUAGES, lang), "topic": _named(TOPICS, topic), "sentiment": _named(moods, mood),
        "published_at": pa.array(at + start, pa.int64()).cast(TIME),
        "entities": pa.array([[f"Company {n}"] if n >= 0 else [] for n in entity.tolist()], pa.list_(pa.string())),
        "model": pa.array(["made"] * count),
    }))  # fmt: skip
    return table


def _named(names: "tuple[str, ...] | list[str]", codes: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names)).cast(pa.string())


def truth_csv(events: list[Event]) -> str:
    """The crises as a file of labelled events."""
    rows = [f"{event.name},{event.onset.isoformat()},{event.end.isoformat()},{event.series.topic}" for event in events]
    return "\n".join(["name,onset,end,series", *rows]) + "\n"
