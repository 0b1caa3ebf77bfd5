"""Edits on a real Postgres: kept as versions beside what is counted, the same whatever way their inputs came."""

import itertools
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Engine, event, inspect, text

from crosswind import status
from crosswind.errors import DatabaseError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.postgres.retention import sweep
from crosswind.stream.adapters.postgres.schema import DuplicateRow
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.postgres.version_tables import VersionRow
from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.bucket import fold
from crosswind.stream.domain.ingest import Delivery, Ingested
from crosswind.stream.domain.retention import Policy
from crosswind.stream.replay.removal import delete_rows
from tests import versions
from tests.builders import START, scored_article
from tests.oracle import send
from tests.processes import count, left, start_worker, wait_for
from tests.versions import told

_runs = itertools.count()
CALM, BAD, GOOD = told(1, "calm", 0, 10), told(1, "bad", 5, 11), told(1, "good", 9, 12)


def ingest(engine: Engine, inputs: Sequence[ScoredArticle], run: str = "live", *, meanings: bool = False) -> Ingested:
    return PostgresTrendStore(engine, meanings).ingest(run, [Delivery(one, 0) for one in inputs])


def titles(engine: Engine) -> list[object]:
    return [row[2] for row in versions.stored(engine)[0]]


def buckets(engine: Engine, run: str = "live") -> dict[tuple[object, ...], int]:
    query = text("SELECT minute, topic, lang, entity, negative, articles FROM bucket WHERE run = :run")
    with engine.connect() as connection:
        return {tuple(row[:5]): row[5] for row in connection.execute(query, {"run": run})}


def folded(articles: Sequence[ScoredArticle]) -> dict[tuple[object, ...], int]:
    return {(key.minute, key.topic, key.lang, key.entity, tally.negative): tally.articles
            for key, tally in fold(articles).items()}  # fmt: skip


def test_the_table_is_the_one_that_the_code_has(engine: Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), VersionRow.metadata)
    assert [one for one in differences if "article_version" in str(one) or "duplicate" in str(one)] == []


def test_the_key_of_duplicates_is_the_one_that_the_code_has(engine: Engine) -> None:
    """Alembic's own comparison leaves keys out."""
    key = inspect(engine).get_pk_constraint("duplicate")
    columns = DuplicateRow.__table__.primary_key.columns  # type: ignore[attr-defined]
    assert (key["name"], set(key["constrained_columns"])) == ("pk_duplicate", {column.name for column in columns})


def test_an_edit_is_a_version_and_counts_nowhere(engine: Engine) -> None:
    ingest(engine, [CALM])
    before = buckets(engine)
    found = ingest(engine, [BAD])
    assert (found.edited, found.new, found.duplicates, found.changed) == (1, 0, 0, None)
    assert versions.stored(engine)[0] == [
        (CALM.article.article_id, 1, *versions.content(CALM)), (BAD.article.article_id, 2, *versions.content(BAD)),
    ]  # fmt: skip
    assert buckets(engine) == before == folded([CALM])
    with engine.connect() as connection:
        assert connection.execute(text("SELECT title FROM article")).scalars().all() == [CALM.article.title]


def test_what_repeats_the_newest_version_is_a_duplicate_and_an_edit_again_a_redelivery(engine: Engine) -> None:
    ingest(engine, [CALM])
    ingest(engine, [BAD])
    again = ingest(engine, [BAD, CALM, told(1, "bad", 6, 20)])
    assert (again.edited, again.redelivered, again.duplicates) == (0, 2, 1)
    assert len(versions.stored(engine)[0]) == 2
    assert versions.stored(engine)[1] == [(BAD.article.article_id, 20)]


@pytest.mark.parametrize("field", ["title", "body", "lang", "entities"])
def test_any_part_of_the_text_makes_an_edit(engine: Engine, field: str) -> None:
    other = ("Elsewhere",) if field == "entities" else "zz"
    edit = replace(BAD, article=replace(CALM.article, first_seen_at=BAD.article.first_seen_at,
                                        origin=BAD.article.origin, **{field: other}))  # fmt: skip
    assert ingest(engine, [CALM, edit]).edited == 1


def test_an_edit_that_comes_before_its_original_counts_as_what_was_stored_first(engine: Engine) -> None:
    ingest(engine, [BAD])
    assert ingest(engine, [CALM]).edited == 1
    assert titles(engine) == [CALM.article.title, BAD.article.title]
    assert buckets(engine) == folded([BAD])


def test_in_one_batch_the_first_received_counts(engine: Engine) -> None:
    found = ingest(engine, [GOOD, BAD, CALM, BAD])
    assert (found.new, found.edited, found.redelivered) == (1, 2, 1)
    assert titles(engine) == [CALM.article.title, BAD.article.title, GOOD.article.title]
    assert buckets(engine) == folded([CALM])


