"""Other bundles' scores lie beside what was published, which stays byte for byte."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from crosswind.errors import DatabaseError
from crosswind.export.bundle import verify
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres import deployment_tables
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments
from crosswind.stream.adapters.postgres.score_versions import Selection, compared, count_unscored, examples
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.rescoring import CHUNK, Shadow, rescore
from crosswind.stream.domain.article import Score, Sentiment
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.service.deployment import Deployment, Kind, Slot
from tests.builders import START, scored_article
from tests.integration.deployment.bundles import numberless, opposite


def ingest(engine: Engine, numbers: Sequence[int], lane: int = 0) -> None:
    articles = [
        scored_article(n, title=f"Bank {n} {'falls' if n % 2 else 'rises'}", lang=("en", "de")[n % 3 == 0],
                       sentiment=Sentiment.NEGATIVE if n % 2 else Sentiment.POSITIVE)
        for n in numbers
    ]  # fmt: skip
    PostgresTrendStore(engine).ingest("live", [Delivery(article, lane) for article in articles])


def published(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        return [*connection.execute(text("SELECT * FROM article ORDER BY article_id")),
                *connection.execute(text("SELECT * FROM bucket ORDER BY minute, topic, lang, entity"))]  # fmt: skip


@pytest.fixture
def scorer(tiny_bundle: Path, tmp_path: Path) -> OnnxScorer:
    return OnnxScorer(opposite(tiny_bundle, tmp_path / "opposite"), threads=1)


class Failing:
    """Scores `good` chunks, then the machine dies."""

    provider = "fake"

    def __init__(self, scorer: OnnxScorer, good: int) -> None:
        self._scorer, self._good, self.version = scorer, good, scorer.version

    def score(self, texts: Sequence[str]) -> list[Score]:
        self._good -= 1
        if self._good < 0:
            raise KeyboardInterrupt
        return self._scorer.score(texts)


def test_a_rescoring_goes_on_where_it_was_and_leaves_what_was_published(engine: Engine, scorer: OnnxScorer) -> None:
    ingest(engine, range(CHUNK * 2 + 10))
    before = published(engine)
    selection = Selection("live", scorer.version, START + timedelta(minutes=5))
    assert count_unscored(engine, selection) == CHUNK * 2 + 5
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        rescore(engine, selection, Failing(scorer, 1), seen.append)
    assert rescore(engine, selection, scorer, seen.append) == CHUNK + 5
    assert seen == [CHUNK, CHUNK, 5]
    assert rescore(engine, selection, scorer, seen.append) == 0
    assert published(engine) == before


class Dropping:
    """Scores, while retention drops an article."""

    provider = "fake"

    def __init__(self, scorer: OnnxScorer, engine: Engine) -> None:
        self._scorer, self._engine, self.version = scorer, engine, scorer.version

    def score(self, texts: Sequence[str]) -> list[Score]:
        with self._engine.begin() as connection:
            connection.execute(text("DELETE FROM article WHERE article_id = :gone"), {"gone": f"{3:032x}"})
        return self._scorer.score(texts)


def test_a_rescoring_leaves_out_what_is_dropped_meanwhile_and_says_how_many(engine: Engine, scorer: OnnxScorer) -> None:
    ingest(engine, range(8))
    selection, seen, gone = Selection("live", scorer.version, START), list[int](), list[int]()
    assert rescore(engine, selection, Dropping(scorer, engine), seen.append, gone.append) == 7
    assert (seen, gone) == ([8], [1])
    assert compared(engine, "live", scorer.version)[0]["articles"] == 7


def test_disagreement_is_counted_per_language_and_topic(engine: Engine, scorer: OnnxScorer) -> None:
    ingest(engine, range(12))
    rescore(engine, Selection("live", scorer.version, START), scorer, lambda n: None)
    rows = {(row["lang"], row["topic"]): row for row in compared(engine, "live", scorer.version)}
    assert set(rows) == {(lang, topic) for lang in ("*", "en", "de") for topic in ("*", "credit")}
    everything = rows["*", "*"]
    assert (everything["articles"], everything["sentiment_differs"], everything["topic_differs"]) == (12, 12, 0)
    assert (everything["newly_negative"], everything["no_longer_negative"]) == (6, 6)
    assert rows["de", "*"]["articles"] == 4
    assert len(examples(engine, "live", scorer.version, None, 5)) == 5


def shadow_of(engine: Engine, scorer: OnnxScorer) -> tuple[Shadow, PostgresDeployments]:
    def load(deployment: Deployment) -> OnnxScorer:
        assert deployment.version == scorer.version
        return scorer

    book = PostgresDeployments(engine)
    return Shadow("live", "here", engine, book, load), book


def test_a_shadow_scores_what_arrives_and_publishes_nothing(engine: Engine, scorer: OnnxScorer) -> None:
    shadow, book = shadow_of(engine, scorer)
    assert shadow.tick() == (None, 0)
    ingest(engine, range(100))
    book.wish("live", Slot.SHADOW, scorer.version, "there", reason="shadow")
    event, first = shadow.tick()
    assert event
    assert event.kind is Kind.ACTIVE
    assert first <= 3  # what was there before, but for the last two minutes, is not its business
    ingest(engine, range(100, 180))
    before = published(engine)
    scored = first
    while found := shadow.tick()[1]:
        scored += found
    assert scored == 80 + first
    assert published(engine) == before
    assert compared(engine, "live", scorer.version)[0]["articles"] == scored
    book.wish("live", Slot.SHADOW, "", "", reason="shadow")
    assert shadow.tick()[0].kind is Kind.ENDED  # type: ignore[union-attr]
    ingest(engine, range(180, 190))
    assert shadow.tick() == (None, 0)


def test_a_shadow_begins_at_what_arrives_though_a_partition_is_silent(engine: Engine, scorer: OnnxScorer) -> None:
    book = PostgresDeployments(engine)
    shadow = Shadow("live", "here", engine, book, lambda _: scorer, idle_seconds=600)
    ingest(engine, range(3), lane=1)
    ingest(engine, range(1000, 1100))
    with engine.begin() as connection:
        connection.execute(text("UPDATE watermark SET moved_at = moved_at - interval '1 hour' WHERE lane = 1"))
    book.wish("live", Slot.SHADOW, scorer.version, "there", reason="shadow")
    assert 1 <= shadow.tick()[1] <= 3
    assert shadow.tick()[1] == 0


class Breaking:
    """Scores `good` chunks, then fails in its own way."""

    provider = "fake"

    def __init__(self, scorer: OnnxScorer, good: int) -> None:
        self._scorer, self._good, self.version = scorer, good, scorer.version
        self.closed = False

    def score(self, texts: Sequence[str]) -> list[Score]:
        self._good -= 1
        if self._good < 0:
            raise RuntimeError("the runtime's own")
        return self._scorer.score(texts)

    def close(self) -> None:
        self.closed = True


def kinds(book: PostgresDeployments, wished: Deployment) -> list[tuple[str, str]]:
    return [(row["kind"], row["message"]) for row in book.outcomes("live", wished.seq)]


def test_a_shadow_that_fails_at_scoring_is_written_down_and_put_away(engine: Engine, scorer: OnnxScorer) -> None:
    book, candidate = PostgresDeployments(engine), Breaking(scorer, 1)
    shadow = Shadow("live", "here", engine, book, lambda _: candidate)
    ingest(engine, range(3))
    wished = book.wish("live", Slot.SHADOW, scorer.version, "there", reason="shadow")
    assert shadow.tick()[1] == 3
    ingest(engine, range(3, 100))
    event, scored = shadow.tick()
    assert event
    assert (event.kind, scored, candidate.closed) == (Kind.FAILED, 0, True)
    assert shadow.tick() == (None, 0)
    assert kinds(book, wished) == [("active", ""), ("failed", "RuntimeError: the runtime's own")]
    assert compared(engine, "live", scorer.version)[0]["articles"] == 3
    again = book.wish("live", Slot.SHADOW, scorer.version, "there", reason="shadow")
    candidate._good = 9
    assert shadow.tick()[1] == 3
    assert kinds(book, again) == [("active", "")]


def test_a_shadow_whose_scores_are_no_numbers_is_written_down(
    engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    candidate = OnnxScorer(numberless(tiny_bundle, tmp_path / "numberless"), threads=1)
    book = PostgresDeployments(engine)
    shadow = Shadow("live", "here", engine, book, lambda _: candidate)
    wished = book.wish("live", Slot.SHADOW, candidate.version, "there", reason="shadow")
    articles = [scored_article(n, title=f"Oil {n} rises") for n in range(3)]
    PostgresTrendStore(engine).ingest("live", [Delivery(article, 0) for article in articles])
    assert shadow.tick()[1] == 0
    active, failed = kinds(book, wished)
    assert (active, failed[0]) == (("active", ""), "failed")
    assert "logits that are no numbers" in failed[1]
    assert compared(engine, "live", candidate.version) == []


def test_a_share_takes_about_that_many_and_always_the_same(engine: Engine, scorer: OnnxScorer) -> None:
    ingest(engine, range(400))
    tenth = Selection("live", scorer.version, START, share_ppm=100_000)
    assert 20 <= count_unscored(engine, tenth) <= 65
    found = count_unscored(engine, tenth)
    assert rescore(engine, tenth, scorer, lambda n: None) == found
    assert count_unscored(engine, Selection("live", scorer.version, START)) == 400 - found


def test_a_bad_shadow_is_written_down_and_scores_nothing(engine: Engine) -> None:
    def load(deployment: Deployment) -> OnnxScorer:
        raise ValueError("no model")

    book = PostgresDeployments(engine)
    shadow = Shadow("live", "here", engine, book, load)
    wished = book.wish("live", Slot.SHADOW, "x", "there", reason="shadow")
    ingest(engine, range(5))
    assert shadow.tick()[1] == 0
    assert [row["kind"] for row in book.outcomes("live", wished.seq)] == ["failed"]


def test_a_database_that_is_away_is_our_error(tiny_bundle: Path) -> None:
    from crosswind.stream.adapters.postgres.engine import connect

    book = PostgresDeployments(connect("postgresql://nobody@127.0.0.1:9/none"))
    with pytest.raises(DatabaseError, match="reading the deployments failed"):
        book.wanted("live", Slot.LIVE)
    assert verify(tiny_bundle)


def test_migrations_make_the_tables_that_the_code_declares(engine: Engine) -> None:
    ours = {"deployment", "deployment_event", "score_version"}

    def include(thing: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
        table = getattr(thing, "table", None)
        return (name if table is None else table.name) in ours

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include})
        assert compare_metadata(context, deployment_tables.Base.metadata) == []
