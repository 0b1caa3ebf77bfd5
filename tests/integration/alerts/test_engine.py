"""The alert engine on a real Postgres."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres.alerts import (
    PostgresAlertStore,
    last_seq,
    transitions_after,
    unpublished,
)
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.series import MINUTE, Series
from crosswind.stream.domain.watch import NO_DATA, RUN
from crosswind.stream.service.alerting import AlertUnit
from crosswind.stream.service.rules import load_rules
from tests.integration.alerts.world import END, LATENESS, ONSET, World, short_feed
from tests.unit.alerts.feeds import START, transitions

_runs = itertools.count()


@pytest.fixture
def world(engine: Engine) -> World:
    world = World(engine)
    world.ingest(short_feed())
    return world


def _plain(alerts: list[Alert]) -> list[dict[str, object]]:
    return [{**msgspec.to_builtins(alert), "run": "", "incident_id": "", "group": ""} for alert in alerts]


def test_a_bank_run_fires_once_and_resolves(world: World) -> None:
    alerts = world.tick_at(END)
    credit = [alert for alert in alerts if alert.topic == "credit"]
    assert [alert.cause for alert in credit] == ["opened", "fired", "escalated", "resolved"]
    assert timedelta(0) < credit[1].at - (START + timedelta(hours=ONSET)) <= timedelta(minutes=30)
    assert {alert.entity for alert in alerts} == {"*", "Acme"}
    assert [alert.seq for alert in alerts] == list(range(1, len(alerts) + 1))


def test_postgres_finds_what_the_pure_walk_finds(world: World) -> None:
    found = [(alert.at, alert.topic, alert.entity, alert.state, alert.p_value) for alert in world.tick_at(END)]
    pure = [
        (change.at, change.incident.subject.series.topic, change.incident.subject.series.entity,
         change.incident.state.value, change.incident.strongest.p_value)
        for change in transitions(short_feed())
        if change.at < START + timedelta(hours=END)
    ]  # fmt: skip
    assert found == pure
    assert found


def test_the_rows_tell_what_the_transitions_tell(world: World) -> None:
    alerts = world.tick_at(END)
    last = {alert.incident_id: alert for alert in alerts}
    rows = world.rows("SELECT incident_id, state, observed, p_value, evidence FROM incident")
    assert {row[0]: row[1:] for row in rows} == {
        key: (alert.state, alert.observed, alert.p_value, alert.evidence) for key, alert in last.items()
    }
    negatives = {row[0] for row in world.rows("SELECT article_id FROM article WHERE sentiment = 'negative'")}
    surges = [alert for alert in alerts if alert.rule != NO_DATA]
    assert all(set(alert.evidence) <= negatives and alert.evidence for alert in surges)
    assert transitions_after(world.engine, "live", 0, 1000) == alerts


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hours=st.lists(st.floats(8.5, 13.5), max_size=12).map(sorted),
    chunk=st.sampled_from([7, 60, 720]),
)
def test_any_ticking_gives_the_same_transitions(engine: Engine, hours: list[float], chunk: int) -> None:
    whole, cut = World(engine, f"whole{next(_runs)}"), World(engine, f"cut{next(_runs)}")
    feed = short_feed()
    for world in (whole, cut):
        world.ingest(feed)
    for hour in hours:
        cut.tick_at(hour, chunk)
    cut.tick_at(END, chunk)
    whole.tick_at(END)
    found, expected = (transitions_after(engine, world.run, 0, 1000) for world in (cut, whole))
    assert _plain(found) == _plain(expected)
    assert len(expected) >= 3


def test_minute_by_minute_is_like_all_at_once(world: World) -> None:
    world.tick_at(8.5)
    live: list[Alert] = []
    for minute in range(8 * 60 + 30, int(END * 60) + 1):
        world.move_watermark(START + minute * MINUTE + LATENESS)
        live += world.alert_engine().tick()
    other = World(world.engine, "replay")
    other.ingest(short_feed())
    assert _plain(live) == _plain(other.tick_at(END))


class Crash(Exception):
    pass


class CrashingStore(PostgresAlertStore):
    """Everything is written, and the process dies before the commit."""

    @contextmanager
    def begin(self, run: str) -> Iterator[AlertUnit | None]:
        with super().begin(run) as unit:
            yield unit
            raise Crash


def test_a_crash_inside_a_tick_changes_nothing(world: World) -> None:
    world.move_watermark(START + timedelta(hours=11))
    engine = world.alert_engine()
    with pytest.raises(Crash):
        replace(engine, store=CrashingStore(world.engine)).tick()
    assert world.rows("SELECT 1 FROM engine") == world.rows("SELECT 1 FROM incident") == []
    assert engine.tick() == transitions_after(world.engine, "live", 0, 1000) != []


def test_a_second_engine_does_nothing_while_the_first_works(world: World) -> None:
    world.move_watermark(START + timedelta(hours=11))
    with PostgresAlertStore(world.engine).begin("live") as held:
        assert held is not None
        assert world.alert_engine().tick() == []
        assert world.rows("SELECT 1 FROM engine") == []
    assert world.alert_engine().tick()


def test_without_a_watermark_there_is_nothing_to_do(engine: Engine) -> None:
    assert World(engine).alert_engine().tick() == []


def test_the_slowest_partition_holds_until_it_is_silent(world: World) -> None:
    late, early = START + timedelta(hours=3), START + timedelta(hours=2)
    world.move_watermark(late, 0)
    world.move_watermark(early, 1)
    world.alert_engine().tick()
    assert world.rows("SELECT evaluated_to FROM engine") == [(early - LATENESS - MINUTE,)]
    world.move_watermark(early, 1, age=10.0)
    world.alert_engine().tick()
    assert world.rows("SELECT evaluated_to FROM engine") == [(late - LATENESS - MINUTE,)]


def test_when_all_are_silent_the_slowest_still_counts(world: World) -> None:
    early = START + timedelta(hours=2)
    world.move_watermark(START + timedelta(hours=3), 0, age=10.0)
    world.move_watermark(early, 1, age=10.0)
    world.alert_engine().tick()
    assert world.rows("SELECT evaluated_to FROM engine") == [(early - LATENESS - MINUTE,)]


def test_when_the_feed_has_paused_the_newest_counts(world: World) -> None:
    late = START + timedelta(hours=3)
    world.move_watermark(late, 0, age=40.0)
    world.move_watermark(START + timedelta(hours=2), 1, age=50.0)
    world.alert_engine().tick()
    assert world.rows("SELECT evaluated_to FROM engine") == [(late - LATENESS - MINUTE,)]


def test_a_stray_old_date_costs_neither_time_nor_truth(world: World) -> None:
    item = short_feed()[0]
    long_ago = replace(item.mention, article_id=f"{10**9:032x}", minute=START - timedelta(days=365 * 40))
    stray = replace(item, mention=long_ago)
    world.ingest([stray])
    world.move_watermark(START + timedelta(hours=END))
    for _ in range(4):
        world.alert_engine().tick()
    assert world.rows("SELECT state FROM incident WHERE topic = 'credit'") == [("resolved",)]


def test_published_transitions_do_not_come_again(world: World) -> None:
    alerts = world.tick_at(END)
    with unpublished(world.engine, "live", 2) as batch:
        assert batch is not None
        assert batch.alerts == alerts[:2]
        with unpublished(world.engine, "live", 2) as other:
            assert other is None
        batch.published(alerts[1].seq)
    with unpublished(world.engine, "live", 100) as batch:
        assert batch is not None
        assert batch.alerts == alerts[2:]
    assert last_seq(world.engine, "live") == alerts[-1].seq


def test_ticking_keeps_the_published_cursor(world: World) -> None:
    first = world.tick_at(11)
    with unpublished(world.engine, "live", 100) as batch:
        assert batch is not None
        batch.published(first[-1].seq)
    later = world.tick_at(END)
    with unpublished(world.engine, "live", 100) as batch:
        assert batch is not None
        assert batch.alerts == later != []


def test_what_was_not_confirmed_comes_again(world: World) -> None:
    alerts = world.tick_at(END)

    def publish_and_crash() -> None:
        with unpublished(world.engine, "live", 100) as batch:
            assert batch is not None
            batch.published(alerts[-1].seq)
            raise Crash

    with pytest.raises(Crash):
        publish_and_crash()
    with unpublished(world.engine, "live", 100) as batch:
        assert batch is not None
        assert batch.alerts == alerts


def test_an_unreadable_state_says_what_to_do(world: World) -> None:
    world.tick_at(2)
    world.execute("""UPDATE engine SET state = '{"open": [1]}'""")
    with pytest.raises(DatabaseError, match="delete its row"):
        world.alert_engine().tick()


def test_runs_have_their_own_incidents(world: World) -> None:
    replay = World(world.engine, "replay-1")
    replay.ingest(short_feed())
    live, again = world.tick_at(END), replay.tick_at(END)
    assert _plain(live) == _plain(again)
    assert not {alert.incident_id for alert in live} & {alert.incident_id for alert in again}


def test_only_series_that_may_surge_are_loaded(world: World) -> None:
    with PostgresAlertStore(world.engine).begin("live") as unit:
        assert unit is not None
        first = START + timedelta(hours=ONSET, minutes=30)
        found = unit.histories(load_rules(), first, first, [Series("rates", "hi")])
        quiet = unit.histories(load_rules(), START, START, [])
    assert {Series("credit"), Series("*", "*", "Acme"), Series("rates", "hi")} <= set(found)
    assert set(quiet) == {RUN}
