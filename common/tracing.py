"""Traces: one from a request through its task to libvirt's calls.

Off, and OpenTelemetry not imported, unless its own settings ask for it. A trace goes
from process to process as a ``traceparent`` (https://www.w3.org/TR/trace-context/).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

from common.settings import Settings

Attribute = str | int | float | bool
Kind = Literal["server", "consumer", "client"]


class Tracer(Protocol):
    """What ``common.telemetry`` does where traces are on."""

    def traceparent(self) -> str | None: ...

    def trace_id(self) -> str | None: ...

    def span(
        self,
        name: str,
        kind: Kind,
        traceparent: str | None,
        attributes: dict[str, Attribute],
    ) -> AbstractContextManager[Any]: ...

    def describe(self, name: str, attributes: dict[str, Attribute]) -> None: ...


_tracer: Tracer | None = None


def configure(settings: Settings, process: str) -> None:
    """Trace from now on, if the settings say where to."""
    global _tracer
    exporter = settings.otel_traces_exporter
    told = settings.otel_exporter_otlp_endpoint or exporter in ("otlp", "console")
    if not told or exporter == "none":
        return
    try:
        from common.telemetry import Telemetry
    except ImportError as error:
        raise SystemExit(
            f"OTEL_… asks for traces, but there is no {error.name}:"
            " pip install -r requirements-tracing.txt"
        ) from None
    _tracer = Telemetry(exporter, process)


def is_on() -> bool:
    """Whether anything is traced in this process."""
    return _tracer is not None


def traceparent() -> str | None:
    """The span that is current here, for whoever continues it elsewhere."""
    return _tracer.traceparent() if _tracer else None


def trace_id() -> str | None:
    """The trace that is current here, for the log."""
    return _tracer.trace_id() if _tracer else None


def begin(
    name: str, kind: Kind, traceparent: str | None, **attributes: Attribute
) -> AbstractContextManager[Any]:
    """A span that continues another process's, or begins a trace without one."""
    if _tracer is None:
        return nullcontext()
    return _tracer.span(name, kind, traceparent, attributes)


def within(
    name: str, kind: Kind, **attributes: Attribute
) -> AbstractContextManager[Any]:
    """A span inside the current one; nothing where none is."""
    if _tracer is None or (parent := _tracer.traceparent()) is None:
        return nullcontext()
    return _tracer.span(name, kind, parent, attributes)


def describe(name: str, **attributes: Attribute) -> None:
    """What the current span turned out to be."""
    if _tracer:
        _tracer.describe(name, attributes)
