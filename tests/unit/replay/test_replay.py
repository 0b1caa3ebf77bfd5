"""Replays in process: order, copies, what was known when, and the traps of time."""

import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.errors import DataError, SettingsError
from crosswind.stream.domain.bucket import fold
from crosswind.stream.domain.series import MINUTE, Series
from crosswind.stream.replay import runs
from crosswind.stream.replay.columns import SCHEMA, Filter, normalise, table_of
from crosswind.stream.replay.engine import Replayer, track
from crosswind.stream.replay.files import open_files
from crosswind.stream.replay.inprocess import Plan, replay_in_process
from crosswind.stream.replay.job import check_options
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.ledger import Ledger
from crosswind.stream.replay.log import difference, read_log
from crosswind.stream.replay.made import made_feed
from crosswind.stream.replay.notebook import opened
from crosswind.stream.replay.sources import Source
from crosswind.stream.replay.split import Part, join
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.replay.times import EPOCH
from crosswind.stream.service.rules import load_rules
from tests.builders import scored_article
from tests.unit.alerts.feeds import START
from tests.unit.replay.world import Simulated, articles, at, fired, log_of, replayed, table

LATE = timedelta(minutes=2)


def _staged(folder: Path, *tables: pa.Table, clock: Clock = Clock.PUBLISHED) -> Stage:
    stage = Stage(folder / "staged")
    stage.fill(tables, clock, LATE)
    return stage


def test_the_stage_gives_every_article_once_in_event_order(tmp_path: Path) -> None:
    feed = articles()
    stage = _staged(tmp_path, table(feed[300:]), table(feed[:310][::-1]))
    rows = [row for part in stage.read() for row in part.to_pylist()]
    assert [row["article_id"] for row in rows] == [
        one.article.article_id
        for one in sorted(feed, key=lambda one: (one.article.published_at, one.article.article_id))
    ]
    assert stage.rows == len(feed)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(6)))
