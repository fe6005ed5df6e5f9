"""What is counted and traced of a task, whatever it does."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol
from uuid import UUID

import structlog

from common import metrics, tracing
from common.shapes import Problem, TaskKind


class Task(Protocol):
    """A claimed task, as far as it is measured; ``waited_s`` until it was claimed."""

    @property
    def id(self) -> UUID: ...
    @property
    def kind(self) -> TaskKind: ...
    @property
    def host_id(self) -> str: ...
    @property
    def requested_by(self) -> str: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def traceparent(self) -> str | None: ...
    @property
    def waited_s(self) -> float: ...


@contextmanager
def under_way(task: Task) -> Iterator[None]:
    """Log under the task's ids, and go on with the trace of whoever asked for it."""
    ids = {"task": str(task.id), "request": task.request_id}
    with structlog.contextvars.bound_contextvars(**ids), _traced(task):
        yield


def _traced(task: Task) -> AbstractContextManager[Any]:
    """A look that nobody asked for is in no trace."""
    if task.traceparent is None:
        return nullcontext()
    facts = {"virtumancer.task": str(task.id), "virtumancer.host": task.host_id}
    return tracing.begin(f"task {task.kind}", "consumer", task.traceparent, **facts)


def count(task: Task, seconds: float, problem: Problem | None) -> None:
    """Count a task that took so long, and the lag of the event that it was for."""
    outcome = problem.type.rpartition("/")[2] if problem else "done"
    metrics.TASKS.labels(task.kind, outcome).inc()
    metrics.TASK_SECONDS.labels(task.kind).observe(seconds)
    if task.kind == "sync_vm" and task.requested_by == "monitor":
        metrics.EVENT_LAG_SECONDS.observe(max(0.0, task.waited_s) + seconds)
