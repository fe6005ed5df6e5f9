"""A task that this process holds, and how its end is written."""

from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from psycopg.types.json import Jsonb

from common import bus
from common.changes import Change
from common.db import sql
from common.shapes import Problem, Task, TaskKind


class Claimed(Struct, frozen=True):
    """A task that this process holds, and its host as it was when it was claimed."""

    id: UUID
    process_id: UUID
    kind: TaskKind
    host_id: str
    vm_uuid: UUID | None
    vm_name: str | None
    uri: str | None
    params: Any
    parent_id: UUID | None
    request_id: str | None
    requested_by: str
    traceparent: str | None
    waited_s: float
    host_db_id: int | None
    host_uri: str | None
    host_state: str | None
    host_error: Problem | None
    others_wait: bool
    """There were more tasks in its lane, which may be done now or when this one is."""


ENDED: Final = object()
"""The result of work that has written its end together with what it did."""


def end(
    change: Change,
    task: Claimed,
    result: object = None,
    problem: Problem | None = None,
) -> None:
    """Write how a task ended, unless it has, and tell whoever waits."""
    ended = change.one(
        sql.tasks.end,
        Task,
        id=task.id,
        process_id=task.process_id,
        state="failed" if problem else "done",
        problem=_jsonb(problem),
        result=_jsonb(result),
    )
    # Also when it had ended: the answer to an earlier try may have been lost.
    change.publish(bus.task_ended(task.id, ended))
    if task.parent_id is not None:
        change.publish(bus.task_ended(task.parent_id))


def _jsonb(value: object) -> Jsonb | None:
    return None if value is None else Jsonb(value)
