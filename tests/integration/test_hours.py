"""The hours are the sum of the minutes at every moment, whatever is delivered, how often, how late, in which run."""

import itertools
import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres import engine as engines
from crosswind.stream.adapters.postgres import histories
from crosswind.stream.adapters.postgres.schema import Base
from crosswind.stream.adapters.postgres.score_versions import Selection
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.rescoring import rescore
from crosswind.stream.domain.article import ScoredArticle, Sentiment
from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.domain.panel import LOOKBACK
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import Series
from crosswind.stream.service.rules import load_rules
from tests.builders import START, scored_article

_runs = itertools.count()

_STORED = text("SELECT run, hour, topic, lang, entity, articles, negative, positive, negative_ppm FROM bucket_hour")
_SUMMED = text("""
    SELECT run, date_trunc('hour', minute), topic, lang, entity, sum(articles), sum(negative), sum(positive),
           sum(negative_ppm)
    FROM bucket GROUP BY 1, 2, 3, 4, 5
""")


def hours(engine: Engine, query: object = _STORED) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(query))  # type: ignore[call-overload]


def check(engine: Engine) -> None:
    assert hours(engine) == hours(engine, _SUMMED)


def article(number: int, minutes: float) -> ScoredArticle:
    rng = random.Random(number)
    return scored_article(
        number, minutes=minutes, topic=rng.choice(("credit", "macro")), lang=rng.choice(("en", "ja", "ar")),
        sentiment=rng.choice(list(Sentiment)), entities=tuple(rng.sample(("Acme", "Northgate", "Übersee AG"), 2)),
    )  # fmt: skip


def ingest(engine: Engine, articles: list[ScoredArticle], run: str = "live") -> None:
    PostgresTrendStore(engine).ingest(run, [Delivery(one, 0) for one in articles])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_lateness_and_redelivery_keeps_the_sums(engine: Engine, data: st.DataObject) -> None:
    run = f"r{next(_runs)}"
    articles = [article(n, minutes) for n, minutes in enumerate((-600, -61, -60, -1, 0, 0.5, 59.9, 60, 61, 1439))]
    for batch in data.draw(st.lists(st.lists(st.sampled_from(articles), max_size=8), max_size=6)):
        ingest(engine, batch, run)
        check(engine)


def test_late_articles_and_a_replay_of_the_same_ones(engine: Engine) -> None:
    articles = [article(n, 7.0 * n) for n in range(200)]
    late = [article(1000 + n, 11.0 * n) for n in range(50)]
    for run in ("live", "replay-1"):
        for batch in (articles[:120], articles[100:], late, [*late, *articles]):
            ingest(engine, batch, run)
            check(engine)
    live, replayed = ([row[1:] for row in hours(engine) if row[0] == run] for run in ("live", "replay-1"))
    assert live == replayed
    assert sum(int(str(row[4])) for row in live if row[3] == ALL) == 250


def test_scoring_anew_moves_no_hour(engine: Engine, tiny_bundle: Path) -> None:
    ingest(engine, [article(n, 7.0 * n) for n in range(40)])
    before, scorer = hours(engine), OnnxScorer(tiny_bundle, threads=1)
    assert rescore(engine, Selection("live", scorer.version, START), scorer, lambda _: None) == 40
    assert hours(engine) == before
    check(engine)


def test_a_transaction_that_fails_after_the_hours_moved_leaves_nothing(engine: Engine) -> None:
    ingest(engine, [article(1, 0)])
    before = hours(engine)

    def refuse(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "INTO watermark" in statement:
            raise DatabaseError("away")

    event.listen(engine, "before_cursor_execute", refuse)
    with pytest.raises(DatabaseError):
        ingest(engine, [article(2, 0)])
    event.remove(engine, "before_cursor_execute", refuse)
    assert hours(engine) == before
    ingest(engine, [article(2, 0)])
    check(engine)


def test_the_migration_fills_the_hours_of_what_was_stored_before(engine: Engine) -> None:
    ingest(engine, [article(n, 7.0 * n) for n in range(200)])
    before = hours(engine)
    config = Config()
    config.set_main_option("script_location", str(engines._MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0007")
        command.upgrade(config, "0008")
        connection.commit()
    assert hours(engine) == before


def test_the_migration_makes_the_table_that_the_code_has(engine: Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert [one for one in differences if "bucket_hour" in str(one)] == []


def test_the_alert_engine_reads_from_the_hours_what_the_minutes_say(engine: Engine) -> None:
    ingest(engine, [article(n, 37.0 * n) for n in range(1500)])
    first = START + timedelta(minutes=37 * 1500)
    wanted = {Series(ALL), Series("credit"), Series("credit", "ja"), Series(ALL, ALL, "Acme")}
    rules: RuleSet = load_rules()
    with engine.connect() as connection:
        found = histories.load(connection, "live", rules, histories.Span(first, first), wanted)
    since = first.replace(minute=0, second=0) - LOOKBACK
    for one in wanted:
        past = found[one].past
        assert past is not None
        counted = _counted(engine, one, since, len(past.articles))
        assert list(zip(past.negative.tolist(), past.articles.tolist(), strict=True)) == counted
        assert sum(articles for _, articles in counted) > 100


def _counted(engine: Engine, series: Series, since: datetime, count: int) -> list[tuple[int, int]]:
    """Negatives and articles of so many hours, from the minutes."""
    query = text("""
        SELECT minute, negative, articles FROM bucket
        WHERE entity = :entity AND :topic IN (topic, '*') AND :lang IN (lang, '*')
    """)
    found = [(0, 0)] * count
    with engine.connect() as connection:
        for row in connection.execute(query, {"topic": series.topic, "lang": series.lang, "entity": series.entity}):
            at = (row.minute - since) // timedelta(hours=1)
            if 0 <= at < count:
                found[at] = (found[at][0] + row.negative, found[at][1] + row.articles)
    return found
