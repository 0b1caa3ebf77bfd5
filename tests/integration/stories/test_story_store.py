"""Stories on a real Postgres: meanings kept with articles, assignment by closed minutes, restarts, merges, counts."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, TextClause, make_url, text

from crosswind.stream.adapters.postgres import reader, stories, story_tables
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.postgres.stories import PostgresStoryStore, Selection, available, cards, counts, told
from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.domain.stories.decision import Reason
from crosswind.stream.domain.stories.meaning import pack
from crosswind.stream.domain.stories.story import Assignment, Merge, Novelty, Telling
from crosswind.stream.service.stories import StoryEngine
from tests.builders import START, scored_article
from tests.integration.stories.world import feed

EVENTS = np.random.default_rng(3).standard_normal((5, 32))
NAMES = ("Orbex", "Halvorsen", "Quillon", "Bramley", "Tsumugi")


def article(number: int, event: int, lang: str = "en") -> ScoredArticle:
    """Article `number`, telling `event`: its meaning is the event's, slightly moved."""
    made = scored_article(number, lang=lang, source=f"source-{number % 3}", title=f"{NAMES[event]} report {lang}")
    moved = EVENTS[event] + 0.05 * np.random.default_rng(number).standard_normal(32)
    return ScoredArticle(made.article, replace(made.score, meaning=pack(moved)))


def put(engine: Engine, articles: list[ScoredArticle]) -> None:
    PostgresTrendStore(engine, meanings=True).ingest("live", [Delivery(one, 0) for one in articles])


def engine_of(engine: Engine, chunk: int = 1000) -> StoryEngine:
    return StoryEngine(PostgresStoryStore(engine), "live", lambda: Stories(StoryIndex), timedelta(0), 0.0, chunk=chunk)


