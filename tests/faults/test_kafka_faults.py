"""Two workers on Apache Kafka, four partitions, and what befalls them: every article still counts exactly once."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.domain.contract import decode_scored
from tests.faults.stage import Stage, offsets
from tests.kafka_server import KafkaServer
from tests.oracle import dead_letters, make_feed, origins, records

pytestmark = pytest.mark.timeout(900)
SMALL, LARGE = make_feed(1200), make_feed(10_000)
Setter = Callable[..., Stage]


@pytest.fixture
def stages(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path
) -> Iterator[Setter]:
    """Makes a stage with two workers running, and ends them afterwards."""
    made: list[Stage] = []

    def make(kafka: str, url: str, engine: Engine, **options: object) -> Stage:
        name = request.node.name.replace("[", "-").replace("]", "")
        stage = Stage(name, kafka, url, engine, tiny_bundle, tmp_path, **{"feed": SMALL, **options})  # type: ignore[arg-type]
        made.append(stage)
        stage.open()
        return stage

    yield make
    for stage in made:
        for worker in stage.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()


def _everything(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    tables = {"article": "article_id", "bucket": "minute, topic, lang, entity",
              "duplicate": "origin_topic, origin_partition, origin_offset"}  # fmt: skip
    with engine.connect() as connection:
        return {name: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY {key}"))]
                for name, key in tables.items()}  # fmt: skip


def _committed_is_durable(stage: Stage) -> None:
    """No committed offset runs ahead: of the database, or, for `news.raw`, of `news.scored` and `news.dead`."""
    settings = stage.settings
    committed, _ = offsets(stage.kafka, (settings.raw_topic, settings.scored_topic), stage.name)
    durable = {*origins(stage.engine, "article"), *origins(stage.engine, "duplicate")}
    published = {letter.origin for letter in dead_letters(stage.kafka, settings.dead_topic, None)}
    for record in records(stage.kafka, settings.scored_topic, None):
        origin = decode_scored(record.value).article.origin
        published.add(origin)
        if record.offset < committed.get(TopicPartition(record.topic, record.partition), 0):
            assert origin in durable, f"{record.topic}-{record.partition}:{record.offset} is committed, not stored"
    for origin in stage.sent:
        if origin.offset < committed.get(TopicPartition(origin.topic, origin.partition), 0):
            assert origin in published, f"{origin} is committed, not published"


def test_a_worker_is_killed_again_and_again(kafka: str, database_url: str, engine: Engine, stages: Setter) -> None:
    _kill_workers(stages(kafka, database_url, engine), kills=3)


@pytest.mark.full
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
        _committed_is_durable(stage)
        stage.start(victim)
    stage.drain()
    assert stage.ended() == []
    assert stage.stop() == [0, 0]
    stage.check()


def test_the_broker_is_killed(own_kafka: KafkaServer, database_url: str, engine: Engine, stages: Setter) -> None:
    _kill_broker(stages(own_kafka.address, database_url, engine), own_kafka, kills=2, away=3)


@pytest.mark.full
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


def test_postgres_is_away_for_ten_seconds(kafka: str, tmp_path: Path, stages: Setter) -> None:
    _stop_postgres(kafka, tmp_path, stages, 10)


@pytest.mark.full
def test_postgres_is_away_for_a_minute(kafka: str, tmp_path: Path, stages: Setter) -> None:
    _stop_postgres(kafka, tmp_path, stages, 60)


def _stop_postgres(kafka: str, folder: Path, stages: Setter, away: float) -> None:
    server = EmbeddedPostgres(folder / "postgres")
    url = server.start()
    engine = connect(url)
    try:
        migrate(engine)
        stage = stages(kafka, url, engine)
        stage.play(2)
        stage.wait_for_progress(200)
        server.stop()
        stage.play()
        time.sleep(away)  # the outage
        assert server.start() == url
        stage.drain()
        assert stage.ended() == [], "no worker needs a restart by hand"
        assert stage.stop() == [0, 0]
        stage.check()
    finally:
        engine.dispose()
        server.stop()


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
        assert stage.workers[leaver].wait(10) == 0
        _committed_is_durable(stage)
        stage.start(leaver)
    stage.drain()
    assert stage.stop() == [0, 0]
    stage.check()