def test_a_late_edit_makes_a_duplicate_of_one_version_and_a_version_of_a_duplicate(engine: Engine) -> None:
    again, back = told(1, "bad", 6, 30), told(1, "calm", 8, 31)
    ingest(engine, [CALM])
    assert ingest(engine, [told(1, "calm", 4, 29)]).duplicates == 1
    ingest(engine, [again])
    ingest(engine, [back])
    assert ingest(engine, [told(1, "bad", 3, 28)]).edited == 1  # 29 says calm again, then 30 bad, then 31 calm
    assert [row[1:] for row in versions.stored(engine)[1]] == []
    assert [row[-1] for row in versions.stored(engine)[0]] == [10, 28, 29, 30, 31]
    assert ingest(engine, [told(1, "bad", 5, 27)]).edited == 1  # before 30, which repeats it now
    assert [row[-1] for row in versions.stored(engine)[0]] == [10, 28, 29, 27, 31]
    assert [row[1:] for row in versions.stored(engine)[1]] == [(30,)]


def test_a_duplicate_that_becomes_a_version_has_the_score_that_its_text_had(engine: Engine) -> None:
    ingest(engine, [CALM])
    ingest(engine, [versions.scored_by(told(1, "calm", 8, 31), "newer")])
    ingest(engine, [BAD])
    assert [row[-2:] for row in versions.stored(engine)[0]] == [("tiny", 10), ("tiny", 11), ("tiny", 31)]


def test_each_version_has_the_model_that_scored_it(engine: Engine) -> None:
    ingest(engine, [CALM])
    ingest(engine, [versions.scored_by(BAD, "newer")])
    assert [row[-2] for row in versions.stored(engine)[0]] == ["tiny", "newer"]


AGAIN = told(1, "bad", 60, 10)
"""A broker that forgot gave it the origin that CALM had before."""


def test_an_edit_with_the_origin_of_what_it_edits_is_an_edit(engine: Engine) -> None:
    ingest(engine, [CALM])
    assert ingest(engine, [AGAIN]).edited == 1
    assert titles(engine) == [CALM.article.title, AGAIN.article.title]
    found = ingest(engine, [CALM, AGAIN])
    assert (found.redelivered, found.edited, found.duplicates) == (2, 0, 0)
    assert ingest(engine, [told(1, "calm", 70, 10)]).edited == 1, "back to what it said"
    assert buckets(engine) == folded([CALM])


@pytest.mark.parametrize("edited", [False, True])
def test_what_repeats_an_input_of_its_own_origin_is_a_redelivery(engine: Engine, edited: bool) -> None:
    ingest(engine, [CALM, told(1, "bad", 1, 9)] if edited else [CALM])
    before = versions.stored(engine)
    found = ingest(engine, [told(1, "bad", 60, 9) if edited else told(1, "calm", 60, 10)])
    assert (found.redelivered, found.edited, found.duplicates) == (1, 0, 0)
    assert versions.stored(engine) == before


def test_an_origin_that_comes_again_names_the_copies_of_each_article(engine: Engine) -> None:
    ingest(engine, [CALM, told(1, "calm", 1, 11), told(2, "calm", 0, 12)])
    assert ingest(engine, [told(2, "calm", 60, 11)]).duplicates == 1
    first, second = CALM.article.article_id, told(2, "calm", 0, 12).article.article_id
    assert versions.stored(engine)[1] == [(first, 11), (second, 11)]
    ingest(engine, [told(2, "bad", 30, 13)])  # late: makes a version of the second one's copy
    assert versions.stored(engine)[1] == [(first, 11)]


REUSED = [told(1, word, minutes, offset) for minutes, (word, offset) in
          enumerate(itertools.product(["calm", "bad", "good"], [1, 2]))]  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(received=st.permutations(REUSED), cuts=st.sets(st.integers(1, 5)), again=st.lists(st.sampled_from(REUSED)))
def test_origins_that_come_again_lose_no_edit_and_a_redelivery_changes_nothing(
    engine: Engine, received: list[ScoredArticle], cuts: set[int], again: list[ScoredArticle]
) -> None:
    run, edges = f"r{next(_runs)}", [0, *sorted(cuts), len(received)]
    inputs = [replace(one, article=replace(one.article, first_seen_at=START + timedelta(hours=hours)))
              for hours, one in enumerate(received)]  # fmt: skip
    for begin, stop in itertools.pairwise(edges):
        ingest(engine, inputs[begin:stop], run)
    rows, duplicates = versions.stored(engine, run)
    chain = versions.chain(inputs)
    assert rows == [(one.article.article_id, n, *versions.content(one)) for n, one in enumerate(chain, 1)]
    delivered = {inputs[received.index(one)] for one in again}
    assert ingest(engine, sorted(delivered, key=versions.place), run).new == 0
    assert versions.stored(engine, run) == (rows, duplicates)
    assert buckets(engine, run) == folded(inputs[:1])


