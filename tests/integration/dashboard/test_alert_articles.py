"""The link from an alert to its articles, of alerts that the engine found in a real Postgres."""

from datetime import datetime
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, text

from crosswind.dashboard import content
from crosswind.dashboard.components import _evidence_href
from crosswind.dashboard.queries import Article, Incident, Reader
from crosswind.dashboard.view import View
from tests.builders import START as DAY
from tests.builders import scored_article
from tests.integration.alerts.world import END, ONSET, World, short_feed
from tests.newsroom import store

HIDING = View(topics=("rates",), langs=("xx",), sentiment="positive", novel=True)
"""Filters that would leave none of an alert's articles."""


@pytest.fixture
def world(engine: Engine) -> World:
    made = World(engine)
    made.ingest(short_feed())
    return made


def listed(reader: Reader, incident: Incident, view: View) -> list[Article]:
    """The articles that the page behind the link lists, all of its pages together."""
    status = reader.status()
    there = View.from_query(urlsplit(_evidence_href(incident, view, status.evaluated_to)).query)
    return content.articles(reader, there, status, limit=10_000).articles


@pytest.mark.parametrize("hours", [ONSET + 0.75, ONSET + 1.5, END])
def test_an_alerts_link_lists_what_was_counted(world: World, hours: float) -> None:
    world.tick_at(hours)
    reader = Reader(world.engine, "live")
    status = reader.status()
    shown = content.overview(reader, View(range="all"), status)
    assert shown is not None
    alerts = [incident for incident in shown.incidents if incident.evidence_ids]
    assert {(one.topic, one.entity) for one in alerts} == {("credit", "*"), ("*", "Acme")}
    for incident in alerts:
        for view in (View(), HIDING):
            found = listed(reader, incident, view)
            assert set(incident.evidence_ids) <= {article.article_id for article in found}
            assert sum(article.sentiment == "negative" for article in found) >= incident.observed


def test_an_open_alerts_link_lists_what_came_since(world: World) -> None:
    world.tick_at(ONSET + 1.5)
    reader = Reader(world.engine, "live")
    to = reader.status().evaluated_to
    assert to is not None
    newest: list[datetime] = [
        max(article.published_at for article in listed(reader, one, View()))
        for one in reader.incidents(DAY, to, fired=True)
    ]
    assert newest
    assert all((to - at).total_seconds() < 15 * 60 for at in newest)


def test_a_name_lists_all_its_articles_whatever_topics_are_filtered(engine: Engine) -> None:
    store(engine, [scored_article(n, entities=("Acme",), topic="credit" if n % 2 else "macro") for n in range(20)])
    reader, view = Reader(engine, "live"), View(entity="Acme", topics=("credit",))
    series = content.series(reader, view, reader.status())
    assert series is not None
    assert len(content.articles(reader, view, reader.status()).articles) == series.trend.total == 20
    both = View(topic="macro", topics=("credit",))
    assert {article.topic for article in content.articles(reader, both, reader.status()).articles} == {"macro"}


def test_everybodys_own_verdict_is_read(world: World) -> None:
    world.tick_at(END)
    reader = Reader(world.engine, "live")
    one, other, *_ = ids = [row[0] for row in world.rows("SELECT incident_id FROM incident ORDER BY incident_id")]
    with world.engine.begin() as connection:
        given = text("INSERT INTO verdict VALUES ('live', :id, :by, :useful, clock_timestamp())")
        for who, ident, useful in (("ada", one, True), ("bob", one, False), ("ada", other, False)):
            connection.execute(given, {"id": ident, "by": who, "useful": useful})
    assert reader.verdicts("ada", ids) == {one: True, other: False}
    assert reader.verdicts("bob", ids) == {one: False}
    assert reader.verdicts("ada", []) == {}
