"""Stories in the running system: what the worker, the alert engine and both ways of replaying make of them."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from crosswind.settings import Settings
from crosswind.stream.adapters.alert_loop import run_alerts, told_and_evaluated, worker_stories
from crosswind.stream.adapters.story_engine import keeps_meanings
from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.contract import Alert
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.engine import Pace
from crosswind.stream.replay.inprocess import Plan
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.removal import delete_rows
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.replay.store import open_store
from crosswind.stream.replay.through import replay_through_kafka, write_log
from crosswind.stream.replay.way import Way
from crosswind.stream.service.alerting import AlertEngine
from crosswind.stream.service.stories import StoryEngine
from tests.integration.alerts.test_alert_loop import FakeApp, FakeTopic, Parts
from tests.integration.alerts.world import END, LATENESS, World
from tests.integration.stories.world import SETTINGS, close, counting_stories, feed, one_story, put, scalar, tick
from tests.unit.alerts.feeds import START
from tests.unit.replay.world import fired, log_of, table

OFF = Settings(_env_file=None, stories=False)
ALL_CLOSED = START + timedelta(hours=END)
MERGED = "SELECT count(*) FROM story WHERE merged_into IS NOT NULL"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The log of the feed, replayed in this process."""
    return log_of(tmp_path_factory.mktemp("expected"), table(feed()), rules=counting_stories())


def test_a_story_told_ninety_times_is_no_surge_and_its_headlines_are(engine: Engine) -> None:
    put(engine, one_story())
    assert [alert for alert in close(engine, ALL_CLOSED) if alert.topic == "credit"] == []
    delete_rows(engine, "live")
    put(engine, one_story())
    assert "firing" in {alert.state for alert in close(engine, ALL_CLOSED, OFF) if alert.topic == "credit"}


def test_a_surge_of_stories_fires_and_its_evidence_is_of_different_stories(engine: Engine) -> None:
    put(engine, feed())
    alerts = [alert for alert in close(engine, ALL_CLOSED) if alert.cause == "fired"]
    assert "credit" in {alert.topic for alert in alerts}
    query = text("SELECT count(DISTINCT joined) FROM story_member WHERE article_id = ANY(:ids)")
    with engine.connect() as connection:
        told = [connection.execute(query, {"ids": alert.evidence}).scalar() for alert in alerts]
    assert told == [len(alert.evidence) for alert in alerts]


def test_nothing_is_evaluated_before_it_has_its_stories(engine: Engine) -> None:
    put(engine, feed())
    stories, alerts = worker_stories(SETTINGS, engine), World(engine, rules=counting_stories).alert_engine()
    assert stories is not None
    World(engine).move_watermark(ALL_CLOSED)
    assert alerts.tick(START + timedelta(hours=2)) == []
    assert scalar(engine, "SELECT evaluated_to FROM engine") == START + timedelta(hours=1, minutes=57)
    with engine.begin() as connection:  # another worker is at it
        connection.execute(text("SELECT pg_advisory_xact_lock(:kind, hashtext('live'))"), {"kind": 0x63777374})
        assert told_and_evaluated(stories, alerts) == []
    assert scalar(engine, "SELECT evaluated_to FROM engine") == START + timedelta(hours=1, minutes=57)


def _late(hour: float) -> list[ScoredArticle]:
    """One event told ninety times within half an hour."""
    told = [one for one in one_story() if "Acme" in one.article.entities]
    times = [START + timedelta(hours=hour, minutes=1 + 0.3 * n) for n in range(len(told))]
    return [replace(one, article=replace(one.article, published_at=at)) for one, at in zip(told, times, strict=True)]


def _worker(engine: Engine) -> tuple[StoryEngine, AlertEngine]:
    """A worker's engines, with all news but those of Acme evaluated up to hour 14."""
    put(engine, [one for one in feed() if "Acme" not in one.article.entities])
    stories, alerts = worker_stories(SETTINGS, engine), World(engine, rules=counting_stories).alert_engine()
    assert stories is not None
    _close(engine, stories, alerts, 0)
    return stories, alerts


def _close(engine: Engine, stories: StoryEngine, alerts: AlertEngine, minutes: int) -> list[Alert]:
    World(engine).move_watermark(START + timedelta(hours=14, minutes=minutes) + LATENESS)
    return [alert for _ in range(3) for alert in told_and_evaluated(stories, alerts)]


@pytest.mark.parametrize("hour", [7.0, 9.0])
def test_what_comes_late_has_its_story_wherever_alerts_look(engine: Engine, hour: float) -> None:
    stories, alerts = _worker(engine)
    put(engine, _late(hour))  # alerts look back to the beginning of hour 7, six hours before 13:59
    assert [one for one in _close(engine, stories, alerts, 1) if one.entity == "Acme"] == []
    assert scalar(engine, "SELECT count(*) FROM story_member") == scalar(engine, "SELECT count(*) FROM article")


