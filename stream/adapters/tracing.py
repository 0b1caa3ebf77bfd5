"""Traces from feed to alert, one per article, where OTEL_EXPORTER_OTLP_ENDPOINT is set; nothing is imported otherwise.

    feed ──traceparent──► score ──traceparent──► store ──in this worker's memory──► alert

The context travels in Kafka's headers, as W3C Trace Context. Only articles that the sampler took (OTEL_TRACES_SAMPLER)
carry it, so that the others cost nothing. An alert continues the trace of an article that it rests on and links to
those of the others, as far as this worker stored them lately. Spans carry ids, never texts.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crosswind.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINT, PROTOCOL, SERVICE = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SERVICE_NAME"
SPOKEN = "http/protobuf"
TRACEPARENT = "traceparent"
REMEMBERED = 20_000
"""Stored articles whose traces an alert may link to."""

Headers = Sequence[tuple[str, bytes]]
"""A Kafka record's headers; empty: the article is not traced."""


class Tracing:
    """Starts and ends the spans of articles. `provider` says where they go."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("crosswind")
        self._propagator = TraceContextTextMapPropagator()
        self._stored: OrderedDict[str, Headers] = OrderedDict()

    def begin(self, name: str, **attributes: str) -> list[tuple[str, bytes]]:
        """A span that begins a trace, and ends at once. Returns the headers that carry it on; empty: not sampled."""
        return self._span(name, None, time.time_ns(), attributes)

    def step(self, name: str, parent: Headers, started: int, **attributes: str) -> list[tuple[str, bytes]]:
        """A span that continues a trace, from `started` (nanoseconds since the epoch) until now.

        Args:
            parent: the headers that the article came with; without a trace in them nothing happens.

        Returns:
            The headers that carry it on.
        """
        context = self._context(parent)
        return [] if context is None else self._span(name, context, started, attributes)

    def remember(self, article_id: str, headers: Headers) -> None:
        """Notes the trace of an article that was stored; the oldest are forgotten."""
        if headers:
            self._stored[article_id] = headers
            if len(self._stored) > REMEMBERED:
                self._stored.popitem(last=False)

    def alert(self, evidence: Sequence[str], **attributes: str) -> list[tuple[str, bytes]]:
        """The span of an alert's transition: in the trace of the first known article, linked to those of the others."""
        known = [self._stored[article_id] for article_id in evidence if article_id in self._stored]
        if not known:
            return self.begin("alert", **attributes)
        return self._span("alert", self._context(known[0]), time.time_ns(), attributes, known[1:])

    def close(self) -> None:
        """Sends what waits; at most some seconds."""
        self._provider.shutdown()

    def _span(
        self,
        name: str,
        context: "Context | None",
        started: int,
        attributes: Mapping[str, str],
        linked: Sequence[Headers] = (),
    ) -> list[tuple[str, bytes]]:
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, get_current_span, set_span_in_context

        contexts = [self._context(headers) for headers in linked]
        links = [Link(get_current_span(other).get_span_context()) for other in contexts if other is not None]
        named = {f"crosswind.{key}": value for key, value in attributes.items()}
        span = self._tracer.start_span(name, context or Context(), attributes=named, links=links, start_time=started)
        span.end()
        if not span.get_span_context().trace_flags.sampled:
            return []
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span, Context()))
        return [(key, value.encode()) for key, value in carrier.items()]

    def _context(self, headers: Headers) -> "Context | None":
        """What a record's headers continue; None where there is nothing, or nothing that can be read."""
        from opentelemetry.context import Context
        from opentelemetry.trace import get_current_span

        found = {key: value.decode("ascii", "replace") for key, value in headers if key in (TRACEPARENT, "tracestate")}
        if TRACEPARENT not in found:
            return None
        context = self._propagator.extract(found, Context())
        return context if get_current_span(context).get_span_context().is_valid else None


def open_tracing(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Tracing to the endpoint that the environment names, by OpenTelemetry's own variables; None where it names none.

    Raises:
        SettingsError: OpenTelemetry is not installed, or another protocol than http/protobuf is wanted.
    """
    if not environment.get(ENDPOINT):
        return None
    if environment.get(PROTOCOL, SPOKEN) != SPOKEN:
        raise SettingsError(f"{PROTOCOL} is {environment[PROTOCOL]!r}; Crosswind speaks {SPOKEN}: use that port, 4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(f"{ENDPOINT} is set, but OpenTelemetry is missing ({error.name}): "
                            "pip install 'crosswind[otel]', or unset it") from None  # fmt: skip
    resource: dict[str, Any] = {"service.name": environment.get(SERVICE, "crosswind")}
    provider = TracerProvider(resource=Resource.create(resource))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
