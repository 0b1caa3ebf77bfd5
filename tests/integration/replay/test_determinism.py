"""The determinism matrix: one feed, many ways to replay it, one alert log, byte for byte."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.engine import Pace
from crosswind.stream.replay.files import open_files
from crosswind.stream.replay.inprocess import Plan, replay_in_process
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.replay.store import open_store
from crosswind.stream.replay.through import replay_through_kafka, write_log
from crosswind.stream.replay.way import Way
from crosswind.stream.replay.worker import RunWorker
from crosswind.stream.service.rules import load_rules
from tests.integration.alerts.world import LATENESS, World
from tests.processes import wait_for
from tests.unit.replay.world import Simulated, articles, at, fired, log_of, table


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    log = log_of(tmp_path_factory.mktemp("expected"))
    assert [row["topic"] for row in fired(log)] == ["*", "credit"]
    return log


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"pace": Simulated().pace(1.0)}, id="1x"),
        pytest.param({"pace": Simulated().pace(100.0)}, id="100x"),
        pytest.param({"batch": 1}, id="batches of 1"),
        pytest.param({"batch": 256}, id="batches of 256"),
        pytest.param({"batch": 7, "pace": Simulated().pace(3600.0)}, id="batches of 7 at 3600x"),
        pytest.param({"clock": Clock.KNOWN}, id="nothing was received late"),
    ],
)
def test_in_process(tmp_path: Path, expected: bytes, options: dict[str, Any]) -> None:
    assert log_of(tmp_path, **options) == expected


_REPLAY = """
import sys, time
from pathlib import Path
from tests.unit.replay.world import replayed
from crosswind.stream.replay import engine
save = engine.LogFile.save
def slow(self, store, *, force=False):
    save(self, store, force=True)
    print("saved", flush=True)
    time.sleep(float(sys.argv[2]))
engine.LogFile.save = slow
print(replayed(Path(sys.argv[1]), batch=25).sha256, flush=True)
"""


@pytest.mark.parametrize("saves", [1, 9, 16])
def test_killed_in_the_middle(tmp_path: Path, expected: bytes, saves: int) -> None:
    command = [sys.executable, "-c", _REPLAY, str(tmp_path), "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        for _ in range(saves):
            assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "alerts.jsonl").read_bytes() != expected
    assert log_of(tmp_path) == expected


@dataclass(frozen=True)
class Kafka:
    """Broker, database and model of a replay through the agents."""

    address: str
    database_url: str
    engine: Engine
    bundle: Path
    folder: Path

    def log(
        self, partitions: int, batch: int = 0, on_step: Callable[[int], None] = lambda n: None,
        clock: Clock = Clock.PUBLISHED, feed: pa.Table | None = None,
    ) -> bytes:  # fmt: skip
        stage = Stage(self.folder / "staged")
        if not stage.whole:
            stage.fill([table() if feed is None else feed], clock, LATENESS)
        run = f"matrix-{partitions}-{batch}-{clock}"
        plan = Plan(run, load_rules(), self.folder, Pace(), clock=clock, batch=batch, progress=on_step)
        settings = {"model": str(self.bundle), "session_timeout": "2.0"}
        way = Way(self.address, self.database_url, self.engine, partitions=partitions, worker_settings=settings)
        return replay_through_kafka(stage, plan, way, self.folder).log.read_bytes()


@pytest.fixture
def embedded(broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path) -> Kafka:
    return Kafka(broker, database_url, engine, tiny_bundle, tmp_path)


@pytest.fixture
def apache(kafka: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path) -> Kafka:
    return Kafka(kafka, database_url, engine, tiny_bundle, tmp_path)


def test_through_the_embedded_broker(embedded: Kafka, expected: bytes) -> None:
    assert embedded.log(1) == expected


@pytest.mark.parametrize("clock", Clock)
def test_a_replay_through_kafka_is_the_one_in_process(embedded: Kafka, tmp_path: Path, clock: Clock) -> None:
    """What tells of the crisis was received hours late."""
    late = timedelta(hours=8)
    feed = table([at(one, first_seen_at=one.article.first_seen_at + late * (one.score.topic == "credit"))
                  for one in articles()])  # fmt: skip
    here = log_of(tmp_path / "here", feed, clock=clock)
    assert embedded.log(1, clock=clock, feed=feed) == here
    hours = {row["at"][11:13] for row in fired(here) if row["topic"] == "credit"}
    assert hours == ({"09"} if clock is Clock.PUBLISHED else {"17"})


@pytest.mark.parametrize("partitions", [4, pytest.param(8, marks=pytest.mark.full)])
def test_through_apache_kafka(apache: Kafka, expected: bytes, partitions: int) -> None:
    assert apache.log(partitions, batch=256) == expected


def test_a_worker_that_is_killed_is_replaced(embedded: Kafka, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[RunWorker] = []
    ensure = RunWorker.ensure

    def noting(self: RunWorker) -> None:
        ensure(self)
        workers.append(self)

    monkeypatch.setattr(RunWorker, "ensure", noting)
    killed: list[int] = []

    def kill(done: int) -> None:
        pid = workers[-1].pid
        if not killed and pid is not None:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            wait_for(lambda: workers[-1].pid is None, 10, "the worker is gone")

    assert embedded.log(1, batch=256, on_step=kill) == expected
    assert killed


def test_live_and_the_replay_of_what_it_saw(engine: Engine, tmp_path: Path) -> None:
    """Articles that arrive out of order, within the lateness, in two partitions; live ticks whenever it likes."""
    feed = articles()
    arrived = sorted(
        feed, key=lambda one: one.article.published_at + timedelta(seconds=int(one.article.article_id, 16) * 37 % 90)
    )
    world, store = World(engine), PostgresTrendStore(engine)
    for first in range(0, len(arrived), 13):
        batch = arrived[first : first + 13]
        store.ingest("live", [Delivery(one, int(one.article.article_id, 16) % 2) for one in batch])
        if first % 3 == 0:
            world.alert_engine().tick()
    world.end_feed()
    write_log(engine, "live", tmp_path / "live.jsonl")
    source = open_store(engine, "live", Filter(), _no_judge())
    plan = Plan("again", load_rules(), tmp_path / "replay")
    live = (tmp_path / "live.jsonl").read_bytes()
    assert replay_in_process(lambda: source, plan).log.read_bytes() == live
    assert len(fired(live)) == 2


def test_the_kind_of_file_does_not_matter(tmp_path: Path, expected: bytes) -> None:
    for number, part in enumerate(_halves()):
        pq.write_table(part, tmp_path / f"part-{number}.parquet")
    plan = Plan("files", load_rules(), tmp_path / "run")
    assert (
        replay_in_process(lambda: open_files(str(tmp_path), Filter(), _no_judge()), plan).log.read_bytes() == expected
    )


def _halves() -> Iterator[Any]:
    whole = table()
    yield whole.slice(300)
    yield whole.slice(0, 310)  # ten articles twice


def _no_judge() -> Any:
    from crosswind.stream.replay.judging import Judge, Unscored

    return Judge(Unscored)
