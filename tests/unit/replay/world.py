"""Feeds as tables of scored articles, and replays of them in a folder."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.replay.columns import table_of
from crosswind.stream.replay.engine import Pace
from crosswind.stream.replay.inprocess import Outcome, Plan, replay_in_process
from crosswind.stream.replay.sources import Source
from crosswind.stream.service.rules import load_rules
from tests.integration.alerts.world import article_of, short_feed


def articles(seed: int = 7) -> list[ScoredArticle]:
    """14 hours of news with one bank run."""
    return [article_of(item) for item in short_feed(seed)]


def table(rows: Sequence[ScoredArticle] | None = None) -> pa.Table:
    return table_of(articles() if rows is None else rows)


def replayed(folder: Path, feed: pa.Table | None = None, **options: Any) -> Outcome:
    """A replay in process; `options` are those of `Plan`."""
    feed = table() if feed is None else feed
    plan = Plan("test", options.pop("rules", load_rules()), folder, **options)
    return replay_in_process(lambda: Source("test", iter([feed])), plan)


def log_of(folder: Path, feed: pa.Table | None = None, **options: Any) -> bytes:
    """The bytes of its alert log."""
    return replayed(folder, feed, **options).log.read_bytes()


def fired(log: bytes) -> list[dict[str, Any]]:
    return [row for line in log.splitlines() if (row := json.loads(line))["cause"] == "fired"]


class Simulated:
    """A clock that only waiting moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def pace(self, speed: float) -> Pace:
        return Pace(speed, lambda: self.now, self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def at(scored: ScoredArticle, **changes: Any) -> ScoredArticle:
    """The same article with other fields."""
    return replace(scored, article=replace(scored.article, **changes))