def test_of_several_versions_the_first_received_counts(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    first = scored_article(1, title="first")
    versions = [at(replace(first), title=f"version {n}", first_seen_at=first.article.first_seen_at + n * LATE,
                   published_at=first.article.published_at + n * timedelta(hours=9)) for n in range(6)]  # fmt: skip
    stage = _staged(tmp_path_factory.mktemp("stage"), table([versions[n] for n in order[:3]]),
                    table([versions[n] for n in order[3:]]))  # fmt: skip
    assert [row["title"] for part in stage.read() for row in part.to_pylist()] == ["version 0"]


def test_the_ledger_counts_what_the_fold_counts() -> None:
    feed = articles()
    ledger = Ledger()
    ordered = sorted(feed, key=lambda one: one.article.published_at)
    whole = table(ordered)
    ledger.take(whole.append_column("event_at", whole["published_at"]))
    first, last = START, START + timedelta(hours=14) - MINUTE
    found = ledger.histories(load_rules(), first, last, [Series("credit"), Series("rates", "hi")])
    tallies = fold(ordered)
    for series in (Series("credit"), Series("rates", "hi"), Series("*", "*", "Acme")):
        keys = [key for key in tallies if series.lang in ("*", key.lang) and key.entity == series.entity
                and series.topic in ("*", key.topic)]  # fmt: skip
        assert found[series].sums(last, 14 * 60) == (
            sum(tallies[key].negative for key in keys), sum(tallies[key].articles for key in keys),
        )  # fmt: skip


def test_an_alteration_after_a_moment_changes_nothing_before_it(tmp_path: Path) -> None:
    moment = START + timedelta(hours=9, minutes=30)
    feed = articles()
    poisoned = [
        replace(at(one, title="poison", lang="xx", entities=("Poison",)),
                score=replace(one.score, topic="macro")) if one.article.published_at > moment else one
        for one in feed
    ]  # fmt: skip
    logs = [read_log(replayed(tmp_path / name, table(rows)).log) for name, rows in (("a", feed), ("b", poisoned))]
    before = [[row for row in log if datetime.fromisoformat(row["at"]) <= moment] for log in logs]
    assert before[0] == before[1] != []
    assert logs[0] != logs[1]


def test_as_of_a_moment_only_what_had_been_received_is_seen() -> None:
    moment = START + timedelta(hours=3)
    late = at(scored_article(1), published_at=START, first_seen_at=moment + LATE)
    known = at(scored_article(2), published_at=START, first_seen_at=moment)
    assert Filter(as_of=moment).apply(table([late, known]))["article_id"].to_pylist() == [known.article.article_id]


def test_what_was_received_late_does_not_count_before(tmp_path: Path) -> None:
    """A whole crisis that became known three hours later cannot have been warned of when it began."""
    late = [at(one, first_seen_at=one.article.published_at + timedelta(hours=3)) for one in articles()]
    known = fired(log_of(tmp_path / "known", table(late), clock=Clock.KNOWN))
    published = fired(log_of(tmp_path / "published", table(late)))
    moments = [[datetime.fromisoformat(row["at"]) for row in log] for log in (published, known)]
    assert min(moments[1]) - min(moments[0]) >= timedelta(hours=2, minutes=55)


def test_a_killed_replay_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = log_of(tmp_path / "whole")
    for count in (1, 200, 520):
        folder, left = tmp_path / str(count), [count]

        def stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        stopped = replayed(folder, batch=1, stop=stop, save_seconds=0.0)
        assert not stopped.finished
        with stopped.log.open("ab") as log:
            log.write(b"half a li")  # what came after the checkpoint is cut off
        assert log_of(folder) == whole


def test_one_future_date_does_not_make_the_rest_late(tmp_path: Path) -> None:
    stray = at(scored_article(10**6, title="stray"), published_at=START + timedelta(days=400))
    assert log_of(tmp_path / "with", table([*articles(), stray])) == log_of(tmp_path / "without")


def test_a_stray_old_date_costs_neither_time_nor_truth(tmp_path: Path) -> None:
    stray = at(scored_article(10**6, title="stray"), published_at=START - timedelta(days=365 * 40))
    with_it = fired(log_of(tmp_path / "with", table([stray, *articles()])))
    assert [(row["at"], row["topic"]) for row in with_it] == [
        (row["at"], row["topic"]) for row in fired(log_of(tmp_path / "without"))
    ]


@pytest.mark.parametrize("day", ["2024-02-29", "2024-03-31", "2024-10-27", "2024-12-31"])
def test_leap_days_and_clock_changes_change_nothing(tmp_path: Path, day: str) -> None:
    """The same feed on any day gives the same log, moved: event time is UTC."""
    shift = datetime.fromisoformat(f"{day}T00:00:00+00:00") - START
    shift -= timedelta(days=((START + shift).weekday() - START.weekday()) % 7)  # weekdays matter, dates do not
    moved = [at(one, published_at=one.article.published_at + shift, first_seen_at=one.article.first_seen_at + shift)
             for one in articles()]  # fmt: skip
    plain = read_log(replayed(tmp_path / "plain").log)
    other = read_log(replayed(tmp_path / "moved", table(moved)).log)
    back = [{**row, "at": (datetime.fromisoformat(row["at"]) - shift).strftime("%Y-%m-%dT%H:%M:%SZ")} for row in other]
    assert back == plain


def test_no_minute_is_told_in_parts(tmp_path: Path) -> None:
    """Each minute is evaluated once, whole: ticks after every article never move it by a part of a minute."""
    marks: list[datetime] = []
    ledger = Ledger()
    one = track(ledger, "r", load_rules(), LATE, lambda alert: None)
    replayer = Replayer(ledger, [one], batch=1, after=lambda: marks.append(one.store.state.evaluated_to)
                        if one.store.state else None)  # fmt: skip
    replayer.play(_staged(tmp_path, table(articles()[:200])).read())
    assert all(mark.second == 0 and mark + MINUTE + LATE <= (ledger.watermark.event_time or mark) for mark in marks)
    assert marks == sorted(marks)
    assert len(set(marks)) > 50


def test_speed_is_event_time_over_clock_time(tmp_path: Path) -> None:
    clock = Simulated()
    outcome = replayed(tmp_path, pace=clock.pace(60.0))
    assert outcome.first is not None
    assert outcome.last is not None
    assert abs(clock.now - (outcome.last - outcome.first).total_seconds() / 60.0) < 1.0


def test_memory_does_not_grow_with_the_length() -> None:
    made = made_feed(3_000, 50, crises=0)
    ledger, sizes = Ledger(), []
    one = track(ledger, "r", load_rules(), LATE, lambda alert: None)
    replayer = Replayer(ledger, [one], after=lambda: sizes.append(
        sum(len(cells.flat()[0]) for cells in ledger._fine.values()) + sum(map(len, ledger._mentions.values()))
    ))  # fmt: skip
    whole = made.table.append_column("event_at", made.table["published_at"])
    replayer.play([whole])
    assert max(sizes[len(sizes) // 2 :]) < 1.5 * max(sizes[: len(sizes) // 2])
    assert len(ledger._coarse) < 24 * 40


def test_stretches_are_joined_where_they_agree() -> None:
    """Two stretches cut anywhere give the transitions of one pass."""
    made = made_feed(4_000, 14, crises=2, seed=3)
    rules = load_rules()
    whole = made.table.append_column("event_at", made.table["published_at"])

    def part(since: datetime | None, until: datetime | None) -> Part:
        ledger, alerts, marks = Ledger(), [], {}
        one = track(ledger, "r", rules, LATE, alerts.append)
        low = 0 if since is None else int((whole["event_at"].cast(pa.int64()).to_numpy() < _micros(since)).sum())
        high = (
            len(whole) if until is None else int((whole["event_at"].cast(pa.int64()).to_numpy() < _micros(until)).sum())
        )
        if since is not None:
            from crosswind.stream.domain.memory import Memory
            from crosswind.stream.service.alerting import Progress

            ledger.take(whole.slice(0, low))
            one.store.state = Progress(since - MINUTE, Memory())
        Replayer(ledger, [one], after=lambda: marks.update({one.store.state.evaluated_to: one.store.state.memory})
                 if one.store.state else None).play([whole.slice(low, high - low)])  # fmt: skip
        return Part(alerts, marks, one.store.state.evaluated_to if one.store.state else None)

    single = part(None, None)
    onset = made.events[1].onset + timedelta(minutes=40)
    for edge in (onset, datetime(2025, 1, 16, tzinfo=UTC)):
        edge = edge.replace(minute=0, second=0, microsecond=0)
        joined = join([part(None, edge + timedelta(days=3)), part(edge, None)], rules)
        assert joined is not None
        assert joined[0] == single.alerts != []
        assert joined[1] == single.evaluated_to


def test_stretches_that_do_not_meet_are_told() -> None:
    assert join([Part([], {}, None), Part([], {}, None)], load_rules()) is None


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def test_a_record_without_its_columns_says_which_are_missing() -> None:
    with pytest.raises(DataError, match="sentiment"):
        normalise(pa.table({"published_at": ["2026-03-02T00:00:00Z"], "topic": ["credit"]}))


def test_times_without_a_zone_are_refused() -> None:
    column = pa.array([datetime(2026, 3, 2)], pa.timestamp("us"))
    with pytest.raises(DataError, match="time zone"):
        normalise(pa.table({"published_at": column, "topic": ["credit"], "sentiment": ["negative"]}))


@pytest.mark.parametrize(("feed", "options", "said"), [
    ("old.jsonl", {"scores": "abcd"}, "--scores"),
    ("kafka:news.raw", {"scores": "abcd"}, "--scores"),
    ("store:live", {"first": "2026-03-02T00:00:00Z"}, "--from and --to"),
    ("old.jsonl", {"to": "17"}, "--from and --to"),
])  # fmt: skip
def test_options_that_a_feed_would_not_heed_are_refused(feed: str, options: dict[str, str], said: str) -> None:
    none: dict[str, str | None] = {"scores": None, "first": None, "to": None}
    with pytest.raises(SettingsError, match=said):
        check_options(feed, **(none | options))
    for heeds, some in (("store", {"scores": "abcd"}), ("store:old", {"scores": "abcd"}), ("kafka:t", {"to": "17"})):
        check_options(heeds, **(none | some))


def test_rows_with_an_unknown_sentiment_are_counted_as_bad() -> None:
    found, bad = normalise(pa.table({"published_at": ["2026-03-02T00:00:00Z"] * 2, "topic": ["credit", "macro"],
                                     "sentiment": ["negative", "awful"]}))  # fmt: skip
    assert (len(found), bad) == (1, 1)
    assert found.schema.equals(table_of([]).schema)


NEEDED = {"published_at": "2026-03-02T00:00:00Z", "topic": "credit", "sentiment": "negative"}


def _rows_of(path: Path) -> tuple[list[dict[str, Any]], int]:
    source = open_files(str(path), Filter(), Judge(Unscored))
    rows = [row for part in source.tables for row in part.to_pylist()]
    return sorted(rows, key=lambda row: str(row["title"])), source.bad


def test_lines_may_lack_what_others_have(tmp_path: Path) -> None:
    """In any order the lines of a file are the articles that each of them is in a file of its own."""
    full = {**NEEDED, "title": "B", "lang": "de", "entities": ["Nordbank"], "id": "77", "source": "s", "unsure": True,
            "negative_ppm": 700_000, "neutral_ppm": 200_000, "positive_ppm": 100_000, "topic_ppm": 900_000,
            "url": "https://a.example/1", "article_id": "a" * 32, "title_key": "key", "model": "m"}  # fmt: skip
    lines = [{**NEEDED, "title": "A"}, full, {**NEEDED, "title": "C", "id": "78", "body": "c"}]
    alone = []
    for n, line in enumerate(lines):
        (tmp_path / f"{n}.jsonl").write_text(json.dumps(line) + "\n")
        alone += _rows_of(tmp_path / f"{n}.jsonl")[0]
    no_article = {"source": "s", "title": "D", "published_at": NEEDED["published_at"], "topic": None}
    for order in itertools.permutations([*lines, no_article]):
        (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in order))
        assert _rows_of(tmp_path / "all.jsonl") == (alone, 1)
    assert {name: alone[1][name] for name in full if name in SCHEMA.names} == {
        **{name: value for name, value in full.items() if name in SCHEMA.names},
        "published_at": datetime(2026, 3, 2, tzinfo=UTC),
    }
    assert [row["given_id"] for row in alone] == [None, "77", "78"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("size", [None, -9, 0, 1])
def test_the_last_line_needs_no_end(tmp_path: Path, name: str, size: int | None) -> None:
    """Alone in its file, or near the edge of the million bytes that are read at once."""
    line = json.dumps({**NEEDED, "title": "Z"})
    before = "" if size is None else json.dumps({**NEEDED, "title": "A", "body": "#"}) + "\n"
    before = before.replace("#", "x" * (2**20 - len(before) + 1 + (size or 0)))
    pack = gzip.compress if name.endswith(".gz") else bytes
    (tmp_path / name).write_bytes(pack((before + line).encode()))
    rows, bad = _rows_of(tmp_path / name)
    assert ([row["title"] for row in rows][-1], len(rows), bad) == ("Z", 1 + bool(before), 0)


def test_scored_lines_without_a_time_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"topic": "credit", "sentiment": "negative", "title": "A"}))
    with pytest.raises(DataError, match="no column published_at"):
        _rows_of(tmp_path / "a.jsonl")


