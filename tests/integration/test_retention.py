"""Retention: what is old goes, what sums it up stays, and what went does not come back."""

import json
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from crosswind.errors import DatabaseError, SettingsError
from crosswind.settings import load_settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.retention import _KINDS, preview, sweep
from crosswind.stream.adapters.postgres.retention_tables import RetentionRow
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.retention_loop import _swept, policy_of
from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.ingest import Delivery, Ingested
from crosswind.stream.domain.retention import Policy, Swept
from crosswind.stream.retention_cli import app
from tests.builders import START, scored_article

HOUR = 60
EVALUATED = START + timedelta(days=30)
KEEP = Policy.of_days(articles=20, minutes=10)


def ingest(engine: Engine, articles: Sequence[ScoredArticle]) -> Ingested:
    return PostgresTrendStore(engine).ingest("live", [Delivery(article, 0) for article in articles])


def count(engine: Engine, table: str, where: str = "true") -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one())


def evaluated(engine: Engine, to: datetime = EVALUATED) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO engine VALUES ('live', :to, '{}')"), {"to": to})


def hours(engine: Engine) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(text("SELECT * FROM bucket_hour")))


@pytest.fixture
def month(engine: Engine) -> list[ScoredArticle]:
    """An article every hour of thirty days, all evaluated."""
    articles = [scored_article(n, minutes=HOUR * n, entities=("Acme",)) for n in range(30 * 24)]
    ingest(engine, articles)
    evaluated(engine)
    return articles


def copies_of(numbers: Sequence[int]) -> list[ScoredArticle]:
    """Other inputs of articles of the month that say the same."""
    return [scored_article(n, minutes=HOUR * n, entities=("Acme",), offset=9000 + n) for n in numbers]


def test_the_table_is_the_one_that_the_code_has(engine: Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), RetentionRow.metadata)
    assert [one for one in differences if "retention" in str(one)] == []


def test_old_articles_and_minutes_go_and_the_hours_stay(engine: Engine, month: list[ScoredArticle]) -> None:
    before = hours(engine)
    planned = preview(engine, "live", KEEP)
    swept = sweep(engine, "live", KEEP, batch=100)
    assert swept == planned == Swept(articles=10 * 24, minutes=2 * 20 * 24)
    assert count(engine, "article") == 20 * 24
    assert count(engine, "bucket") == 2 * 10 * 24
    assert hours(engine) == before
    assert sweep(engine, "live", KEEP) == Swept()


def test_what_was_dropped_and_comes_again_has_no_effect(engine: Engine, month: list[ScoredArticle]) -> None:
    before = hours(engine)
    sweep(engine, "live", KEEP)
    again = ingest(engine, month)
    assert (again.new, again.duplicates, again.redelivered, again.expired) == (0, 0, 20 * 24, 10 * 24)
    copies = ingest(engine, copies_of((0, 29 * 24)))
    assert (copies.duplicates, copies.expired) == (1, 1)
    assert count(engine, "article") == 20 * 24
    assert hours(engine) == before


def test_evidence_of_an_incident_stays(engine: Engine, month: list[ScoredArticle]) -> None:
    kept = month[3].article.article_id
    with engine.begin() as connection:
        connection.execute(
            text("""INSERT INTO incident (run, incident_id, rule, rule_version, topic, lang, entity, state, severity,
                    started_at, observed, expected, p_value, negative_share, sources, headlines, languages, evidence,
                    model) VALUES ('live', 'i', 'r', '1', '*', '*', '*', 'resolved', 'warning', :at, 1, 1, 1, 1, 1, 1,
                    '{en}', :evidence, 'm')"""),
            {"at": START, "evidence": [kept]},
        )
    sweep(engine, "live", KEEP, batch=7)
    assert count(engine, "article", f"article_id = '{kept}'") == 1
    assert count(engine, "article") == 20 * 24 + 1
    assert ingest(engine, month[:5]).redelivered == 1


def test_a_sweep_beside_many_incidents_looks_at_their_evidence_once(engine: Engine) -> None:
    """With NOT IN it went through a list that does not fit into `work_mem` anew for every article: for hours."""
    old, values = _KINDS["articles"][1], {"run": "live", "before": EVALUATED}
    with engine.begin() as connection:
        connection.execute(
            text("""INSERT INTO incident (run, incident_id, rule, rule_version, topic, lang, entity, state, severity,
                    started_at, observed, expected, p_value, negative_share, sources, headlines, languages, evidence,
                    model) SELECT 'live', n, 'r', '1', '*', '*', '*', 'resolved', 'warning', :at, 1, 1, 1, 1, 1, 1,
                    '{en}', ARRAY[md5(n::text), md5(n || 'b')], 'm' FROM generate_series(1, 5000) n"""),
            {"at": START},
        )
        connection.execute(text("ANALYZE incident"))
        connection.execute(text("SET LOCAL work_mem = '64kB'"))
        plan = "\n".join(connection.execute(text(f"EXPLAIN SELECT ctid {old} LIMIT 5000"), values).scalars())
    assert "Anti Join" in plan
    assert "SubPlan" not in plan


