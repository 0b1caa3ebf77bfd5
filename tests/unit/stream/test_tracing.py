"""Traces run from feed to alert, cost nothing where they are not wanted, and carry no texts."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from crosswind.errors import SettingsError
from crosswind.stream.adapters import tracing as module
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.tracing import Headers, Tracing, open_tracing
from crosswind.stream.agents import Outgoing, decode, trace_scored, trace_stored
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.validate import Limits
from crosswind.stream.service.scoring import Message, judge

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
RAW = b'{"source": "wire", "title": "%s", "published_at": "2026-03-02T09:00:00Z", "id": "%d", "lang": "en"}'


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def raw(number: int, headers: Headers = (), title: bytes = b"Bank fails") -> Message:
    return Message(Origin("news.raw", 0, number), NOW, None, RAW % (title, number), headers)


def score(tracing: Tracing, messages: list[Message], bundle: Path) -> list[Message]:
    """The score agent's work on a batch, up to the records that it publishes, as the trend agent gets them."""
    started = time.time_ns()
    limits = Limits(2**20, timedelta(hours=1))
    judged = judge(messages, scorer=OnnxScorer(bundle, threads=1), detect=lambda text: "en", limits=limits)
    records = Outgoing.of(judged, trace_scored(tracing, messages, judged, started)).scored
    return [Message(Origin("news.scored", 0, n), NOW, key, value, headers)
            for n, (key, value, headers) in enumerate(records)]  # fmt: skip


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def test_a_trace_runs_from_feed_to_alert(tracing: Tracing, exporter: InMemorySpanExporter, tiny_bundle: Path) -> None:
    first, other = (tracing.begin("feed", topic="news.raw") for _ in range(2))
    decoded = decode(score(tracing, [raw(1, first), raw(2), raw(3, other)], tiny_bundle))
    trace_stored(tracing, decoded, time.time_ns())
    evidence = [delivery.scored.article.article_id for delivery in decoded.deliveries]
    carried = tracing.alert(evidence, incident_id="i", state="firing", run="live")
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["feed", "feed", "score", "score", "store", "store", "alert"]
    feed, second, scored, _, stored, linked, alert = spans
    assert [parent(span) for span in (feed, scored, stored, alert)] == [
        None, feed.context.span_id, scored.context.span_id, stored.context.span_id,
    ]  # fmt: skip
    assert {span.context.trace_id for span in (feed, scored, stored, alert)} == {feed.context.trace_id}
    assert [link.context.span_id for link in alert.links] == [linked.context.span_id]
    assert linked.context.trace_id == second.context.trace_id
    assert f"{alert.context.trace_id:032x}-{alert.context.span_id:016x}".encode() in dict(carried)["traceparent"]
    assert alert.attributes == {"crosswind.incident_id": "i", "crosswind.state": "firing", "crosswind.run": "live"}


def test_spans_carry_ids_and_no_texts(tracing: Tracing, exporter: InMemorySpanExporter, tiny_bundle: Path) -> None:
    message = raw(1, tracing.begin("feed", topic="news.raw"), title=b"Secretive Bank fails")
    trace_stored(tracing, decode(score(tracing, [message], tiny_bundle)), time.time_ns())
    spans = exporter.get_finished_spans()
    assert [set(span.attributes or {}) for span in spans] == [
        {"crosswind.topic"}, {"crosswind.article_id", "crosswind.lang", "crosswind.model"}, {"crosswind.article_id"},
    ]  # fmt: skip
    assert not any("Secretive" in span.to_json() for span in spans)


def test_a_span_lasts_as_long_as_its_batch(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    started = time.time_ns() - 5_000_000_000
    tracing.step("score", tracing.begin("feed"), started)
    span = exporter.get_finished_spans()[-1]
    assert span.start_time == started
    assert span.end_time is not None
    assert span.end_time - started >= 5_000_000_000


@pytest.mark.parametrize(
    "headers", [(), [("traceparent", b"nonsense")], [("traceparent", b"\xff\x00")], [("other", b"x")]]
)
def test_an_article_without_a_trace_begins_none(
    headers: Headers, tracing: Tracing, exporter: InMemorySpanExporter, tiny_bundle: Path
) -> None:
    (record,) = score(tracing, [raw(1, headers)], tiny_bundle)
    assert not record.headers
    trace_stored(tracing, decode([record]), time.time_ns())
    assert exporter.get_finished_spans() == ()


def test_what_the_sampler_leaves_out_carries_nothing(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    assert Tracing(provider).begin("feed") == []
    assert exporter.get_finished_spans() == ()


def test_memory_of_stored_articles_is_bounded(tracing: Tracing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for number in range(9):
        tracing.remember(str(number), [("traceparent", b"x")])
    assert list(tracing._stored) == ["6", "7", "8"]


def test_it_is_off_unless_there_is_an_endpoint() -> None:
    assert open_tracing({}) is None
    with pytest.raises(SettingsError, match="http/protobuf"):
        open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_without_the_packages_it_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from crosswind.stream.adapters.tracing import open_tracing\n"
        "open_tracing({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "crosswind[otel]" in done.stderr.splitlines()[-1]


def test_a_worker_imports_nothing_of_it_by_itself() -> None:
    script = (
        "import sys, crosswind.stream.bootstrap as b\n"
        "assert b.open_tracing({}) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
