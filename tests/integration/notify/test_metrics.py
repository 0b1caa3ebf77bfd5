"""The dispatcher's metrics: what happened to a receiver that behaves in every way, as Prometheus would read it."""

import asyncio
import math
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from sqlalchemy import Engine

from crosswind.errors import SettingsError
from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.adapters.postgres.outbox import PostgresOutbox
from crosswind.stream.adapters.postgres.outbox_upkeep import Waiting, waiting
from crosswind.stream.notify.adapters.metrics import REASONS, NotifyMetrics, reason_of, served
from crosswind.stream.notify.adapters.senders import Senders
from crosswind.stream.notify.service.dispatcher import Dispatcher, Reply
from tests.notify_helpers import KEY, VAULT, Receiver, alert, fire, receiver, rows, scrape, subscribe

DOCS = Path(__file__).parents[3] / "docs" / "subscriptions.md"
FAST = tuple(timedelta(seconds=0.05) for _ in range(3))


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


async def scraped(metrics: NotifyMetrics, look: Callable[[], Waiting]) -> dict[str, float]:
    async with served(metrics, look, "127.0.0.1", 0) as address:
        return await asyncio.to_thread(scrape, address)


def test_every_outcome_is_counted_once(engine: Engine, there: Receiver) -> None:
    for kind in ("ok", "flaky", "gone", "moved", "busy"):
        subscribe(engine, f"{there.address}/{kind}")
    fire(engine, alert())
    metrics = NotifyMetrics()

    async def work() -> dict[str, float]:
        settings, stop = load_settings({"seal_key": KEY, "notify_private": True}), asyncio.Event()
        async with Senders(settings, VAULT) as send:
            dispatcher = Dispatcher(PostgresOutbox(engine), send, "d", lambda: datetime.now(UTC), FAST,
                                    observe=metrics.recorded)  # fmt: skip
            running = asyncio.create_task(dispatcher.run(stop))
            async with asyncio.timeout(30):
                while (await asyncio.to_thread(waiting, engine)).count:
                    await asyncio.sleep(0.05)
            stop.set()
            await running
        return await scraped(metrics, lambda: waiting(engine))

    found = asyncio.run(work())
    tried = {what: {reason: found[f'crosswind_notify_{what}_total{{reason="{reason}"}}'] for reason in REASONS}
             for what in ("failed", "retries")}  # fmt: skip
    assert found['crosswind_notify_delivered_total{channel="webhook"}'] == 3
    assert {k: v for k, v in tried["failed"].items() if v} == {"gone": 1, "redirect": 1}
    assert {k: v for k, v in tried["retries"].items() if v} == {"server_error": 3, "redirect": 3, "busy": 1}
    attempts = 3 + sum(tried["failed"].values()) + sum(tried["retries"].values())
    assert rows(engine, "SELECT count(*) FROM delivery") == [(attempts,)]
    assert found["crosswind_notify_waiting"] == found["crosswind_notify_oldest_waiting_seconds"] == 0


def test_while_the_database_is_away_the_counters_are_still_served() -> None:
    """Figures of before would look as if all were well."""
    away = connect("postgresql://nobody@127.0.0.1:1/none")
    metrics = NotifyMetrics()
    metrics.saw(Waiting(7, 1.0, 1.0))
    found = asyncio.run(scraped(metrics, lambda: waiting(away)))
    assert math.isnan(found["crosswind_notify_waiting"])
    assert found['crosswind_notify_delivered_total{channel="kafka"}'] == 0


def test_a_port_that_is_taken_says_what_to_do() -> None:
    async def work(port: int) -> None:
        async with served(NotifyMetrics(), lambda: Waiting(0, 0.0, 0.0), "127.0.0.1", port):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="CROSSWIND_NOTIFY_PORT"):
        asyncio.run(work(taken.getsockname()[1]))


@pytest.mark.parametrize(("reply", "reason"), [
    (Reply(None, "no answer within 15 s"), "no_answer"), (Reply(None, "no answer in time"), "no_answer"),
    (Reply(None, "cannot connect (Connection refused)"), "cannot_connect"), (Reply(101), "other"),
    (Reply(None, "refused: not a public address"), "not_public"), (Reply(None, "ServerDisconnectedError"), "other"),
])  # fmt: skip
def test_reasons_are_few_whatever_a_receiver_says(reply: Reply, reason: str) -> None:
    assert reason_of(reply) == reason
    assert reason in REASONS


def test_every_metric_and_reason_is_documented_and_no_other() -> None:
    families = re.findall(r"^# TYPE (\S+) \S+$", generate_latest(NotifyMetrics().registry).decode(), re.MULTILINE)
    exported = {name for name in families if not name.endswith("_created")}
    text = DOCS.read_text("utf-8")
    assert set(re.findall(r"\bcrosswind_notify_[a-z_]+", text)) == exported
    assert all(f"`{reason}`" in text for reason in REASONS)
