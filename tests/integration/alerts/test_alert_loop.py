"""The alert task: publishes each transition at least once, in order, and the cursor only after confirmation."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import faust
import msgspec
import pytest
import structlog
from aiokafka.errors import KafkaError
from kafka import KafkaConsumer
from sqlalchemy import Engine

from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.alert_loop import INTERVAL, LONGEST_PAUSE, _Outage, add_alert_task, run_alerts
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.alerts import last_seq, transitions_after
from crosswind.stream.adapters.tracing import Tracing
from crosswind.stream.domain.contract import Alert
from tests.integration.alerts.world import END, World, short_feed


@dataclass(frozen=True)
class Parts:
    settings: Settings = field(default_factory=lambda: Settings(_env_file=None))
    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing | None = None


class FakeTopic:
    """Confirms what it is sent; the first `failures` sends fail."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[Alert] = []
        self.keys: list[bytes] = []
        self._failures = failures

    async def send(self, *, key: bytes, value: bytes, headers: object = None) -> "asyncio.Future[None]":
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.keys.append(key)
        self.sent.append(msgspec.json.decode(value, type=Alert))
        if self._failures:
            self._failures -= 1
            confirmed.set_exception(KafkaError("away"))
        else:
            confirmed.set_result(None)
        return confirmed


@dataclass(frozen=True)
class FakeApp:
    fake: FakeTopic

    def topic(self, name: str) -> FakeTopic:
        assert name == "alerts"
        return self.fake


@pytest.fixture
def world(engine: Engine) -> World:
    world = World(engine)
    world.ingest(short_feed())
    return world


async def _run_until(topic: FakeTopic, world: World, parts: Parts, sends: int) -> None:
    task = asyncio.create_task(run_alerts(parts, world.engine, FakeApp(topic)))
    deadline = time.monotonic() + 20
    while not (len(topic.sent) >= sends and _published(world) == last_seq(world.engine, "live")):
        assert time.monotonic() < deadline
        assert not task.done()
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _published(world: World) -> object:
    return world.rows("SELECT coalesce(max(CAST(state ->> 'published_seq' AS int)), 0) FROM engine")[0][0]


def test_every_transition_is_published_once_and_in_order(world: World) -> None:
    alerts, topic, parts = world.tick_at(END), FakeTopic(), Parts()
    asyncio.run(_run_until(topic, world, parts, len(alerts)))
    assert topic.sent == alerts
    assert topic.keys == [alert.incident_id.encode() for alert in alerts]


def test_the_task_evaluates_and_counts(world: World) -> None:
    topic, parts = FakeTopic(), Parts()
    asyncio.run(_run_until(topic, world, parts, 2))
    assert topic.sent == transitions_after(world.engine, "live", 0, 1000)
    firing = parts.metrics.registry.get_sample_value("crosswind_alert_transitions_total", {"state": "firing"})
    assert firing == sum(alert.state == "firing" for alert in topic.sent) == 3  # two fire, one of them escalates


def test_what_the_broker_refused_is_sent_again(world: World) -> None:
    alerts, topic = world.tick_at(END), FakeTopic(failures=1)
    asyncio.run(_run_until(topic, world, Parts(), 2 * len(alerts)))
    assert topic.sent == alerts + alerts


def test_a_database_that_is_away_is_waited_for(world: World) -> None:
    parts, topic = Parts(), FakeTopic()
    world.execute("ALTER TABLE transition RENAME TO gone")

    async def break_and_mend() -> None:
        task = asyncio.create_task(run_alerts(parts, world.engine, FakeApp(topic)))
        deadline = time.monotonic() + 20
        while not parts.metrics.registry.get_sample_value("crosswind_retries_total", {"what": "database"}):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        world.execute("ALTER TABLE gone RENAME TO transition")

    asyncio.run(break_and_mend())
    asyncio.run(_run_until(topic, world, parts, 1))
    assert topic.sent == transitions_after(world.engine, "live", 0, 1000)


def test_an_outage_is_said_once_and_asked_about_ever_more_rarely() -> None:
    metrics, pauses = Metrics(), []
    outage = _Outage(metrics)
    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            outage.of("database", KafkaError("away"))
            pauses.append(outage.pause)
        outage.over()
    said = [entry["event"] for entry in logs]
    assert said == ["alerts wait for the database", "alerts no longer wait for the database"]
    assert pauses[:2] == [2 * INTERVAL, 4 * INTERVAL]
    assert pauses[-1] == LONGEST_PAUSE
    assert outage.pause == INTERVAL
    assert metrics.registry.get_sample_value("crosswind_retries_total", {"what": "database"}) == 20


def test_a_rule_file_that_cannot_be_used_stops_the_start(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("version: 1\nrules: []\n", "utf-8")
    parts = Parts(Settings(_env_file=None, rules=tmp_path / "rules.yaml"))
    with pytest.raises(SettingsError, match="not a rule file"):
        add_alert_task(faust.App("unused", broker="kafka://127.0.0.1:1"), parts, engine)


def test_alerts_reach_a_real_broker(world: World, broker: str) -> None:
    alerts, parts = world.tick_at(END), Parts()
    ensure_topics(parts.settings, broker)
    app = faust.App("alerts-test", broker=f"kafka://{broker}", store="memory://", key_serializer="raw",
                    value_serializer="raw", web_enabled=False, topic_allow_declare=False, topic_disable_leader=True,
                    producer_acks=-1, broker_session_timeout=2.0, broker_heartbeat_interval=0.5)  # fmt: skip
    add_alert_task(app, parts, world.engine)

    @app.agent(app.topic(parts.settings.raw_topic))  # Faust runs no app that reads nothing
    async def idle(stream: faust.types.StreamT[bytes]) -> None:
        async for _ in stream:
            pass

    async def run() -> None:
        await app.start()
        deadline = time.monotonic() + 40
        while _published(world) != len(alerts):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await app.stop()

    asyncio.run(run())
    consumer = KafkaConsumer("alerts", bootstrap_servers=broker, auto_offset_reset="earliest", consumer_timeout_ms=8000,
                             group_id=None)  # fmt: skip
    found = []
    for record in consumer:
        found.append(msgspec.json.decode(record.value, type=Alert))
        if len(found) == len(alerts):
            break
    consumer.close()
    assert sorted(found, key=lambda alert: alert.seq) == alerts
