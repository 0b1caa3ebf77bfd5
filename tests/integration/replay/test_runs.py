"""Runs through Kafka leave live alone: topics, rows and records of their own; and the command line over all of it."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from sqlalchemy import Engine, text

from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.postgres import runs
from crosswind.stream.adapters.postgres.retention import sweep
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.retention_loop import policy_of
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.domain.retention import Policy, Swept
from crosswind.stream.replay.removal import TABLES, delete_rows, delete_topics
from crosswind.stream.replay.way import Way, settings_of
from tests.builders import scored_article
from tests.integration.alerts.world import World, short_feed
from tests.processes import wait_for
from tests.unit.replay.world import table

ROOT = Path(__file__).parents[3]


def test_a_replays_topics_keep_back_dated_records(kafka: str, engine: Engine, tmp_path: Path) -> None:
    """By time a broker deletes what is older than a week by the record's own date, silently."""
    settings = settings_of("kept", Way(kafka, "postgresql://nobody@localhost/none", engine, partitions=2), tmp_path)
    ensure_topics(settings, kafka)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    names = [settings.raw_topic, settings.scored_topic, settings.dead_topic, settings.alerts_topic]
    assert all(name.startswith("replay.kept.") for name in names)

    def kept_for() -> set[str | None]:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
        (topics,) = found.values()
        return {topics[name].get("retention.ms", {}).get("value") for name in names}

    wait_for(lambda: None not in kept_for(), 20, "the broker tells of every topic's settings")  # a new one's come later
    assert kept_for() == {"-1"}
    admin.close()
    assert delete_topics(kafka, "kept", settings) == sorted(names)


def test_deleting_a_run_leaves_the_others(engine: Engine) -> None:
    live, replay = World(engine), World(engine, "replay-1")
    for world in (live, replay):
        world.ingest(short_feed()[:50])
    before = live.rows("SELECT count(*) FROM bucket WHERE run = :run")
    assert delete_rows(engine, "replay-1") == 50
    for name in ("article", "bucket", "bucket_hour", "watermark"):
        assert replay.rows(f"SELECT 1 FROM {name} WHERE run = :run") == []
    assert live.rows("SELECT count(*) FROM bucket WHERE run = :run") == before


def test_deleting_a_run_leaves_no_table_out(engine: Engine) -> None:
    with engine.connect() as connection:
        found = connection.execute(text(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'run'"
        )).scalars()  # fmt: skip
        assert set(found) - {"subscription"} == set(TABLES)


def test_a_deleted_run_can_be_run_again(engine: Engine) -> None:
    """What a sweep dropped of it is taken in anew."""
    feed = [scored_article(n, minutes=n * 1440, title=f"Bank {n} fails") for n in range(20)]
    store, replay = PostgresTrendStore(engine), World(engine, "again")
    deliveries = [Delivery(one, 0) for one in feed]
    store.ingest("again", deliveries)
    replay.alert_engine().tick()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO engine (run, evaluated_to, state) VALUES ('again', :at, '{}')"
                                " ON CONFLICT (run) DO UPDATE SET evaluated_to = excluded.evaluated_to"),
                           {"at": feed[-1].article.published_at})  # fmt: skip
    assert sweep(engine, "again", Policy.of_days(8, None)) == Swept(articles=11)
    assert delete_rows(engine, "again") == 9
    store.ingest("again", deliveries)
    assert replay.rows("SELECT count(*) FROM article WHERE run = :run") == [(20,)]


def test_the_worker_of_a_replay_drops_nothing(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = Way("127.0.0.1:1", "postgresql://nobody@localhost/none", engine)
    assert not policy_of(settings_of("kept", way, tmp_path))
    monkeypatch.setenv("CROSSWIND_KEEP_ARTICLES_DAYS", "8")
    monkeypatch.setenv("CROSSWIND_KEEP_MINUTES_DAYS", "30")
    horizons = policy_of(settings_of("kept", way, tmp_path)).horizons(datetime(2026, 1, 1, tzinfo=UTC))
    assert horizons.articles == horizons.minutes == datetime(1926, 1, 26, tzinfo=UTC)


def test_runs_and_backtests_are_kept(engine: Engine) -> None:
    runs.save_run(engine, "one", "running", {"feed": "x"}, {})
    runs.save_run(engine, "one", "done", {"feed": "x"}, {"fired": 2})
    (kept,) = runs.kept_runs(engine)
    assert (kept.run, kept.state, kept.found) == ("one", "done", {"fired": 2})
    runs.save_backtest(engine, "b", "first", {"f1": 1.0}, "<p>first</p>")
    runs.save_backtest(engine, "b", "second", {"f1": 0.5}, "<p>second</p>")
    (found,) = runs.kept_backtests(engine)
    assert (found.title, found.summary) == ("second", {"f1": 0.5})
    assert runs.report_of(engine, "b") == "<p>second</p>"
    assert runs.report_of(engine, "none") is None


def _crosswind(folder: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    command = [sys.executable, "-m", "crosswind", *arguments]
    environment |= {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout


def test_the_command_line_replays_lists_compares_and_deletes(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "feed.parquet")
    said = [json.loads(_crosswind(tmp_path, "replay", "feed.parquet", "--run", name, "--json")) for name in ("a", "b")]
    assert said[0]["sha256"] == said[1]["sha256"]
    assert (said[0]["fired"], said[0]["articles"]) == (2, len(table()))
    listed = json.loads(_crosswind(tmp_path, "runs", "list", "--json"))
    assert [(run["run"], run["state"]) for run in listed] == [("a", "done"), ("b", "done")]
    assert "equal" in _crosswind(tmp_path, "runs", "compare", "a", "b")
    _crosswind(tmp_path, "runs", "delete", "a")
    _crosswind(tmp_path, "runs", "show", "a", status=3)
    _crosswind(tmp_path, "replay", "feed.parquet", "--run", "b", status=2)


def test_where_a_key_is_trusted_no_other_bundle_scores(tmp_path: Path, tiny_bundle: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    news = {"source": "s", "title": "Bank fails", "published_at": "2026-01-01T10:00:00Z", "lang": "en"}
    (tmp_path / "news.jsonl").write_text(json.dumps(news))
    (tmp_path / "rows.csv").write_text("text,lang,sentiment\nBank fails,en,negative\n")
    _crosswind(tmp_path, "bundle", "keygen", "key")

    def attempt(status: int) -> None:
        given = {"status": status, "CROSSWIND_TRUSTED_KEY": "key.pub"}
        _crosswind(tmp_path, "replay", "news.jsonl", "--run", f"own-{status}", "--model", "bundle", **given)
        _crosswind(tmp_path, "replay", "news.jsonl", "--run", f"set-{status}", CROSSWIND_MODEL="bundle", **given)
        _crosswind(tmp_path, "evaluate", "--bundle", "bundle", "--data", "rows.csv", **given)

    attempt(4)
    _crosswind(tmp_path, "bundle", "sign", "bundle", "--key", "key")
    attempt(0)


@pytest.mark.parametrize("table_name", ["replay_run", "backtest"])
def test_the_migration_makes_the_tables(engine: Engine, table_name: str) -> None:
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table_name}")).scalar_one() == 0


def test_alerts_go_to_the_runs_own_topic_or_to_the_live_one(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSWIND_ALERTS_TOPIC", "desk.alerts")
    nowhere = ("127.0.0.1:1", "postgresql://nobody@localhost/none", engine)
    assert settings_of("kept", Way(*nowhere), tmp_path).alerts_topic == "replay.kept.alerts"
    assert settings_of("kept", Way(*nowhere, notify=True), tmp_path).alerts_topic == "desk.alerts"
