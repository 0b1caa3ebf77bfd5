"""A feed whose articles have meanings: events that two companies share, told in words of their own."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import numpy as np
from sqlalchemy import Engine, text

from crosswind.settings import Settings
from crosswind.stream.adapters.alert_loop import told_and_evaluated, worker_stories
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.identity import title_key
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.stories.meaning import pack
from crosswind.stream.service.rules import DEFAULT, parse_rules, rule_set
from tests.integration.alerts.world import World
from tests.unit.replay.world import articles

STEMS = ("Korabo", "Melrix", "Tanuno", "Viseti", "Rudiga", "Halzuk", "Dempast", "Borlund", "Figor", "Nuxeli", "Sagrom",
         "Wopter", "Jikana", "Lusper", "Yorgat", "Quimbo", "Ezrava", "Othlan", "Pivoke", "Umbril")  # fmt: skip
ENDS = ("ia", "os", "ex", "um", "ar")
EVENTS = np.random.default_rng(11).standard_normal((41, 64))
SETTINGS = Settings(_env_file=None)


@cache
def counting_stories() -> RuleSet:
    """The shipped rule, but that it counts stories."""
    return rule_set(parse_rules(DEFAULT.read_bytes().replace(b"count: headlines", b"count: stories")))


def company(number: int) -> str:
    return STEMS[number % 20] + ENDS[number // 20 % 5]


def retold(scored: ScoredArticle, event: int) -> ScoredArticle:
    """The article, telling `event`: of one of its two companies, so that there are two stories, or of both, which makes
    them one."""
    random = np.random.default_rng(int(scored.article.article_id, 16))
    one, two = company(2 * event), company(2 * event + 1)
    who = random.choice([one, two, f"{one} {two}"], p=[0.45, 0.45, 0.1])
    title = f"{who} {random.integers(10**6):x}".title()
    meaning = pack(EVENTS[event] + 0.2 * random.standard_normal(64))
    return ScoredArticle(
        replace(scored.article, title=title, title_key=title_key(title)), replace(scored.score, meaning=meaning)
    )


def feed() -> list[ScoredArticle]:
    """14 hours of news with one bank run, about 40 events."""
    return [retold(one, int(one.article.article_id, 16) % 40) for one in articles()]


def one_story() -> list[ScoredArticle]:
    """The same news; the bank run is a single event, told ninety times. The others have no meaning."""
    return [retold(one, 40) if "Acme" in one.article.entities else one for one in articles()]


def put(engine: Engine, rows: Sequence[ScoredArticle], run: str = "live", lanes: int = 1) -> None:
    store = PostgresTrendStore(engine, meanings=True)
    store.ingest(run, [Delivery(one, int(one.article.article_id, 16) % lanes) for one in rows])


def tick(engine: Engine, settings: Settings = SETTINGS) -> list[Alert]:
    """One tick of a worker that has just started."""
    return told_and_evaluated(worker_stories(settings, engine), World(engine, rules=counting_stories).alert_engine())


def close(engine: Engine, to: datetime, settings: Settings = SETTINGS) -> list[Alert]:
    """Closes everything before a moment, and ticks until all is evaluated."""
    World(engine).move_watermark(to + timedelta(minutes=2))
    return [alert for _ in range(5) for alert in tick(engine, settings)]


def scalar(engine: Engine, query: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar()
