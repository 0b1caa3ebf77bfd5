"""Transitions to enqueue, subscriptions to send to, and a receiver that behaves badly on demand."""

import asyncio
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web
from cryptography.fernet import Fernet
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, Engine, text

from crosswind.stream.adapters.postgres.outbox import enqueue
from crosswind.stream.adapters.postgres.subscriptions import Subscriptions
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.adapters.senders import prepare
from crosswind.stream.notify.adapters.vault import Vault
from crosswind.stream.notify.domain.subscription import Channel, Draft

KEY = Fernet.generate_key().decode()
VAULT = Vault([KEY])
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
_INCIDENT = text("""
    INSERT INTO incident (run, incident_id, rule, rule_version, topic, lang, entity, state, severity, started_at,
        observed, expected, p_value, negative_share, sources, headlines, languages, evidence, model, group_id)
    VALUES (:run, :incident_id, :rule, :rule_version, :topic, :lang, :entity, :state, :severity, :at, :observed,
        :expected, :p_value, :negative_share, :sources, :headlines, :languages, :evidence, :model, :group_id)
    ON CONFLICT DO NOTHING""")
_TRANSITION = text("""
    INSERT INTO transition (run, incident_id, state, seq, at, recorded_at, payload)
    VALUES (:run, :incident_id, :state, :seq, :at, clock_timestamp(), CAST(:payload AS jsonb))""")


def alert(seq: int = 1, incident: str = "inc1", **fields: Any) -> Alert:
    given: dict[str, Any] = {
        "run": "live", "incident_id": incident, "seq": seq, "state": "firing", "at": AT + timedelta(minutes=seq),
        "rule": "surge", "rule_version": "v1", "severity": "warning", "topic": "credit", "lang": "*", "entity": "*",
        "observed": 40, "expected": 4.0, "p_value": 1e-9, "negative_share": 0.8, "sources": 6, "headlines": 30,
        "languages": ["de", "en"], "evidence": [], "model": "tiny", "cause": "fired",
    }  # fmt: skip
    return Alert(**{**given, **fields})


def put(connection: Connection, *alerts: Alert) -> None:
    """Writes transitions as the engine does, then the outbox, in the caller's transaction."""
    for one in alerts:
        values = {**msgspec.structs.asdict(one), "payload": msgspec.json.encode(one).decode()}
        connection.execute(_INCIDENT, {**values, "group_id": one.group or one.incident_id})
        connection.execute(_TRANSITION, values)
    enqueue(connection, "live", alerts)


def fire(engine: Engine, *alerts: Alert) -> None:
    with engine.begin() as connection:
        put(connection, *alerts)


def subscribe(engine: Engine, target: str = "", channel: Channel = Channel.WEBHOOK, **fields: Any) -> str:
    draft = Draft(channel, target, **fields)
    secret, lane, shown = prepare(draft, private=True)
    return Subscriptions(engine, "live").add("me", draft, lane=lane, shown=shown, sealed=VAULT.seal(secret))


@dataclass
class Receiver:
    """What arrived: (path, webhook-id), in order; headers and body by id."""

    address: str = ""
    got: list[tuple[str, str]] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)

    def ids(self, path: str) -> list[str]:
        return [found for where, found in self.got if where == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Paths: ok, hang, drip, flaky (500 three times), gone, busy (429 once), drop (no reply once), moved."""
        body = await request.read()
        message_id, kind = request.headers.get("webhook-id", ""), request.path.split("/")[1]
        self.got.append((request.path, message_id))
        self.headers[message_id], self.bodies[message_id] = dict(request.headers), body
        tries = self.ids(request.path).count(message_id)
        if kind == "hang":
            await asyncio.sleep(60)
        if kind == "drop" and tries == 1 and request.transport:
            request.transport.close()
        if kind == "drip" and request.transport:
            for letter in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
                request.transport.write(bytes([letter]))
                await asyncio.sleep(0.5)
        status = {"gone": 410, "moved": 302, "flaky": 500 if tries <= 3 else 200, "busy": 429 if tries == 1 else 200}
        code = status.get(kind, 200)
        extra = {"Retry-After": "1"} if code == 429 else {"Location": self.address + "/ok"} if code == 302 else {}
        self.taken[message_id] += code == 200
        return web.Response(status=code, headers=extra)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A real server in a thread, on loopback."""
    state, ready, loop = Receiver(), threading.Event(), asyncio.new_event_loop()

    async def start() -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", state.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        state.address = f"http://{host}:{port}"
        ready.set()

    def work() -> None:
        loop.create_task(start())
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield state
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def scrape(address: str) -> dict[str, float]:
    """Series and values; empty while nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except (urllib.error.URLError, ConnectionError):
        return {}
    return {
        sample.name + ("{" + ",".join(f'{k}="{v}"' for k, v in sample.labels.items()) + "}") * bool(sample.labels):
            sample.value
        for family in families for sample in family.samples
    }  # fmt: skip
