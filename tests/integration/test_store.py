"""The trend store against a real Postgres: exactly-once effect, whatever is delivered how often."""

import itertools
from collections.abc import Sequence
from datetime import datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.article import Origin, ScoredArticle
from crosswind.stream.domain.bucket import fold
from crosswind.stream.domain.ingest import Delivery, Ingested
from tests.builders import scored_article
from tests.unit.replay.world import at

_runs = itertools.count()


def _mark(engine: Engine, run: str = "live") -> datetime | None:
    with engine.connect() as connection:
        query = text("SELECT event_time FROM watermark WHERE run = :run")
        found: datetime | None = connection.execute(query, {"run": run}).scalar_one()
    return found


def _ingest(engine: Engine, articles: Sequence[ScoredArticle], run: str = "live") -> Ingested:
    return PostgresTrendStore(engine).ingest(run, [Delivery(article, 0) for article in articles])


def _buckets(engine: Engine, run: str = "live") -> dict[tuple[object, ...], tuple[int, ...]]:
    query = text(
        "SELECT minute, topic, lang, entity, articles, negative, positive, negative_ppm FROM bucket WHERE run = :run"
    )
    with engine.connect() as connection:
        return {tuple(row[:4]): tuple(row[4:]) for row in connection.execute(query, {"run": run})}


def _folded(articles: Sequence[ScoredArticle]) -> dict[tuple[object, ...], tuple[int, ...]]:
    return {
        (key.minute, key.topic, key.lang, key.entity): (
            tally.articles, tally.negative, tally.positive, tally.negative_ppm,
        )
        for key, tally in fold(articles).items()
    }  # fmt: skip


def test_a_batch_is_stored_and_counted(engine: Engine) -> None:
    articles = [scored_article(n, entities=("Acme",) if n % 2 else ()) for n in range(20)]
    assert _ingest(engine, articles).new == 20
    assert _buckets(engine) == _folded(articles)


def test_a_redelivery_changes_nothing(engine: Engine) -> None:
    articles = [scored_article(n) for n in range(5)]
    _ingest(engine, articles)
    again = _ingest(engine, articles)
    assert (again.new, again.duplicates, again.redelivered, again.changed) == (0, 0, 5, None)
    assert _buckets(engine) == _folded(articles)


def test_a_duplicate_is_noted_by_its_origin_and_not_counted(engine: Engine) -> None:
    first, copy = scored_article(1, offset=10), scored_article(1, offset=11)
    assert _ingest(engine, [first]).new == 1
    assert _ingest(engine, [copy]).duplicates == 1
    assert _ingest(engine, [copy]).duplicates == 1
    with engine.connect() as connection:
        assert connection.execute(text("SELECT origin_offset FROM duplicate")).scalars().all() == [11]
    assert _buckets(engine) == _folded([first])


def test_copies_inside_one_batch_count_once(engine: Engine) -> None:
    first, copy = scored_article(1, offset=10), scored_article(1, offset=11)
    result = _ingest(engine, [first, copy, first])
    assert (result.new, result.duplicates, result.redelivered) == (1, 1, 1)


def test_runs_never_mix(engine: Engine) -> None:
    article = scored_article(1)
    assert _ingest(engine, [article], "live").new == 1
    assert _ingest(engine, [article], "replay-1").new == 1
    assert _buckets(engine, "live") == _buckets(engine, "replay-1") == _folded([article])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_batching_and_redelivery_gives_the_fold(engine: Engine, data: st.DataObject) -> None:
    run = f"r{next(_runs)}"
    articles = [scored_article(n) for n in range(12)]
    batches = data.draw(st.lists(st.lists(st.sampled_from(articles), max_size=8), max_size=6))
    for batch in batches:
        _ingest(engine, batch, run)
    delivered = {scored.article.article_id: scored for batch in batches for scored in batch}
    assert _buckets(engine, run) == _folded(list(delivered.values()))


def test_one_far_article_does_not_move_the_watermark(engine: Engine) -> None:
    _ingest(engine, [scored_article(n) for n in range(5)])
    _ingest(engine, [scored_article(99, minutes=60 * 24 * 365)])
    assert _mark(engine) == max(scored_article(n).article.published_at for n in range(5))


def test_one_far_article_delivered_again_and_again_does_not_move_the_watermark(engine: Engine) -> None:
    _ingest(engine, [scored_article(n) for n in range(5)])
    far = scored_article(99, minutes=60 * 24 * 365)
    copies = [scored_article(99, minutes=60 * 24 * 365, offset=100 + n) for n in range(3)]
    for batch in ([far, *copies], [far], copies, [far, far, far]):
        _ingest(engine, batch)
    assert _mark(engine) == scored_article(4).article.published_at


def test_an_article_dated_ahead_of_its_receipt_moves_the_watermark_no_further_than_that(engine: Engine) -> None:
    """A feed's wrong time zone: within an hour it is taken, and would hold up every alert until the clock is there."""
    _ingest(engine, [scored_article(n) for n in range(5)])
    received = scored_article(7).article.published_at
    ahead = [at(scored_article(n, minutes=60), first_seen_at=received) for n in (99, 100, 101)]
    _ingest(engine, ahead)
    _ingest(engine, [at(ahead[0], origin=Origin("news.raw", 0, 500))])
    assert _mark(engine) == received
    _ingest(engine, [scored_article(8)])
    assert _mark(engine) == scored_article(8).article.published_at


def test_an_article_that_comes_late_moves_the_watermark_to_when_it_was_published(engine: Engine) -> None:
    _ingest(engine, [scored_article(n) for n in range(5)])
    _ingest(engine, [at(scored_article(5), first_seen_at=scored_article(600).article.published_at)])
    assert _mark(engine) == scored_article(5).article.published_at


def test_a_lane_of_copies_alone_moves_as_any_other(engine: Engine) -> None:
    """Else it would hold back the alerts of all the others for as long as copies come."""
    articles = [scored_article(n) for n in range(5)]
    _ingest(engine, articles)
    store = PostgresTrendStore(engine)
    store.ingest("live", [Delivery(scored_article(n, offset=50 + n), 1) for n in range(5)])
    with engine.connect() as connection:
        marks = connection.execute(text("SELECT lane, event_time FROM watermark ORDER BY lane")).all()
    assert [tuple(mark) for mark in marks] == [(lane, articles[4].article.published_at) for lane in (0, 1)]


def test_the_planner_of_a_young_database_is_told_of_its_articles(engine: Engine) -> None:
    """Else it checks the foreign keys of stories by an index over the whole run, until autovacuum comes by."""
    store = PostgresTrendStore(engine)

    def known() -> float:
        with engine.connect() as connection:
            query = text("SELECT reltuples FROM pg_class WHERE oid = 'article'::regclass")
            return float(connection.execute(query).scalar_one())

    for first in (0, 600):
        assert known() < 600
        store.ingest("live", [Delivery(scored_article(n), 0) for n in range(first, first + 600)])
    assert known() == 1200


def test_statistics_that_cannot_be_made_stop_nothing(engine: Engine) -> None:
    store, waiting = PostgresTrendStore(engine), engine.connect()
    waiting.execute(text("LOCK TABLE bucket IN SHARE UPDATE EXCLUSIVE MODE"))  # as another ANALYZE
    articles = [scored_article(n) for n in range(1001)]
    assert store.ingest("live", [Delivery(one, 0) for one in articles]).new == 1001
    waiting.rollback()
    assert store.ingest("live", [Delivery(scored_article(2000), 0)]).new == 1
