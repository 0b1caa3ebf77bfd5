"""Replays of the database's articles: without a moment what live counted, as of one what was known then."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.article import Origin, ScoredArticle
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.inprocess import Plan, replay_in_process
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.store import open_store
from crosswind.stream.replay.through import write_log
from crosswind.stream.service.rules import load_rules
from tests.integration.alerts.world import World
from tests.unit.replay.test_point_in_time import MOMENT, edited, log_as_of
from tests.unit.replay.world import articles, at, fired
from tests.versions import told


def store(engine: Engine, inputs: list[ScoredArticle], *, first: int = 0, meanings: bool = False) -> None:
    """As inputs of their own, in the order in which they are given."""
    kept = PostgresTrendStore(engine, meanings)
    numbered = [at(one, origin=Origin("news.raw", 0, number))
                for number, one in enumerate(inputs, first)]  # fmt: skip
    for start in range(0, len(numbered), 29):
        kept.ingest("live", [Delivery(one, 0) for one in numbered[start : start + 29]])


def replayed(engine: Engine, folder: Path, as_of: datetime | None = None) -> bytes:
    source = open_store(engine, "live", Filter(as_of=as_of), Judge(Unscored))
    return replay_in_process(lambda: source, Plan("test", load_rules(), folder)).log.read_bytes()


def known(engine: Engine, wanted: Filter, scores_of: str | None = None) -> list[tuple[object, ...]]:
    """Articles of the store: title, sentiment, model, meaning."""
    rows = [row for part in open_store(engine, "live", wanted, Judge(Unscored), scores_of).tables
            for row in part.to_pylist() if row.get("wanted", True)]  # fmt: skip
    return [(row["title"], row["sentiment"], row["model"], row["meaning"]) for row in rows]


def test_live_is_its_own_replay_when_articles_are_edited(engine: Engine, tmp_path: Path) -> None:
    """Edits come between; what is counted, and so every alert, stays what it was."""
    world, feed = World(engine), sorted(articles(), key=lambda one: one.article.published_at)
    for start in range(0, len(feed), 40):
        store(engine, feed[start : start + 40], first=start)
        store(engine, [edited(one, 0.5) for one in feed[max(0, start - 40) : start]], first=10_000 + start)
        world.alert_engine().tick()
    world.end_feed()
    write_log(engine, "live", tmp_path / "live.jsonl")
    live = (tmp_path / "live.jsonl").read_bytes()
    assert fired(live)
    assert replayed(engine, tmp_path / "again") == live
    assert replayed(engine, tmp_path / "as of the end", MOMENT + timedelta(days=9)) != live


def test_whatever_comes_after_a_moment_changes_no_byte_of_a_replay_as_of_it(engine: Engine, tmp_path: Path) -> None:
    feed = articles()
    early = [edited(one, 2.0) for one in feed[::3]]
    store(engine, [*feed, *early])
    before = replayed(engine, tmp_path / "before", MOMENT)
    late = [at(edited(one, 24.0), title=f"{number} poisoned") for number, one in enumerate(feed)]
    store(engine, [*late, *early, *feed], first=50_000)
    assert replayed(engine, tmp_path / "after", MOMENT) == before
    assert replayed(engine, tmp_path / "later", MOMENT + timedelta(days=2)) != before
    assert log_as_of(tmp_path / "from a file", [*early, *late, *feed], MOMENT) == before


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_the_version_of_a_moment_does_not_depend_on_the_way_it_came(engine: Engine, order: tuple[int, ...]) -> None:
    inputs = [told(1, word, minutes, 0) for word, minutes in (("calm", 0), ("bad", 5), ("good", 9))]
    for place in order:
        store(engine, [inputs[place]], first=place)
    moments = [inputs[0].article.first_seen_at + timedelta(minutes=minutes) for minutes in (-1, 0, 5, 8, 9)]
    assert [[row[0].split()[0] for row in known(engine, Filter(as_of=moment))] for moment in moments] == [
        [], ["calm"], ["bad"], ["bad"], ["good"],
    ]  # fmt: skip
    assert [row[0].split()[0] for row in known(engine, Filter())] == [("calm", "bad", "good")[order[0]]]


def test_a_copy_received_before_what_is_counted_is_known_then(engine: Engine) -> None:
    late, early = told(1, "calm", 9, 0), told(1, "calm", 2, 1)
    for number, one in enumerate((late, early)):
        store(engine, [one], first=number)
    assert len(known(engine, Filter(as_of=early.article.first_seen_at))) == 1
    assert known(engine, Filter(as_of=early.article.first_seen_at - timedelta(minutes=1))) == []


def test_each_version_brings_its_meaning(engine: Engine) -> None:
    calm, bad = (
        replace(one, score=replace(one.score, meaning=meaning))
        for one, meaning in ((told(1, "calm", 0, 0), bytes([127, 3])), (told(1, "bad", 5, 1), bytes([5, 127])))
    )
    store(engine, [calm], meanings=True)
    assert [row[3] for row in known(engine, Filter(as_of=calm.article.first_seen_at))] == [bytes([127, 3])]
    store(engine, [bad], first=1, meanings=True)
    found = [known(engine, Filter(as_of=one.article.first_seen_at))[0][3] for one in (calm, bad)]
    assert found == [bytes([127, 3]), bytes([5, 127])]
    assert known(engine, Filter())[0][3] == bytes([127, 3])


def test_scores_made_anew_are_of_the_text_that_counts(engine: Engine) -> None:
    calm, bad = told(1, "calm", 0, 0), told(1, "bad", 5, 1)
    store(engine, [calm, bad])
    with engine.begin() as connection:
        connection.execute(
            text("""INSERT INTO score_version (run, article_id, model, topic, sentiment, negative_ppm, neutral_ppm,
                 positive_ppm, topic_ppm, unsure)
                 VALUES ('live', :id, 'other', 'macro', 'positive', 0, 0, 1, 1, false)"""),
            {"id": calm.article.article_id},
        )
    moments = [one.article.first_seen_at for one in (calm, bad)]
    assert [known(engine, Filter(as_of=moment), "other")[0][:3] for moment in moments] == [
        ("calm news of 1", "positive", "other"), ("bad news of 1", "negative", "tiny"),
    ]  # fmt: skip
    assert known(engine, Filter(), "other")[0][2] == "other"
