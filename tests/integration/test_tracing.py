"""Traces through the real parts: a feed, a broker, a worker, and a collector of OpenTelemetry's own protocol."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kafka import KafkaConsumer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine

from crosswind.settings import load_settings
from crosswind.stream.adapters.alert_loop import run_alerts
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.tracing import Tracing
from crosswind.stream.feed.player import play
from crosswind.stream.feed.rows import Row
from tests.integration.alerts.test_alert_loop import FakeApp, FakeTopic, Parts
from tests.integration.alerts.world import END, World, short_feed
from tests.processes import count, start_worker, wait_for

ARTICLES = 5
ARTICLE = b'{"source": "wire", "title": "Secretive bank fails %d", "published_at": "2026-03-02T09:0%d:00Z", "id": "%d"}'


class Collector:
    """Takes spans by OTLP over HTTP, on loopback; `spans` has name, trace, span and parent of each, in hex."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str, str]] = []
        self.raw = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    self.spans.append((span.name, *ids))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    yield made
    made.close()


def _rows() -> list[Row]:
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    return [Row(n, ARTICLE % (n, n, n), b"%d" % n, start + timedelta(minutes=n)) for n in range(ARTICLES)]


@pytest.mark.timeout(300)
def test_each_article_has_one_trace_from_feed_to_store(
    collector: Collector, broker: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    settings = load_settings({})
    ensure_topics(settings, broker)
    play(_rows(), broker, settings, speed=0, on_progress=lambda more: None, stop=threading.Event())
    assert [name for name, *_ in collector.spans] == ["feed"] * ARTICLES
    worker = start_worker(broker, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: count(engine, "article") == ARTICLES, 120, f"articles are stored; see {tmp_path}")
        wait_for(lambda: len(collector.spans) == 3 * ARTICLES, 60, "all spans are collected")
    finally:
        worker.terminate()
        worker.wait(20)
    by_name = {name: [span for span in collector.spans if span[0] == name] for name in ("feed", "score", "store")}
    for earlier, later in (("feed", "score"), ("score", "store")):
        assert {(span[1], span[2]) for span in by_name[earlier]} == {(span[1], span[3]) for span in by_name[later]}
    assert len({span[1] for span in collector.spans}) == ARTICLES
    assert b"Secretive" not in collector.raw
    consumer = KafkaConsumer(settings.scored_topic, bootstrap_servers=broker, group_id=None,
                             auto_offset_reset="earliest", consumer_timeout_ms=8000)  # fmt: skip
    carried = [dict(record.headers)["traceparent"].decode().split("-")[1] for record in consumer]
    consumer.close()
    assert sorted(carried) == sorted(span[1] for span in by_name["score"])


def test_an_alert_continues_the_trace_of_its_evidence(engine: Engine) -> None:
    world, exporter, topic = World(engine), InMemorySpanExporter(), FakeTopic()
    world.ingest(short_feed())
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    alerts = world.tick_at(END)
    evidence = {article for alert in alerts for article in alert.evidence}
    assert evidence
    for article in sorted(evidence):
        tracing.remember(article, tracing.step("store", tracing.begin("feed"), time.time_ns(), article_id=article))
    stored = {span.context.span_id: span for span in exporter.get_finished_spans() if span.name == "store"}

    async def run() -> None:
        task = asyncio.create_task(run_alerts(Parts(tracing=tracing), engine, FakeApp(topic)))  # type: ignore[arg-type]
        deadline = time.monotonic() + 60
        while len(topic.sent) < len(alerts):
            assert time.monotonic() < deadline
            assert not task.done()
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    spans = [span for span in exporter.get_finished_spans() if span.name == "alert"]
    assert len(spans) == len(alerts)
    for span, alert in zip(spans, topic.sent, strict=True):
        known = [stored[link.context.span_id] for link in span.links]
        if alert.evidence:
            assert span.parent is not None
            known.append(stored[span.parent.span_id])
        assert {(one.attributes or {})["crosswind.article_id"] for one in known} == set(alert.evidence)
