"""Replays through Kafka: what is stored is what was staged, with its ids, and no minute is told before it is stored."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, text

from crosswind.errors import SettingsError
from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.identity import article_id
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.replay import runs
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.inprocess import Plan
from crosswind.stream.replay.job import Job
from crosswind.stream.replay.judging import Unscored
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.replay.through import replay_through_kafka
from crosswind.stream.replay.topic import Stretch
from crosswind.stream.replay.way import Way
from crosswind.stream.service.rules import load_rules
from tests.builders import START, scored_article
from tests.integration.alerts.world import LATENESS
from tests.unit.replay.world import articles, at, log_of, table

Through = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def through(broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path) -> Through:
    """Replays a feed as the command line does; gives topic and model of each article that is stored, by id."""

    def play(feed: str, model: str | None, wanted: Filter = Filter(), bad: int = 0) -> dict[str, tuple[str, str]]:  # noqa: B008
        settings = load_settings({
            "kafka": broker, "database_url": database_url, "data_dir": tmp_path, "model": str(tiny_bundle),
        })  # fmt: skip
        asked: dict[str, Any] = {"feed": feed, "model": model, "scores": None, "partitions": 1, "notify": False}
        record = runs.Run("again", "kafka", asked, runs.RUNNING, "2026-01-01T00:00:00+00:00")
        plan = Plan("again", load_rules(), runs.folder_of(tmp_path, "again"))
        outcome = Job(settings, record, wanted, Stretch(), True).through(plan)
        assert (outcome.finished, outcome.bad) == (True, bad)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT article_id, topic, model FROM article WHERE run = 'again'"))
            return {row.article_id: (row.topic, row.model) for row in found}

    return play


def test_articles_that_are_scored_anew_keep_their_ids(engine: Engine, tiny_bundle: Path, through: Through) -> None:
    """Two that differ in the ids of their source only are still two."""
    first = at(scored_article(1, topic="macro"), title="Bank fails", body="")
    twin = replace(first, article=replace(first.article, article_id="2" * 32))
    PostgresTrendStore(engine).ingest("live", [Delivery(first, 0), Delivery(twin, 0)])
    found = through("store:live", str(tiny_bundle))
    assert set(found) == {first.article.article_id, "2" * 32}
    assert {topic for topic, _ in found.values()} == {"credit"}
    assert first.score.model not in {model for _, model in found.values()}


def test_of_a_mixed_feed_only_what_has_no_score_is_scored(tmp_path: Path, through: Through) -> None:
    given = scored_article(1, topic="macro")
    feed = tmp_path / "feed"
    feed.mkdir()
    pq.write_table(table([given]), feed / "scored.parquet")
    raw = {"source": "s", "id": "7", "title": "Bank fails", "published_at": given.article.published_at.isoformat()}
    (feed / "unscored.jsonl").write_text(json.dumps(raw) + "\n")
    found = through(str(feed), None)
    assert found.pop(given.article.article_id) == ("macro", given.score.model)
    ((topic, model),) = found.values()
    assert topic == "credit"
    assert model not in ("none", given.score.model)


def test_of_articles_without_a_score_only_the_wanted_topics_are_replayed(tmp_path: Path, through: Through) -> None:
    rows = [{"source": "s", "id": name, "title": title, "published_at": START.isoformat()}
            for name, title in (("7", "Bank fails"), ("8", "Growth slows"))]  # fmt: skip
    feed = tmp_path / "feed.jsonl"
    feed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = through(str(feed), None, Filter(topics=("credit",)))
    wanted = article_id(source="s", given="7", title="Bank fails", body="", url=None, published_at=START)
    assert {ident: topic for ident, (topic, _) in found.items()} == {wanted: "credit"}


def test_rows_with_one_probability_are_stored_and_those_with_an_impossible_one_are_counted(
    tmp_path: Path, through: Through
) -> None:
    given = {980_000: "negative", 999_999: "positive", 1_000_001: "negative", -1: "neutral"}
    rows = [{"source": "s", "id": str(ppm), "title": f"Bank {ppm}", "published_at": START.isoformat(),
             "topic": "credit", "sentiment": mood, "negative_ppm": ppm} for ppm, mood in given.items()]  # fmt: skip
    feed = tmp_path / "feed.jsonl"
    feed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(through(str(feed), None, bad=2)) == 2


def _late(given: str | None) -> pa.Table:
    """An unscored article, received six hours after it was published."""
    seen = START + timedelta(hours=6)
    ident = article_id(source="s", given=given, title="Bank fails", body="", url=None, published_at=START)
    late = at(scored_article(1), article_id=ident, source="s", title="Bank fails", body="",
              url=None, published_at=START, first_seen_at=seen)  # fmt: skip
    found = table([replace(late, score=replace(late.score, model=Unscored.version))])
    place = found.column_names.index("given_id")
    return found.set_column(place, "given_id", pa.array([given], pa.string()))


def test_what_the_worker_scores_counts_by_the_clock_of_the_replay(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    way = Way(broker, database_url, engine, partitions=1, worker_settings={"model": str(tiny_bundle)})
    plan = Plan("again", load_rules(), tmp_path, clock=Clock.KNOWN)
    stage = Stage(tmp_path / "staged")
    stage.fill([_late(None)], Clock.KNOWN, LATENESS)
    with pytest.raises(SettingsError, match=r"1 articles came late.*leave out --through-kafka"):
        replay_through_kafka(stage, plan, way, tmp_path)
    stage.fill([_late("7")], Clock.KNOWN, LATENESS)
    assert replay_through_kafka(stage, plan, way, tmp_path).finished
    with engine.connect() as connection:
        found = connection.execute(text("SELECT topic, published_at FROM article WHERE run = 'again'")).all()
    assert found == [("credit", START + timedelta(hours=6) - LATENESS)]


def test_no_minute_is_told_because_later_ones_are_stored(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    """A killed run has stored a part of a long step, not that of the crisis; it is resumed in short steps."""
    feed = articles()
    PostgresTrendStore(engine).ingest("again", [Delivery(one, 0) for one in feed if one.score.topic != "credit"])
    stage = Stage(tmp_path / "staged")
    stage.fill([table(feed)], Clock.PUBLISHED, LATENESS)
    settings = {"model": str(tiny_bundle), "session_timeout": "2.0"}
    way = Way(broker, database_url, engine, partitions=1, worker_settings=settings)
    plan = Plan("again", load_rules(), tmp_path, batch=256)
    log = replay_through_kafka(stage, plan, way, tmp_path).log.read_bytes()
    assert log == log_of(tmp_path / "expected")
