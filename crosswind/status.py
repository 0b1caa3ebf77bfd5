"""`crosswind status`: broker, database, lag, model and provider at a glance."""

from contextlib import closing
from typing import Any

import httpx
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from crosswind.errors import CrosswindError
from crosswind.export.bundle import resolve, verify
from crosswind.settings import Settings

KAFKA_MS = 4000
"""Milliseconds for each step towards Kafka; with the clients' own half minute a Kafka that is away is told late."""
_COUNTS = text("""
    SELECT (SELECT count(*) FROM article WHERE run = :run) AS articles,
           (SELECT count(*) FROM duplicate WHERE run = :run) AS duplicates,
           (SELECT count(*) FROM article_version WHERE run = :run AND version > 1) AS edits,
           (SELECT count(*) FROM incident WHERE run = :run AND state = 'firing') AS firing,
           (SELECT min(event_time) FROM watermark WHERE run = :run) AS event_time
""")


def collect(settings: Settings) -> dict[str, Any]:
    """What each part says of itself; `ok` is whether all of them are well."""
    found = {
        "broker": _part(_broker, settings),
        "database": _part(_database, settings),
        "worker": _part(_worker, settings),
        "model": _part(_model, settings),
    }
    return {"ok": all(part["ok"] for part in found.values()), **found}


def render(found: dict[str, Any]) -> str:
    """One line per part, for a person."""
    lines = []
    for name in ("broker", "database", "worker", "model"):
        part = dict(found[name])
        mark = "ok  " if part.pop("ok") else "DOWN"
        details = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in part.items())
        lines.append(f"{mark} {name:<9} {details}")
    return "\n".join(lines)


def _part(look: Any, settings: Settings) -> dict[str, Any]:
    try:
        return {"ok": True, **look(settings)}
    except (KeyError, TypeError, ValueError) as error:  # something else answers there
        return {"ok": False, "error": f"an answer like none of ours ({type(error).__name__}); is the address right?"}
    except (CrosswindError, KafkaError, SQLAlchemyError, httpx.HTTPError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        return {"ok": False, "error": (str(cause).splitlines() or [type(cause).__name__])[0]}


def _broker(settings: Settings) -> dict[str, Any]:
    from crosswind.stream.adapters.kafka.security import client_options
    from crosswind.stream.bootstrap import kafka_address

    address = kafka_address(settings)
    options = {"bootstrap_servers": address, "bootstrap_timeout_ms": KAFKA_MS, "request_timeout_ms": KAFKA_MS,
               **client_options(settings)}  # fmt: skip
    with closing(KafkaAdminClient(**options)) as admin, closing(KafkaConsumer(group_id=None, **options)) as consumer:
        offsets = admin.list_group_offsets(settings.group)[settings.group]
        committed = {tp: meta.offset for tp, meta in offsets.items()}
        topics = (settings.raw_topic, settings.scored_topic)
        parts = [TopicPartition(name, p) for name in topics for p in consumer.partitions_for_topic(name) or ()]
        begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        lag = sum(max(end - max(committed.get(tp, 0), begins.get(tp, 0)), 0) for tp, end in ends.items())
        return {"address": address, "lag": lag}


def _database(settings: Settings) -> dict[str, Any]:
    from crosswind.stream.adapters.postgres.engine import connect
    from crosswind.stream.bootstrap import database_address

    engine = connect(database_address(settings), pool_size=1, read_only=True)
    try:
        with engine.connect() as connection:
            row = connection.execute(_COUNTS, {"run": settings.run}).one()
        event_time = row.event_time.isoformat() if row.event_time else None
        counts = {name: getattr(row, name) for name in ("articles", "duplicates", "edits", "firing")}
        return {**counts, "event_time": event_time}
    finally:
        engine.dispose()


def _worker(settings: Settings) -> dict[str, Any]:
    if not settings.worker_port:
        raise CrosswindError("no worker known: set CROSSWIND_WORKER_PORT, or start `crosswind up` first")
    base = local_url(settings.worker_host, settings.worker_port)
    with httpx.Client(base_url=base, timeout=5.0, trust_env=False) as client:  # no proxy leads to this machine's worker
        said: dict[str, Any] = client.get("/status").json()
        ready, live = client.get("/health/ready"), client.get("/health/live")
    found = {"partitions": len(ready.json()["assigned"]), "model": said["model"], "provider": said["provider"]}
    unwell = [f"{path} answers {answer.status_code}" for path, answer in (("/health/ready", ready),
              ("/health/live", live)) if answer.status_code != 200]  # fmt: skip
    return {"ok": False, "error": "; ".join(unwell), **found} if unwell else found


def local_url(host: str, port: int) -> str:
    """Where a process of this machine that listens on `host` is asked.

    >>> local_url("10.0.0.5", 8051), local_url("::1", 8051)
    ('http://10.0.0.5:8051', 'http://[::1]:8051')
    >>> local_url("0.0.0.0", 8051), local_url("::", 8051)  # on all its addresses, so on loopback too
    ('http://127.0.0.1:8051', 'http://[::1]:8051')
    """
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _model(settings: Settings) -> dict[str, Any]:
    manifest = verify(resolve(settings.model), settings.trusted_key)
    return {"name": manifest.name, "version": manifest.version, "precision": manifest.precision}
