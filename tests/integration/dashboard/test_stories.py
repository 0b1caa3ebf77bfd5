"""Stories on the pages, of a real Postgres: cards, evidence, novelty, the filter."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from crosswind.dashboard import content, stories, story_queries
from crosswind.dashboard.queries import Reader, Wanted
from crosswind.dashboard.view import View
from crosswind.stream.domain.article import ScoredArticle
from tests.builders import scored_article
from tests.integration.alerts.world import END
from tests.integration.stories.world import close, feed, put, retold, scalar
from tests.unit.alerts.feeds import START

ALL = View(range="all")
HOSTILE = "<img src=x onerror=alert(1)>"


def shown(component: object) -> str:
    return json.dumps(component, default=lambda one: one.to_plotly_json(), ensure_ascii=False)


@pytest.fixture
def reader(engine: Engine) -> Reader:
    """The feed, evaluated; the last article closes the others' minutes."""
    put(engine, feed())
    close(engine, START + timedelta(hours=END))
    return Reader(engine, "live")


def test_cards_tell_each_language_once_and_who_was_first(reader: Reader) -> None:
    told = story_queries.told(reader, ALL, reader.status())
    assert told is not None
    assert len(told.cards) == story_queries.CARDS
    assert [card.articles for card in told.cards] == sorted((card.articles for card in told.cards), reverse=True)
    for card in told.cards:
        assert len({line.lang for line in card.lines}) == len(card.lines) > 1
        assert (card.lines[0].published_at, card.lines[0].source) == (card.first_at, card.first_source)
        assert card.title in shown(stories.story_card(card))


def test_novelty_adds_up_to_all_articles(reader: Reader) -> None:
    told = story_queries.told(reader, ALL, reader.status())
    assert told is not None
    assert sum(map(sum, told.novelty)) == len(feed())
    joined = scalar(reader.engine, "SELECT count(DISTINCT joined) FROM story_member")
    assert sum(first for first, _, _ in told.novelty) == joined
    bars = stories.novelty_figure(told)["data"]
    assert [sum(bar["y"]) for bar in bars] == [sum(cell[place] for cell in told.novelty) for place in range(3)]


@pytest.mark.parametrize("view", [View(range="all", entity="Acme"), View(range="all", topic="credit", langs=("de",)),
                                  View(range="all", topics=("credit", "markets"))])  # fmt: skip
def test_cards_and_novelty_follow_the_view(reader: Reader, view: View) -> None:
    told = story_queries.told(reader, view, reader.status())
    assert told is not None
    wanted = [one for one in feed() if _holds(view, one)]
    assert sum(map(sum, told.novelty)) == len(wanted)
    assert told.cards
    assert all("de" in card.langs for card in told.cards) or not view.langs


def test_a_hidden_filter_of_topics_does_not_narrow_the_stories_of_a_name(reader: Reader) -> None:
    name = View(range="all", entity="Acme")
    filtered, plain = (
        story_queries.told(reader, view, reader.status()) for view in (replace(name, topics=("rates",)), name)
    )
    assert filtered == plain
    assert plain is not None
    assert plain.cards


def _holds(view: View, one: ScoredArticle) -> bool:
    return (
        (not view.entity or view.entity in one.article.entities)
        and (not view.topic or view.topic == one.score.topic)
        and (not view.topics or one.score.topic in view.topics)
        and (not view.langs or one.article.lang in view.langs)
    )


def test_the_stories_behind_an_alert_are_below_it(reader: Reader) -> None:
    incidents = reader.incidents(START, START + timedelta(hours=END))
    found = story_queries.evidence(reader, incidents)
    assert incidents
    assert set(found) == {incident.incident_id for incident in incidents if incident.evidence_ids}
    surge = next(incident for incident in incidents if incident.evidence_ids)
    assert found[surge.incident_id][0].title in shown(stories.evidence(found, surge))
    assert stories.evidence({}, surge) is None


@pytest.mark.parametrize("entity", ["", "Acme"])
def test_only_new_stories_lists_each_story_once(engine: Engine, entity: str) -> None:
    fresh = retold(scored_article(10**6, minutes=3.5 * 60, entities=("Acme",)), 40)
    put(engine, [*feed(), fresh])
    close(engine, START + timedelta(hours=END))
    reader = Reader(engine, "live")
    view = View(range="all", entity=entity, novel=True)
    listed = content.articles(reader, view, reader.status(), limit=1000).articles
    everything = content.articles(reader, replace(view, novel=False), reader.status(), limit=1000).articles
    with reader.engine.connect() as connection:
        rows = connection.execute(text("SELECT article_id FROM story_member WHERE article_id = story_id"))
        begin = set(rows.scalars())
    assert [one.article_id for one in listed] == [one.article_id for one in everything if one.article_id in begin]
    assert fresh.article.article_id in {one.article_id for one in listed}
    assert len(listed) < len(everything)


def test_pages_of_new_stories_join_up(reader: Reader) -> None:
    whole = [one.article_id for one in reader.articles(Wanted(novel=True), 1000).articles]
    found, before = [], ""
    while True:
        page = reader.articles(Wanted(novel=True, before=before), 7)
        found += [one.article_id for one in page.articles]
        if page.next is None:
            break
        before = page.next
    assert found == whole


def test_articles_without_a_story_are_new(engine: Engine) -> None:
    put(engine, feed())
    assert len(Reader(engine, "live").articles(Wanted(novel=True), 1000).articles) == len(feed())


def test_without_pgvector_or_stories_the_page_says_why(engine: Engine) -> None:
    reader = Reader(engine, "live")
    assert stories.panel(story_queries.told(reader, ALL, reader.status())) is None
    put(engine, feed())
    assert "No story here yet" in shown(stories.panel(story_queries.told(reader, ALL, reader.status())))
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE article_meaning"))
    assert "no pgvector" in shown(stories.panel(story_queries.told(reader, ALL, reader.status())))


def test_a_hostile_title_stays_text(reader: Reader) -> None:
    told = story_queries.told(reader, ALL, reader.status())
    assert told is not None
    card = stories.story_card(replace(told.cards[0], title=HOSTILE))
    title = card.children[0].children[0].children
    assert (type(title).__name__, title.children) == ("Bdi", HOSTILE)


def test_the_filter_is_a_link_that_goes_both_ways() -> None:
    view = View(range="6h", before="abc")
    there = stories.novel_link(view, "/").children.href
    assert View.from_query(there[1:]) == View(range="6h", novel=True)
    back = stories.novel_link(View.from_query(there[1:]), "/").children.href
    assert View.from_query(back[1:]) == View(range="6h")