def test_duplicates_go_with_their_article(engine: Engine, month: list[ScoredArticle]) -> None:
    ingest(engine, copies_of((0, 29 * 24)))
    swept = sweep(engine, "live", KEEP)
    assert swept is not None
    assert swept.duplicates == 1
    assert count(engine, "duplicate") == 1


def test_nothing_goes_before_alerts_have_seen_it(engine: Engine) -> None:
    ingest(engine, [scored_article(n, minutes=HOUR * n) for n in range(50)])
    assert sweep(engine, "live", KEEP) == preview(engine, "live", KEEP) == Swept()
    evaluated(engine, START + timedelta(days=11))
    assert sweep(engine, "live", KEEP) == Swept(minutes=24)


def test_the_horizon_never_moves_back(engine: Engine, month: list[ScoredArticle]) -> None:
    sweep(engine, "live", KEEP)
    assert sweep(engine, "live", Policy.of_days(articles=29, minutes=29)) == Swept()
    assert ingest(engine, month[: 10 * 24]).expired == 10 * 24


def test_other_runs_are_left_alone(engine: Engine, month: list[ScoredArticle]) -> None:
    PostgresTrendStore(engine).ingest("replay", [Delivery(article, 0) for article in month])
    sweep(engine, "live", KEEP)
    assert count(engine, "article", "run = 'replay'") == 30 * 24


def test_one_process_sweeps_at_a_time(engine: Engine, month: list[ScoredArticle]) -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:kind, hashtext('live'))"), {"kind": 0x63777274})
        assert sweep(engine, "live", KEEP) is None
    assert sweep(engine, "live", KEEP) is not None


def test_a_writer_that_is_half_way_through_is_waited_for(engine: Engine, month: list[ScoredArticle]) -> None:
    """It inserted before the horizon moved and commits after: its old article is dropped, and counted just once."""
    late = scored_article(5000, minutes=30)
    writing, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE article IN ROW EXCLUSIVE MODE"))
            writing.set()
            go_on.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    assert writing.wait(30)
    swept: list[Swept | None] = []
    sweeper = threading.Thread(target=lambda: swept.append(sweep(engine, "live", KEEP)))
    sweeper.start()
    sweeper.join(0.5)
    assert sweeper.is_alive(), "the horizon moved under a writer"
    go_on.set()
    sweeper.join(30)
    writer.join(30)
    assert swept == [Swept(articles=10 * 24, minutes=2 * 20 * 24)]
    assert ingest(engine, [late]).expired == 1


def test_workers_store_while_it_sweeps(engine: Engine, month: list[ScoredArticle]) -> None:
    """Every article is redelivered while others are dropped: no hour moves."""
    before = hours(engine)
    done = threading.Event()
    troubles: list[BaseException] = []

    def deliver() -> None:
        while not done.is_set():
            for start in range(0, len(month), 90):
                try:
                    ingest(engine, month[start : start + 90])
                except DatabaseError as error:
                    troubles.append(error)

    worker = threading.Thread(target=deliver)
    worker.start()
    swept = sweep(engine, "live", KEEP, batch=11)
    done.set()
    worker.join(60)
    assert troubles == []
    assert swept == Swept(articles=10 * 24, minutes=2 * 20 * 24)
    assert count(engine, "article") == 20 * 24
    assert hours(engine) == before


class Parts:
    def __init__(self, **settings: int) -> None:
        self.settings, self.metrics = load_settings(settings), Metrics()


def test_the_worker_s_task_sweeps_and_counts(engine: Engine, month: list[ScoredArticle]) -> None:
    parts = Parts(keep_articles_days=20)
    assert _swept(parts, engine, lambda: True) is True
    assert parts.metrics.swept.labels("articles")._value.get() == 10 * 24
    assert parts.metrics.swept.labels("minutes")._value.get() == 0


def test_it_is_off_unless_it_is_set() -> None:
    assert not policy_of(load_settings({}))
    assert policy_of(load_settings({"keep_minutes_days": 30}))
    with pytest.raises(SettingsError, match="greater than or equal to 8"):
        load_settings({"keep_articles_days": 7})


def test_the_command_says_what_it_drops(engine: Engine, database_url: str, month: list[ScoredArticle]) -> None:
    command = ["--keep-articles-days", "20", "--database-url", database_url, "--json"]
    planned = CliRunner().invoke(app, [*command, "--dry-run"], catch_exceptions=False)
    assert json.loads(planned.stdout)["articles"] == 240
    assert count(engine, "article") == 30 * 24
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(done.stdout) == {"articles": 240, "minutes": 0, "duplicates": 0, "stories": 0}
    assert count(engine, "article") == 20 * 24


def test_the_command_wants_a_policy(database_url: str) -> None:
    with pytest.raises(SettingsError, match="everything is kept"):
        CliRunner().invoke(app, ["--database-url", database_url], catch_exceptions=False)