def test_only_an_empty_cell_is_absent(tmp_path: Path) -> None:
    head = ",".join([*NEEDED, "title", "id", "source"])
    cells = [("nan", "NA", "null"), ("null", "001", "NULL"), ("z", "", "")]
    (tmp_path / "a.csv").write_text("\n".join([head, *(",".join([*NEEDED.values(), *row]) for row in cells)]))
    rows, _ = _rows_of(tmp_path / "a.csv")
    assert [(row["title"], row["given_id"], row["source"]) for row in rows] == [*cells[:2], ("z", None, "")]


def test_watched_entities_are_found_as_a_worker_finds_them(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "watched.yaml").write_text("version: 1\nentities:\n  Deutsche Bank: {de: [DB AG]}\n")
    news = [{"source": "s", "title": "DB AG fails", "lang": lang, "published_at": "2026-01-01T10:00:00Z"}
            for lang in ("de", "en")]  # fmt: skip
    (tmp_path / "news.jsonl").write_text("\n".join(json.dumps(row) for row in news))
    monkeypatch.setenv("CROSSWIND_WATCHLIST", str(tmp_path / "watched.yaml"))
    (found,) = opened(tmp_path / "news.jsonl", Filter(), str(tiny_bundle)).tables
    assert found["entities"].to_pylist() == [["Deutsche Bank"], []]


