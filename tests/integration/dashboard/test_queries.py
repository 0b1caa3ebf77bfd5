import re
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from crosswind.dashboard import content, counts
from crosswind.dashboard.queries import MAX_INCIDENTS, PAGE, Reader, Wanted
from crosswind.dashboard.series import MAX_BINS
from crosswind.dashboard.view import RANGES, Pick, View
from crosswind.errors import DatabaseError, DataError
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.domain.article import ScoredArticle, Sentiment
from tests.builders import START, scored_article
from tests.newsroom import END, SURGE, add_incident, archive, newsroom, plans, store


@pytest.fixture
def reader(engine: Engine) -> Reader:
    return Reader(engine, "live")


@pytest.fixture
def articles(engine: Engine) -> list[ScoredArticle]:
    made = newsroom(600)
    store(engine, made)
    return made


def test_an_empty_database_has_no_now(reader: Reader) -> None:
    status = reader.status()
    assert (status.now, status.newest, status.model, status.quiet_seconds) == (None, None, None, None)
    assert content.overview(reader, View(), status) is None
    assert content.articles(reader, View(), status).articles == []


def test_now_is_the_newest_event_time(reader: Reader, articles: list[ScoredArticle]) -> None:
    status = reader.status()
    assert status.now == max(scored.article.published_at for scored in articles)
    assert status.earliest == min(scored.article.published_at for scored in articles)
    assert status.quiet_seconds is not None
    assert status.model == "tiny"


def test_one_wrong_date_does_not_move_now(engine: Engine, reader: Reader, articles: list[ScoredArticle]) -> None:
    before = reader.status().now
    store(engine, [scored_article(9999, minutes=60 * 24 * 300)])
    status = reader.status()
    assert status.now == before
    assert status.newest is not None
    assert status.newest > START + timedelta(days=200)


@pytest.mark.parametrize("name", list(RANGES))
def test_trends_count_each_article_of_the_range_once(reader: Reader, articles: list[ScoredArticle], name: str) -> None:
    found = content.overview(reader, View(range=name), reader.status())
    assert found is not None
    inside = [s for s in articles if found.span.start <= s.article.published_at < found.span.end]
    assert found.articles == len(inside) > 0
    assert found.negative == sum(scored.score.sentiment is Sentiment.NEGATIVE for scored in inside)
    assert all(len(trend.articles) == found.span.bins <= MAX_BINS for trend in found.trends.values())


def test_filters_narrow_the_trends(reader: Reader, articles: list[ScoredArticle]) -> None:
    found = content.overview(reader, View(range="all", topics=("credit",), langs=("en", "ja")), reader.status())
    assert found is not None
    assert list(found.trends) == ["credit"]
    wanted = [s for s in articles if s.score.topic == "credit" and s.article.lang in ("en", "ja")]
    assert found.articles == len(wanted)
    assert set(found.langs) == {scored.article.lang for scored in articles}


def test_the_silence_of_the_feed_is_a_gap_whatever_is_filtered(reader: Reader, articles: list[ScoredArticle]) -> None:
    every, some = (content.overview(reader, view, reader.status()) for view in (View(), View(langs=("hi",))))
    assert every is not None
    assert some is not None
    assert len(every.gaps) >= 1
    assert every.gaps == some.gaps


def test_entities_do_not_count_an_article_twice(engine: Engine, reader: Reader) -> None:
    store(engine, [scored_article(1, entities=("Northgate", "Southbank"))])
    found = content.overview(reader, View(range="all"), reader.status())
    assert found is not None
    assert found.articles == 1