@pytest.mark.parametrize("known", [True, False])
def test_what_gets_its_story_after_it_was_evaluated_is_evaluated_anew(engine: Engine, known: bool) -> None:
    stories, alerts = _worker(engine)
    if not known:  # an older version did not keep what has its story
        with engine.begin() as connection:
            connection.execute(text("UPDATE engine SET state = state - 'told'"))
    World(engine).move_watermark(START + timedelta(hours=14, minutes=1) + LATENESS)
    mark = stories.tick()
    put(engine, _late(12))  # another worker stores them between the two
    assert "fired" in {one.cause for one in alerts.tick(mark) if one.entity == "Acme"}
    assert "corrected" in {one.cause for one in _close(engine, stories, alerts, 2) if one.entity == "Acme"}
    assert _close(engine, stories, alerts, 3) == []


def test_an_article_without_meaning_has_no_story(engine: Engine) -> None:
    put(engine, one_story())
    close(engine, ALL_CLOSED)
    given = scalar(engine, "SELECT count(*) FROM story_member")
    assert given == scalar(engine, "SELECT count(*) FROM article_meaning")
    assert given == sum("Acme" in one.article.entities for one in one_story())


class Silent:
    """A model without the output `meaning`."""

    version = provider = "silent"
    score = Unscored.score


def test_without_pgvector_or_meaning_stories_are_off_and_said_so(engine: Engine, capsys: object) -> None:
    assert keeps_meanings(engine, Silent(), True)
    assert not keeps_meanings(engine, Silent(), False)
    assert worker_stories(OFF, engine) is None
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE article_meaning"))
    assert not keeps_meanings(engine, Silent(), True)
    assert worker_stories(SETTINGS, engine) is None
    said = capsys.readouterr()  # type: ignore[attr-defined]
    assert "has no output `meaning`" in said.out + said.err
    assert "no pgvector" in said.out + said.err


def test_the_worker_s_task_gives_stories_before_it_publishes(engine: Engine) -> None:
    put(engine, feed())
    World(engine).move_watermark(ALL_CLOSED + LATENESS)
    topic = FakeTopic()

    async def run() -> None:
        task = asyncio.create_task(run_alerts(Parts(), engine, FakeApp(topic)))  # type: ignore[arg-type]
        deadline = time.monotonic() + 60
        while not any(alert.cause == "fired" for alert in topic.sent):
            assert time.monotonic() < deadline
            assert not task.done()
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert scalar(engine, "SELECT count(*) FROM story_member") == len(feed())


def test_stories_matter_in_a_replay(tmp_path: Path, expected: bytes) -> None:
    plain = log_of(tmp_path, table(feed()), rules=counting_stories(), stories=False)
    assert fired(plain)
    assert fired(expected)
    assert plain != expected


@pytest.mark.parametrize("batch", [1, 50])
def test_batches_do_not_show_in_a_replay(tmp_path: Path, expected: bytes, batch: int) -> None:
    assert log_of(tmp_path, table(feed()), rules=counting_stories(), batch=batch) == expected


def test_live_with_restarts_and_redelivery_is_its_own_replay(engine: Engine, tmp_path: Path) -> None:
    """Out of order within the lateness, everything delivered twice, a fresh worker for every tick."""
    arrived = sorted(
        feed(), key=lambda one: one.article.published_at + timedelta(seconds=int(one.article.article_id, 16) * 37 % 90)
    )
    for first in range(0, len(arrived), 13):
        put(engine, arrived[first : first + 13], lanes=2)
        put(engine, arrived[max(0, first - 20) : first + 5], lanes=2)
        if first % 3 == 0:
            tick(engine)
    World(engine).end_feed(lambda: tick(engine))
    write_log(engine, "live", tmp_path / "live.jsonl")
    live = (tmp_path / "live.jsonl").read_bytes()
    assert fired(live)
    assert scalar(engine, MERGED) != 0
    tables = list(open_store(engine, "live", Filter(), Judge(Unscored)).tables)
    assert log_of(tmp_path / "again", tables[0], rules=counting_stories()) == live


def test_a_replay_through_kafka_is_the_one_in_process(
    broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path, expected: bytes
) -> None:
    stage = Stage(tmp_path / "staged")
    stage.fill([table(feed())], Clock.PUBLISHED, LATENESS, stories=False)
    plan = Plan("told", counting_stories(), tmp_path, Pace(), batch=100)
    settings = {"model": str(tiny_bundle), "session_timeout": "2.0"}
    way = Way(broker, database_url, engine, partitions=1, worker_settings=settings)
    assert replay_through_kafka(stage, plan, way, tmp_path).log.read_bytes() == expected
    assert scalar(engine, MERGED) != 0
    delete_rows(engine, "told")
    assert scalar(engine, "SELECT count(*) FROM story") == 0