def test_runs_are_listed_compared_and_deleted(tmp_path: Path) -> None:
    for name, feed in (("one", table()), ("two", table()), ("other", table(articles(8)))):
        outcome = replayed(runs.folder_of(tmp_path, name), feed)
        record = runs.Run(name, "in-process", {"feed": name}, runs.RUNNING, f"2026-01-0{len(name)}T00:00:00Z")
        runs.save_run(tmp_path, runs.finished(record, runs.DONE, outcome.plain()))
    assert {run.run for run in runs.list_runs(tmp_path)} == {"one", "two", "other"}
    assert runs.compare(tmp_path, "one", "two")["equal"]
    assert not runs.compare(tmp_path, "one", "other")["equal"]
    assert runs.delete_run(tmp_path, "one")
    assert runs.load_run(tmp_path, "one") is None
    assert not runs.delete_run(tmp_path, "one")


@pytest.mark.parametrize("name", ["live", "", "../up", "a/b"])
def test_a_run_has_a_harmless_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        runs.folder_of(tmp_path, name)


def test_the_difference_of_two_logs_names_what_fired() -> None:
    row = {"at": "2026-03-02T09:00:00Z", "rule": "r", "topic": "credit", "lang": "*", "entity": "*", "cause": "fired"}
    assert difference([row], [{**row, "cause": "opened"}]) == ([("2026-03-02T09:00:00Z", "r", "credit", "*", "*")], [])


def test_a_plan_is_for_one_process_unless_told() -> None:
    assert Plan("r", load_rules(), Path()).workers == 1


def test_a_stop_also_ends_the_taking_in(tmp_path: Path) -> None:
    feed, taken = table(), list[int]()

    def tables() -> Iterator[pa.Table]:
        for first in (0, 100, 200):
            taken.append(first)
            yield feed.slice(first, 100 if first < 200 else None)

    plan = Plan("test", load_rules(), tmp_path, stop=lambda: len(taken) == 2)
    outcome = replay_in_process(lambda: Source("test", tables()), plan)
    assert (outcome.finished, outcome.articles, taken) == (False, 0, [0, 100])
    assert log_of(tmp_path) == log_of(tmp_path / "at once")
