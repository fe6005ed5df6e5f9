"""The answer of a task that has ended: the same whoever asks, and whenever."""

from typing import Any, Final

import falcon.asgi
import msgspec

from api.problems import TaskFailed
from common.shapes import Host, HostCheck, Task, TaskKind, Vm

UNFINISHED: Final = ("queued", "running")

SHAPES: Final[dict[TaskKind, Any]] = {
    "connect": Host,
    "move": Host,
    "edit": Vm,
    "check": HostCheck,
}
"""What a task's result is; tasks of other kinds have none."""


def answer_with(resp: falcon.asgi.Response, task: Task) -> None:
    """Answer with what the task found, or raise what it failed with."""
    if task.kind == "actions":
        # Some of its parts may have failed: the task itself says which.
        resp.media = task
    elif task.state != "done":
        raise TaskFailed(task)
    elif task.result is None:
        resp.status = 204
    else:
        resp.media = msgspec.convert(task.result, SHAPES.get(task.kind, Any))
