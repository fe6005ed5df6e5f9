"""OpenTelemetry's SDK, imported only where traces are asked for.

Where to, how much and under which name is told by its own variables:
https://opentelemetry.io/docs/languages/sdk-configuration/
"""

import atexit
import threading
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
_LEAVE_S: Final = 1.0


class Telemetry:
    """A Tracer whose spans leave from a thread of the SDK's own."""

    def __init__(self, exporter: str, process: str) -> None:
        named = Resource({SERVICE_NAME: f"virtumancer-{process}"})
        provider = TracerProvider(
            shutdown_on_exit=False,
            resource=Resource.create()
            .merge(named)
            .merge(OTELResourceDetector().detect()),
        )
        provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        _leave_soon(provider)
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


def _leave_soon(provider: TracerProvider) -> None:
    """Have what is left sent at the end, but let no absent collector hold us up."""
    going, gone = threading.Event(), threading.Event()

    def send() -> None:
        going.wait()
        provider.shutdown()
        gone.set()

    def leave() -> None:
        going.set()
        gone.wait(_LEAVE_S)

    # An interpreter that ends starts no thread any more.
    threading.Thread(target=send, name="traces' end", daemon=True).start()
    atexit.register(leave)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