def test_pages_hold_every_article_once_newest_first(engine: Engine, reader: Reader) -> None:
    store(engine, [scored_article(number, minutes=number // 7) for number in range(3 * PAGE + 5)])
    seen, cursor = [], ""
    while cursor is not None:
        page = reader.articles(Wanted(before=cursor))
        seen += page.articles
        cursor = page.next
    assert len({article.article_id for article in seen}) == len(seen) == 3 * PAGE + 5
    keys = [(article.published_at, article.article_id) for article in seen]
    assert keys == sorted(keys, reverse=True)


def test_a_page_is_not_moved_by_newer_articles(engine: Engine, reader: Reader) -> None:
    store(engine, [scored_article(number) for number in range(40)])
    cursor = reader.articles(Wanted()).next or ""
    before = reader.articles(Wanted(before=cursor))
    store(engine, [scored_article(number) for number in range(40, 60)])
    assert reader.articles(Wanted(before=cursor)) == before


def test_a_pick_lists_what_the_point_counted(reader: Reader, articles: list[ScoredArticle]) -> None:
    start = SURGE[0]
    view = View(pick=Pick("credit", start, start + timedelta(minutes=30)))
    page = content.articles(reader, view, reader.status())
    wanted = [s for s in articles if s.score.topic == "credit" and view.pick is not None]
    wanted = [s for s in wanted if start <= s.article.published_at < start + timedelta(minutes=30)]
    assert {article.article_id for article in page.articles} == {scored.article.article_id for scored in wanted}
    assert page.articles


def test_articles_are_filtered_by_sentiment_and_language(reader: Reader, articles: list[ScoredArticle]) -> None:
    page = reader.articles(Wanted(langs=("ja",), sentiment="positive"))
    assert {(article.lang, article.sentiment) for article in page.articles} == {("ja", "positive")}


@pytest.mark.parametrize("cursor", ["x", "!!", "bm90IGEgdGltZXxh", "MjAyNi0wMy0wMnxh"])
def test_a_foreign_cursor_is_refused_by_the_reader_and_forgiven_by_the_page(reader: Reader, cursor: str) -> None:
    with pytest.raises(DataError, match="not one of ours"):
        reader.articles(Wanted(before=cursor))
    assert content.articles(reader, View(before=cursor), reader.status()).next is None


def test_incidents_are_those_open_in_the_span(engine: Engine, reader: Reader, articles: list[ScoredArticle]) -> None:
    add_incident(engine, evidence=[articles[0].article.article_id, "gone"])
    add_incident(engine, incident_id="open", seq=2, state="firing", resolved_at=None)
    found = {incident.incident_id: incident for incident in reader.incidents(SURGE[0], SURGE[1])}
    assert found["i1"].evidence == [articles[0].article.title]
    assert [incident.incident_id for incident in reader.incidents(END, END + timedelta(hours=1))] == ["open"]
    assert reader.incidents(START, SURGE[0] - timedelta(hours=1)) == []


def test_an_incident_over_all_languages_stays_under_a_language_filter(engine: Engine, reader: Reader) -> None:
    add_incident(engine)
    add_incident(engine, incident_id="ja", seq=2, lang="ja")
    found = reader.incidents(START, END, langs=("en",))
    assert [incident.incident_id for incident in found] == ["i1"]


def test_a_pending_incident_is_no_band(engine: Engine, reader: Reader, articles: list[ScoredArticle]) -> None:
    add_incident(engine, state="pending", fired_at=None, resolved_at=None)
    found = content.overview(reader, View(), reader.status())
    assert found is not None
    assert found.bands("credit") == []


def crowd(engine: Engine, **columns: str) -> None:
    """More incidents like `i1` than are read at once, all newer; `columns` replace some of its by SQL."""
    made = {"incident_id": "'crowd' || n || :kind", "started_at": "started_at + n * interval '1 second'", **columns}
    with engine.begin() as connection:
        query = text("SELECT column_name FROM information_schema.columns WHERE table_name = 'incident'")
        names = connection.execute(query).scalars().all()
        values = ", ".join(made.get(name, name) for name in names)
        many = f"INSERT INTO incident ({', '.join(names)}) SELECT {values} FROM incident, generate_series(1, :count) n"
        connection.execute(text(many + " WHERE incident_id = 'i1'"), {"count": MAX_INCIDENTS + 1, "kind": str(columns)})


def test_surges_that_never_fired_push_no_alert_out(
    engine: Engine, reader: Reader, articles: list[ScoredArticle]
) -> None:
    add_incident(engine)
    crowd(engine, state="'lapsed'", fired_at="NULL")
    found = content.overview(reader, View(range="all"), reader.status())
    assert found is not None
    assert ([one.incident_id for one in found.incidents], len(found.bands("credit"))) == (["i1"], 1)
    crowd(engine, topic="'*'")  # alerts of the feed as a whole, which a topic's series does not show
    one = content.series(reader, View(range="all", topic="credit"), reader.status())
    assert one is not None
    assert [found.incident_id for found in one.incidents] == ["i1"]


def test_runs_do_not_mix(engine: Engine, articles: list[ScoredArticle]) -> None:
    assert Reader(engine, "replay-1").status().now is None


def test_the_version_changes_with_articles_and_alerts(engine: Engine, reader: Reader) -> None:
    versions = [reader.version()]
    store(engine, [scored_article(1)])
    versions.append(reader.version())
    add_incident(engine)
    versions.append(reader.version())
    assert len(set(versions)) == 3
    assert reader.version() == versions[-1]


def test_a_database_that_is_away_is_one_clear_error() -> None:
    away = Reader(connect("postgresql://nobody@127.0.0.1:1/nothing"), "live")
    with pytest.raises(DatabaseError, match="is it running"):
        away.status()


def test_pages_of_an_entity_hold_its_articles_once_newest_first(engine: Engine, reader: Reader) -> None:
    store(engine, [scored_article(n, minutes=n // 3, entities=("Acme",) if n % 2 else ()) for n in range(150)])
    seen, cursor = [], ""
    while cursor is not None:
        page = content.articles(reader, View(range="all", entity="Acme", before=cursor), reader.status())
        seen += [article.article_id for article in page.articles]
        cursor = page.next
    about = sorted(range(1, 150, 2), key=lambda n: (n // 3, n), reverse=True)
    assert seen == [f"{n:032x}" for n in about]


@pytest.mark.parametrize("sentiment", ["negative", "neutral", "positive"])
def test_articles_of_an_entity_are_filtered_by_sentiment(engine: Engine, reader: Reader, sentiment: str) -> None:
    store(engine, [scored_article(n, entities=("Acme",), sentiment=list(Sentiment)[n % 3]) for n in range(90)])
    view = View(range="all", entity="Acme", sentiment=sentiment)
    page = content.articles(reader, view, reader.status())
    assert ({article.sentiment for article in page.articles}, len(page.articles)) == ({sentiment}, PAGE)


def test_the_series_of_an_entity_counts_its_articles_alone(engine: Engine, reader: Reader) -> None:
    store(engine, [scored_article(n, entities=("Acme",) if n % 3 else ("Other",)) for n in range(60)])
    found = content.series(reader, View(range="all", entity="Acme"), reader.status())
    assert found is not None
    assert found.trend.total == 40


def test_the_names_with_most_bad_news_come_first(engine: Engine, reader: Reader) -> None:
    store(engine, [scored_article(n, entities=("Acme",) if n % 3 else ("Other",)) for n in range(60)])
    found = content.overview(reader, View(), reader.status())
    assert found is not None
    assert [(news.entity, news.negative) for news in found.entities] == [("Acme", 40), ("Other", 20)]


def test_no_query_reads_all_articles_or_buckets(engine: Engine, reader: Reader) -> None:
    archive(engine, 40_000, days=60)
    status = reader.status()

    def look() -> None:
        known = content.overview(reader, View(), reader.status())
        assert known is not None
        counts.read(reader, known.span, counts.read(reader, known.span))
        for view in (View(), View(topics=("credit",)), View(langs=("hi",)), View(pick=Pick("credit", *SURGE))):
            cursor = content.articles(reader, view, status).next or ""
            content.articles(reader, View(before=cursor), status)
        for view in (View(topic="credit"), View(entity="Acme 7"), View(entity="Acme 7", sentiment="negative")):
            content.series(reader, view, status)
            content.articles(reader, view, status)
        reader.incidents(START, END)
        reader.version()

    found = plans(engine, look)
    assert len(found) >= 25
    assert not [plan for plan in found if re.search(r"Seq Scan on (article|bucket)\b", plan)]


def test_all_of_the_past_is_read_from_the_hours(engine: Engine, reader: Reader) -> None:
    archive(engine, 40_000, days=60)
    every = View(range="all")
    span = content.span_for(every, reader.status())
    assert span is not None
    credit = View(topic="credit")
    found = plans(engine, lambda: (counts.read(reader, span), content.series(reader, credit, reader.status())))
    assert [plan for plan in found if re.search(r"on bucket_hour\b", plan)]
    assert not [plan for plan in found if re.search(r"Seq Scan on (article|bucket)\b", plan)]
