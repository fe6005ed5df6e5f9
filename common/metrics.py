"""What each process counts and times, for Prometheus.

Every label has few values: routes by template, verbs by name, hosts that are
registered. No VM is named here; the fleet's own numbers come from its rows.
"""

from typing import Final

from msgspec import Struct
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

disable_created_metrics()

REGISTRY: Final = CollectorRegistry()

REQUEST_SECONDS: Final = Histogram(
    "virtumancer_http_request_seconds",
    "Time from a request's head to its answer",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
    registry=REGISTRY,
)
LISTENERS: Final = Gauge(
    "virtumancer_sockets",
    "WebSockets and event streams that are open",
    registry=REGISTRY,
)
LISTENERS_CLOSED: Final = Counter(
    "virtumancer_sockets_closed",
    "WebSockets and event streams that ended, by close code; 1013 fell behind",
    ["code"],
    registry=REGISTRY,
)
TASKS: Final = Counter(
    "virtumancer_tasks",
    "Tasks that a worker ended, by verb and outcome: done, or the problem's type",
    ["verb", "outcome"],
    registry=REGISTRY,
)
TASK_SECONDS: Final = Histogram(
    "virtumancer_task_seconds",
    "Time from a worker's claim of a task to its end",
    ["verb"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
    registry=REGISTRY,
)
CALL_SECONDS: Final = Histogram(
    "virtumancer_libvirt_call_seconds",
    "Time of one libvirt call; the host is empty while it is being added",
    ["host", "verb"],
    buckets=(0.001, 0.01, 0.1, 1, 10),
    registry=REGISTRY,
)
EVENT_LAG_SECONDS: Final = Histogram(
    "virtumancer_event_lag_seconds",
    "Time from libvirt's event about a VM until what it changed was published",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)


class Sample(Struct, array_like=True, frozen=True):
    """One line: the family's name with its suffix, labels, value."""

    name: str
    labels: dict[str, str]
    value: float


class Family(Struct, array_like=True, frozen=True):
    """A metric with all its samples; ``kind`` is Prometheus's word for its type."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


def families() -> list[Family]:
    """What this process has counted until now."""
    return [
        Family(
            f"{metric.name}_total" if metric.type == "counter" else metric.name,
            metric.type,
            metric.documentation,
            [Sample(s.name, s.labels, s.value) for s in metric.samples],
        )
        for metric in REGISTRY.collect()
    ]


def forget_host(host_id: str) -> None:
    """Let go of the numbers about a host that is no longer this process's business."""
    CALL_SECONDS.remove_by_labels({"host": host_id})