def where(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT article_id, story_id FROM story_member ORDER BY article_id"))
        return {row.article_id: row.story_id for row in rows}


FEED = [article(n, n % 4, ("en", "de", "ja")[n % 3]) for n in range(24)]
LAST = article(24, 4)
"""Its own minute stays open, and closes those before."""


def test_the_embedded_server_can_keep_meanings(engine: Engine) -> None:
    assert available(engine)


def test_articles_of_one_event_share_a_story_named_after_the_first(engine: Engine) -> None:
    put(engine, [*FEED, LAST])
    engine_of(engine).tick()
    assert where(engine) == {f"{n:032x}": f"{n % 4:032x}" for n in range(24)}


@pytest.mark.parametrize("chunk", [1, 5])
def test_batches_restarts_and_redelivery_change_nothing(engine: Engine, chunk: int) -> None:
    for start in range(0, 24, 6):
        put(engine, FEED[start : start + 6])
        put(engine, FEED[start : start + 6])
        engine_of(engine, chunk).tick()
    put(engine, [LAST])
    engine_of(engine, chunk).tick()
    assert where(engine) == {f"{n:032x}": f"{n % 4:032x}" for n in range(24)}


def engines(engine: Engine, count: int, built: list[int], run: str) -> list[StoryEngine]:
    """Workers; `built` counts how often each makes its memory."""

    def maker(number: int) -> Callable[[], Stories]:
        def make() -> Stories:
            built[number] += 1
            return Stories(StoryIndex)

        return make

    store = PostgresStoryStore(engine)
    return [StoryEngine(store, run, maker(n), timedelta(0), 0.0, chunk=7) for n in range(count)]


def test_workers_that_take_turns_give_what_one_gives_and_read_all_back_once(engine: Engine) -> None:
    """Of a feed in which stories merge."""
    articles = sorted(feed(), key=lambda one: (one.article.published_at, one.article.article_id))[:600]
    built = [0, 0, 0]
    both, (alone,) = engines(engine, 2, built, "two"), engines(engine, 1, built[2:], "one")
    for turn, start in enumerate(range(0, len(articles), 25)):
        for run, worker in (("two", both[turn % 2]), ("one", alone)):
            deliveries = [Delivery(one, 0) for one in articles[start : start + 25]]
            PostgresTrendStore(engine, meanings=True).ingest(run, deliveries)
            worker.tick()
    query = text("SELECT article_id, story_id, joined, novelty, reason, similarity_ppm, seq FROM story_member "
                 "WHERE run = :run ORDER BY seq")  # fmt: skip
    with engine.connect() as connection:
        one, two = (connection.execute(query, {"run": run}).all() for run in ("one", "two"))
        merges = connection.execute(text("SELECT count(*) FROM story WHERE merged_into IS NOT NULL")).scalar_one()
    assert len(one) > 500
    assert one == two
    assert merges > 10
    assert built[:2] == [1, 1]


def test_an_article_that_comes_seven_hours_late_gets_its_story(engine: Engine) -> None:
    times = [START + timedelta(hours=n) for n in range(11)]
    hours = [replace(one, article=replace(one.article, published_at=at, first_seen_at=at))
             for at, one in zip(times, [*FEED[:10], LAST], strict=True)]  # fmt: skip
    worker = engine_of(engine)
    put(engine, [*hours[:1], *hours[2:10]])
    worker.tick()
    put(engine, [hours[1], hours[10]])
    worker.tick()
    assert where(engine)[f"{1:032x}"] == f"{5:032x}"  # the other one that tells the event


def test_an_open_minute_waits(engine: Engine) -> None:
    put(engine, FEED[:5])
    engine_of(engine).tick()
    assert sorted(where(engine)) == [f"{n:032x}" for n in range(4)]


def test_counts_cards_and_the_articles_of_a_story(engine: Engine) -> None:
    put(engine, [*FEED, LAST])
    engine_of(engine).tick()
    (cell,) = counts(engine, Selection("live", START, START + timedelta(hours=1), timedelta(hours=1)))
    assert (cell["articles"], cell["stories"], cell["first"], cell["negative_stories"]) == (24, 4, 4, 4)
    assert cell["first"] + cell["fresh"] + cell["repeated"] == 24
    card = cards(engine, "live", START, 10)[0]
    assert (card["articles"], card["first_source"]) == (6, "source-0")
    assert card["sources"] == ["source-0", "source-1", "source-2"]
    assert len(told(engine, "live", card["story_id"])) == 6


def test_a_merge_keeps_history(engine: Engine) -> None:
    put(engine, FEED[:3])
    ids = [one.article.article_id for one in FEED[:3]]
    tellings = [Telling(i, one.article.published_at, "s", "en", "t", "k") for i, one in zip(ids, FEED, strict=False)]
    given = [Assignment(i, i, Novelty.FIRST, Reason.NEW, 1.0) for i in ids[:2]]
    given.append(Assignment(ids[2], ids[0], Novelty.FRESH, Reason.SAME_MEANING, 0.9, (Merge(ids[1], ids[0]),)))
    with PostgresStoryStore(engine).begin("live") as unit:
        assert unit is not None
        unit.save(0, list(zip(tellings, given, strict=True)))
    assert set(where(engine).values()) == {ids[0]}
    with engine.connect() as connection:
        joined = connection.execute(text("SELECT joined FROM story_member WHERE article_id = :i"), {"i": ids[1]})
        merged = connection.execute(text("SELECT merged_into FROM story WHERE story_id = :i"), {"i": ids[1]})
        assert (joined.scalar(), merged.scalar()) == (ids[1], ids[0])
    assert [card["articles"] for card in cards(engine, "live", START, 10)] == [3]


def test_one_worker_at_a_time(engine: Engine) -> None:
    with PostgresStoryStore(engine).begin("live") as first, PostgresStoryStore(engine).begin("live") as second:
        assert first is not None
        assert second is None


@pytest.fixture
def bare(engine: Engine, database_url: str) -> Iterator[tuple[Engine, Engine]]:
    """A database without a table: the engine of its owner, and of a role that may make tables and no extension."""
    outside = engine.execution_options(isolation_level="AUTOCOMMIT")
    with outside.connect() as connection:
        connection.execute(text("CREATE ROLE maker LOGIN"))
        connection.execute(text("CREATE DATABASE bare"))
    url = make_url(database_url).set(database="bare")
    owner, maker = (connect(one.render_as_string(hide_password=False)) for one in (url, url.set(username="maker")))
    with owner.begin() as connection:
        connection.execute(text("GRANT ALL ON SCHEMA public TO maker"))
    yield owner, maker
    owner.dispose()
    maker.dispose()
    with outside.connect() as connection:
        connection.execute(text("DROP DATABASE bare WITH (FORCE)"))
        connection.execute(text("DROP ROLE maker"))


def test_pgvector_that_comes_after_the_first_migration_brings_the_table_of_meanings(
    bare: tuple[Engine, Engine],
) -> None:
    owner, maker = bare
    migrate(maker)
    assert not available(maker)
    with owner.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
    migrate(maker)
    assert available(maker)
    test_migrations_make_the_tables_that_the_code_declares(maker)
    allowed = text(f"SELECT has_table_privilege('{reader.ROLE}', 'article_meaning', 'SELECT')")
    with owner.connect() as connection:
        assert connection.execute(allowed).scalar()


def test_migrations_make_the_tables_that_the_code_declares(engine: Engine) -> None:
    ours = {"story", "story_member", "article_meaning"}

    def include(thing: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
        table = getattr(thing, "table", None)
        return (name if table is None else table.name) in ours

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include})
        assert compare_metadata(context, story_tables.Base.metadata) == []


def _thrown_away(plan: dict[str, Any]) -> float:
    """Rows that a plan read and then left out, in all its loops."""
    own = sum(plan.get(f"Rows Removed by {kind}", 0) for kind in ("Filter", "Join Filter", "Index Recheck"))
    return own * plan["Actual Loops"] + sum(_thrown_away(part) for part in plan.get("Plans", ()))


QUERIES = (stories._WAITING, stories._SUM_UP, stories._GIVEN, stories._REMEMBERED)


@pytest.mark.parametrize("query", QUERIES, ids=["waiting", "sum up", "given", "remembered"])
def test_a_run_that_is_newer_than_the_statistics_is_not_read_again_for_each_article(
    engine: Engine, query: TextClause
) -> None:
    """Of a new run Postgres expects a row or two, as of a replay in the database of the live run."""
    put(engine, [article(n, n % 4) for n in range(600)])
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    PostgresTrendStore(engine, meanings=True).ingest("new", [Delivery(article(n, n % 4), 0) for n in range(600)])
    told = StoryEngine(PostgresStoryStore(engine), "new", lambda: Stories(StoryIndex), timedelta(0), 0.0, chunk=300)
    told.tick()
    with engine.connect() as connection:
        names = connection.execute(text("SELECT story_id FROM story WHERE run = 'new'")).scalars().all()
        values = {
            "run": "new", "since": START, "until": START + timedelta(days=9), "limit": 1000, "after": 0,
            "stories": [*names],
        }  # fmt: skip
        asked = {name: value for name, value in values.items() if f":{name}" in query.text}
        (found,) = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query.text}"), asked).scalar_one()
        connection.rollback()
    assert _thrown_away(found["Plan"]) < 600
