"""Replays of feeds with edits: as of a moment, of each article the version of then, whatever came later."""

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.stream.domain.article import PPM, ScoredArticle, Sentiment
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.files import open_files
from crosswind.stream.replay.inprocess import Plan, replay_in_process
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.log import read_log
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.service.rules import load_rules
from tests.unit.alerts.feeds import START
from tests.unit.replay.world import articles, at, fired, table
from tests.versions import chain, told

INPUTS = [
    told(number, word, minutes, 10 * number + place)
    for number in (1, 2)
    for place, (word, minutes) in enumerate([("calm", 0), ("bad", 2), ("bad", 3), ("good", 4), ("bad", 6)])
]
MOMENT = START + timedelta(hours=13)


def staged(folder: Path, wanted: Filter, *parts: list[ScoredArticle], clock: Clock = Clock.PUBLISHED) -> list[str]:
    """Titles of the staged feed, in order."""
    stage = Stage(folder / "staged")
    tables = [wanted.apply(table(part)) for part in parts if part]
    stage.fill(tables, clock, timedelta(minutes=2), newest=wanted.as_of is not None)
    rows = [row for part in stage.read() for row in part.to_pylist()]
    assert stage.rows == len(rows)
    return [row["title"] for row in rows]


def log_as_of(folder: Path, rows: list[ScoredArticle], moment: datetime | None) -> bytes:
    folder.mkdir()
    pq.write_table(table(rows), folder / "feed.parquet")
    plan = Plan("test", load_rules(), folder / "run")
    source = open_files(str(folder / "feed.parquet"), Filter(as_of=moment), Judge(Unscored))
    return replay_in_process(lambda: source, plan).log.read_bytes()


def edited(one: ScoredArticle, hours: float) -> ScoredArticle:
    """The same article, found harmless so many hours later."""
    score = replace(one.score, sentiment=Sentiment.NEUTRAL, negative_ppm=0, positive_ppm=0, neutral_ppm=PPM)
    return replace(at(one, title=f"{one.article.title}, corrected",
                      first_seen_at=one.article.first_seen_at + timedelta(hours=hours)), score=score)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(INPUTS), cut=st.integers(0, 10), minutes=st.integers(1, 9))
def test_as_of_a_moment_the_newest_version_of_then_counts(
    tmp_path_factory: pytest.TempPathFactory, order: list[ScoredArticle], cut: int, minutes: int
) -> None:
    moment = told(1, "calm", minutes, 0).article.first_seen_at
    expected = []
    for number in (1, 2):
        known = [one for one in INPUTS if one.article.first_seen_at <= moment
                 and int(one.article.article_id, 16) == number]  # fmt: skip
        expected += [chain(known)[-1].article.title] if known else []
    found = staged(tmp_path_factory.mktemp("stage"), Filter(as_of=moment), order[:cut], order[cut:])
    again = staged(tmp_path_factory.mktemp("stage"), Filter(as_of=moment), order[cut:], order[:cut])
    assert found == again == expected


def test_of_inputs_that_say_the_same_the_first_is_the_version(tmp_path: Path) -> None:
    """With the clock `known`, a copy does not make its article later."""
    first, copy = told(1, "calm", 10, 0), told(1, "calm", 70, 1)
    stage = Stage(tmp_path / "staged")
    stage.fill([table([copy, first])], Clock.KNOWN, timedelta(0), newest=True)
    (row,) = [row for part in stage.read() for row in part.to_pylist()]
    assert row["event_at"] == first.article.first_seen_at


@pytest.mark.parametrize(("topic", "as_of", "title"), [
    ("credit", False, "calm news of 1"), ("macro", False, None), ("credit", True, None),
    ("macro", True, "bad news of 1"),
])  # fmt: skip
def test_filters_ask_the_version_that_counts(tmp_path: Path, topic: str, as_of: bool, title: str | None) -> None:
    first, edit = told(1, "calm", 0, 0), told(1, "bad", 5, 1)
    edit = replace(edit, score=replace(edit.score, topic="macro"))
    moment = edit.article.first_seen_at if as_of else None
    wanted = Filter(topics=(topic,), as_of=moment)
    for parts in itertools.permutations([[first], [edit]]):
        assert staged(tmp_path, wanted, *parts) == ([title] if title else [])


def test_without_a_moment_edits_change_nothing(tmp_path: Path) -> None:
    feed = articles()
    edits = [edited(one, 1.0) for one in feed if one.score.sentiment is Sentiment.NEGATIVE]
    plain = log_as_of(tmp_path / "plain", feed, None)
    assert fired(plain)
    assert log_as_of(tmp_path / "edited", [*edits, *feed], None) == plain


def test_whatever_is_altered_or_added_after_a_moment_changes_no_byte(tmp_path: Path) -> None:
    feed = articles()
    early = [edited(one, 2.0) for one in feed[::3]]
    late = [edited(one, 24.0) for one in feed]
    strangers = [at(one, article_id=f"x{one.article.article_id[1:]}", first_seen_at=MOMENT + timedelta(seconds=1))
                 for one in feed[:200]]  # fmt: skip
    unreceived = [at(one, title="poison", entities=("Poison",)) if one.article.first_seen_at > MOMENT else one
                  for one in feed]  # fmt: skip
    clean = log_as_of(tmp_path / "clean", [*feed, *early], MOMENT)
    assert log_as_of(tmp_path / "poisoned", [*late, *strangers, *early, *unreceived], MOMENT) == clean
    assert log_as_of(tmp_path / "later", [*late, *strangers, *early, *unreceived], MOMENT + timedelta(days=2)) != clean
    assert log_as_of(tmp_path / "before the edits", feed, MOMENT) != clean
    assert read_log(tmp_path / "clean" / "run" / "alerts.jsonl")