INPUTS = [
    told(number, word, minutes, number * 100 + place)
    for number in (1, 2)
    for place, (word, minutes) in enumerate(itertools.product(["calm", "bad", "good"], [0, 3, 3, 7]))
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.sampled_from(INPUTS), max_size=7), max_size=8))
def test_any_order_batching_and_redelivery_gives_the_fold(engine: Engine, batches: list[list[ScoredArticle]]) -> None:
    run = f"r{next(_runs)}"
    found = [ingest(engine, batch, run) for batch in batches]
    rows, duplicates, _ = versions.tables(batches)
    assert versions.stored(engine, run) == (rows, duplicates)
    assert buckets(engine, run) == folded(list(versions.counted(batches).values()))
    for one, batch in zip(found, batches, strict=True):
        assert one.new + one.edited + one.duplicates + one.redelivered == len(batch)
    assert versions.stored(engine, run) == (rows, duplicates)


def test_writers_at_once_end_with_the_fold(engine: Engine) -> None:
    """Each of four writers delivers everything, in an order of its own."""
    troubles: list[DatabaseError] = []
    start = threading.Barrier(4)

    def write(seed: int) -> None:
        order = random.Random(seed)
        inputs = order.sample(INPUTS, len(INPUTS))
        start.wait(30)
        while inputs:
            batch, inputs = inputs[:5], inputs[5:]
            try:
                ingest(engine, batch, "shared")
            except DatabaseError as error:
                troubles.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert troubles == []
    with engine.connect() as connection:
        first = set(connection.execute(text("SELECT origin_offset FROM article WHERE run = 'shared'")).scalars())
    counted = [one for one in INPUTS if one.article.origin.offset in first]
    rows, duplicates, _ = versions.tables([counted, INPUTS])
    assert versions.stored(engine, "shared") == (rows, duplicates)
    assert buckets(engine, "shared") == folded(counted)


def test_where_nothing_is_edited_nothing_is_asked(engine: Engine) -> None:
    asked: list[str] = []
    articles = [scored_article(n) for n in range(5)]
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    ingest(engine, articles)
    ingest(engine, articles)
    assert len(asked) > 5
    assert [statement for statement in asked if "article_version" in statement or "NO KEY UPDATE" in statement] == []


def test_versions_keep_what_they_mean(engine: Engine) -> None:
    calm, bad = (replace(one, score=replace(one.score, meaning=meaning))
                 for one, meaning in ((CALM, bytes([127, 3])), (BAD, bytes([5, 127]))))  # fmt: skip
    ingest(engine, [calm], meanings=True)
    ingest(engine, [bad], meanings=True)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT meaning FROM article_version ORDER BY version")).scalars().all()
    assert [bytes(one) for one in kept] == [bytes([127, 3]), bytes([5, 127])]


def test_versions_go_with_their_article_and_do_not_come_back(engine: Engine) -> None:
    young = 60 * 24 * 29
    ingest(engine, [CALM, BAD, scored_article(2, minutes=young), scored_article(3, minutes=young)])
    ingest(engine, [replace(BAD, article=replace(BAD.article, article_id=f"{2:032x}"))])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO engine VALUES ('live', :to, '{}')"), {"to": START.replace(month=4)})
    swept = sweep(engine, "live", Policy.of_days(articles=20, minutes=None))
    assert swept is not None
    assert swept.articles == 1
    assert {row[0] for row in versions.stored(engine)[0]} == {f"{2:032x}"}
    assert ingest(engine, [BAD, GOOD]).expired == 2


def test_a_worker_keeps_edits_and_the_status_counts_them(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    given = Settings(kafka=broker, database_url=SecretStr(database_url))
    ensure_topics(given, broker)
    row = {"source": "wire", "id": "7", "lang": "en", "published_at": "2026-03-02T00:00:00Z"}
    rows = [json.dumps({**row, "title": title}).encode() for title in ("bank fails", "bank stays", "bank stays")]
    for number, one in enumerate(rows):  # one after the other, so that no partition is read before another
        send(broker, given.raw_topic, [one], number)
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: count(engine, "duplicate") == 1, 60, "the copy of the edit is named")
        wait_for(lambda: titles(engine) == ["bank fails", "bank stays"], 30, "the edit is kept")
        said = status._database(given)
        assert (said["articles"], said["duplicates"], said["edits"]) == (1, 1, 1)
    finally:
        worker.terminate()
        assert left(worker) == 0


def test_a_run_is_deleted_with_its_versions(engine: Engine) -> None:
    ingest(engine, [CALM, BAD], "again")
    ingest(engine, [CALM, BAD])
    assert delete_rows(engine, "again") == 1
    assert count(engine, "article_version") == 2
