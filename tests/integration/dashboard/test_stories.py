"""Stories on the pages, of a real Postgres: cards, evidence, novelty, the filter."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from crosswind.dashboard import content, stories, story_queries
from crosswind.dashboard.queries import Reader, Wanted
from crosswind.dashboard.view import View
from crosswind.stream.adapters.postgres.stories import PostgresStoryStore
from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.stories.decision import Reason
from crosswind.stream.domain.stories.story import Assignment, Novelty, Telling
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


def tell(engine: Engine, *told: tuple[int, float, str, str]) -> Reader:
    """Stores articles, each of a story, with its minute, topic and language; article `n` is the `n`th."""
    rows = [scored_article(n, minutes=at, topic=topic, lang=lang, entities=("Acme",))
            for n, (_, at, topic, lang) in enumerate(told)]  # fmt: skip
    put(engine, rows)
    first: dict[int, str] = {}
    given = [first.setdefault(story, one.article.article_id) for (story, *_), one in zip(told, rows, strict=True)]
    tellings = [Telling(one.article.article_id, one.article.published_at, "s", "en", "t", "k") for one in rows]
    with PostgresStoryStore(engine).begin("live") as unit:
        assert unit is not None
        unit.save(0, [(one, Assignment(one.article_id, story, Novelty.FRESH, Reason.SAME_MEANING, 0.9))
                      for one, story in zip(tellings, given, strict=True)])  # fmt: skip
    return Reader(engine, "live")


def numbers(ids: Sequence[str]) -> list[int]:
    return [int(one, 16) for one in ids]


@pytest.mark.parametrize(("view", "stories_of"), [
    (View(range="1h", topic="credit", langs=("de",)), [4]),  # no article of story 0 is both, and told lately
    (View(range="1h", topic="credit"), [4]),
    (View(range="1h"), [4, 0]),
    (View(range="1h", entity="Acme", langs=("de",)), [4, 0]),
    (View(range="all"), [0, 4]),
])  # fmt: skip
def test_cards_are_of_the_articles_that_a_view_shows(engine: Engine, view: View, stories_of: list[int]) -> None:
    """Those with most of them first, whatever else the stories were told."""
    reader = tell(engine, (0, 0, "credit", "en"), (0, 5, "credit", "en"), (0, 30, "markets", "de"),
                  (0, 299, "markets", "de"), (1, 300, "credit", "de"), (1, 301, "credit", "de"))  # fmt: skip
    told = story_queries.told(reader, view, reader.status())
    assert told is not None
    assert numbers([card.story_id for card in told.cards]) == stories_of


@pytest.mark.parametrize("entity", ["", "Acme"])
def test_a_story_is_listed_once_by_its_first_article_in_the_list(engine: Engine, entity: str) -> None:
    reader = tell(engine, (0, 0, "credit", "en"), (0, 5, "credit", "de"), (1, 10, "credit", "de"),
                  (0, 300, "markets", "de"), (0, 301, "credit", "de"), (1, 302, "credit", "de"))  # fmt: skip

    def listed(**more: Any) -> list[int]:
        view = View(**{"range": "all", "novel": True, "entity": entity} | more)
        return numbers([one.article_id for one in content.articles(reader, view, reader.status()).articles])

    assert listed() == [2, 0]
    assert listed(langs=("de",)) == [2, 1]
    assert listed(range="1h") == [5, 3]
    assert listed(range="1h", topic="credit") == [5, 4]
    with engine.begin() as connection:  # as retention does
        connection.execute(text("DELETE FROM article WHERE article_id = :first"), {"first": f"{0:032x}"})
    assert listed() == [2, 1]


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
        rows = connection.execute(text("SELECT article_id, story_id FROM story_member"))
        story = {row.article_id: row.story_id for row in rows}
    first = {story[one.article_id]: one.article_id for one in everything}  # newest first: the oldest stays
    assert [one.article_id for one in listed] == [i for one in everything if first[story[i := one.article_id]] == i]
    assert fresh.article.article_id in {one.article_id for one in listed}
    assert len(listed) < len(everything)


@pytest.mark.parametrize("langs", [(), ("de", "ja")])
def test_pages_of_new_stories_join_up(reader: Reader, langs: tuple[str, ...]) -> None:
    whole = [one.article_id for one in reader.articles(Wanted(langs=langs, novel=True), 1000).articles]
    found, before = [], ""
    while True:
        page = reader.articles(Wanted(langs=langs, novel=True, before=before), 7)
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
