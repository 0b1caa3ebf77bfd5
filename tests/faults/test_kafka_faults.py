"""Two workers on Apache Kafka, four partitions, and what befalls them: every article still counts exactly once."""

import random
import time

import pytest
from sqlalchemy import Engine, text

from tests.faults.stage import Setter, Stage
from tests.kafka_server import KafkaServer
from tests.oracle import make_feed
from tests.processes import left

pytestmark = pytest.mark.timeout(900)
LARGE = make_feed(10_000)


def _everything(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    tables = {"article": "article_id", "bucket": "minute, topic, lang, entity",
              "duplicate": "origin_topic, origin_partition, origin_offset"}  # fmt: skip
    with engine.connect() as connection:
        return {name: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY {key}"))]
                for name, key in tables.items()}  # fmt: skip


def test_a_worker_is_killed_again_and_again(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    _kill_workers(stages(kafka, database_url, engine), kills=3)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_worker_is_killed_thirty_times(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    _kill_workers(stages(kafka, database_url, engine, feed=LARGE), kills=30)


def _kill_workers(stage: Stage, kills: int) -> None:
    rng = random.Random(11)
    for _ in range(kills):
        stage.wait_until_shared()
        stage.play(kills)
        stage.wait_for_progress(rng.randint(1, stage.feed.articles // kills // 3))
        time.sleep(rng.uniform(0.1, 1.0))  # the moment of the kill is what is tried here
        victim = rng.randrange(2)
        stage.kill(victim)
        stage.check_offsets()
        stage.start(victim)
    stage.drain()
    assert stage.ended() == []
    assert stage.stop() == [0, 0]
    stage.check()


def test_the_broker_is_killed(own_kafka: KafkaServer, database_url: str, engine: Engine, stages: Setter) -> None:
    _kill_broker(stages(own_kafka.address, database_url, engine), own_kafka, kills=2, away=3)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_broker_is_killed_five_times_and_stopped_for_thirty_seconds(
    own_kafka: KafkaServer, database_url: str, engine: Engine, stages: Setter
) -> None:
    stage = stages(own_kafka.address, database_url, engine, feed=LARGE)
    stage.play(6)
    stage.wait_for_progress(200)
    own_kafka.stop()
    time.sleep(30)  # the outage
    own_kafka.start()
    _kill_broker(stage, own_kafka, kills=5, away=3)


def _kill_broker(stage: Stage, server: KafkaServer, kills: int, away: float) -> None:
    for _ in range(kills):
        stage.play(kills + 1)
        stage.wait_for_progress(stage.feed.articles // kills // 4)
        server.kill()
        time.sleep(away)  # the outage
        server.start()
    stage.play()
    stage.drain()
    assert stage.ended() == [], "no worker needs a restart by hand"
    assert stage.stop() == [0, 0]
    stage.check()


def test_a_replay_of_the_topic_changes_nothing(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    stage = stages(kafka, database_url, engine, pause=0.0)
    stage.play()
    stage.drain()
    assert stage.stop() == [0, 0]
    before = _everything(engine)
    stage.start(0, group="again")
    stage.start(1, group="again")
    stage.drain("again")
    assert stage.stop() == [0, 0]
    assert _everything(engine) == before
    stage.check()


def test_sigterm_leaves_within_ten_seconds(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    _terminate(stages(kafka, database_url, engine), times=3)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_sigterm_twenty_times(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    _terminate(stages(kafka, database_url, engine, feed=LARGE), times=20)


def _terminate(stage: Stage, times: int) -> None:
    rng = random.Random(5)
    for _ in range(times):
        stage.wait_until_shared()
        stage.play(times)
        stage.wait_for_progress(rng.randint(1, stage.feed.articles // times // 3))
        leaver = rng.randrange(2)
        stage.workers[leaver].terminate()
        assert left(stage.workers[leaver]) == 0
        stage.check_offsets()
        stage.start(leaver)
    stage.drain()
    assert stage.stop() == [0, 0]
    stage.check()


def test_a_worker_joins_and_leaves(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    """Also the trap that some versions of Faust fell over in a rebalance without the tracing package."""
    _join_and_leave(stages(kafka, database_url, engine, pause=0.3, partitions=6), times=2)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_worker_joins_and_leaves_twenty_times(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    _join_and_leave(stages(kafka, database_url, engine, feed=LARGE, partitions=6), times=20)


def _join_and_leave(stage: Stage, times: int) -> None:
    """With six partitions: of four, Faust's assignor leaves two workers two each, and a third none."""
    for _ in range(times):
        stage.wait_until_shared()
        stage.play(times)
        stage.start(2)
        stage.wait_until_shared()
        stage.workers[2].terminate()
        assert left(stage.workers.pop()) == 0
        stage.ports.pop()
    stage.drain()
    assert stage.ended() == []
    assert stage.stop() == [0, 0]
    stage.check()
    for number in range(2):
        log = (stage.folder / f"worker-{number}" / "worker.log").read_text("utf-8")
        assert "Traceback" not in log, log[-2000:]
