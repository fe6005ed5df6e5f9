"""OpenTelemetry's SDK, imported only where traces are asked for.

Where to, how much and under which name is told by its own variables:
https://opentelemetry.io/docs/languages/sdk-configuration/
"""

from contextlib import AbstractContextManager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.tracing import Attribute, Kind

_KINDS: Final = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
}
_PARENT: Final = TraceContextTextMapPropagator()
_HEADER: Final = "traceparent"


class Telemetry:
    """A Tracer whose spans leave from a thread of the SDK's own."""

    def __init__(self, exporter: str, process: str) -> None:
        named = Resource({SERVICE_NAME: f"virtumancer-{process}"})
        provider = TracerProvider(
            resource=Resource.create()
            .merge(named)
            .merge(OTELResourceDetector().detect())
        )
        provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        self._tracer = provider.get_tracer("virtumancer")

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        _PARENT.inject(carrier)
        return carrier.get(_HEADER)

    def trace_id(self) -> str | None:
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def span(
        self,
        name: str,
        kind: Kind,
        traceparent: str | None,
        attributes: dict[str, Attribute],
    ) -> AbstractContextManager[Any]:
        parent = _PARENT.extract({_HEADER: traceparent}) if traceparent else None
        return self._tracer.start_as_current_span(
            name, context=parent, kind=_KINDS[kind], attributes=attributes
        )

    def describe(self, name: str, attributes: dict[str, Attribute]) -> None:
        span = trace.get_current_span()
        span.update_name(name)
        span.set_attributes(attributes)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
