"""/api/tasks: what was asked of the hosts, and how it ended."""

from uuid import UUID

import falcon.asgi
from msgspec import Struct

from api.audit import noted
from api.contract import contract
from api.http import query
from api.idempotency import Answered, claim
from api.inventory import uuid_of
from api.outcome import Outcomes, TaskId, encoded
from api.pages import beyond, page, position
from api.principal import Principal, principal_of
from common import bus
from common.changes import AsyncChange, AsyncChanges
from common.db import AsyncReader, sql
from common.denials import RoleTooLow
from common.errors import TaskBegun, TaskCancelled, UnknownTask, problem_of
from common.shapes import Task, TaskKind
from common.shapes.parameters import TaskSearch, TaskWait

PAGE = 100
OF_HOSTS = ("connect", "move", "check")

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Seen(Struct, frozen=True):
    """A task that may be seen."""

    id: UUID
    kind: TaskKind


def _unknown(task_id: str) -> UnknownTask:
    return UnknownTask(f"There is no task {task_id}; GET /api/tasks lists them.")


class Tasks:
    """All tasks, newest first; what a monitor asks for only if its kind is named."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows

    @contract("List what was asked", answers={200: list[Task]}, query=TaskSearch)
    async def on_get(self, req: Request, resp: Response) -> None:
        asked = query(req, TaskSearch)
        limit = asked.limit or PAGE
        found = await self._rows.all(
            sql.tasks.list,
            Task,
            host=asked.host,
            vm=asked.vm,
            vm_uuid=uuid_of(asked.vm or ""),
            state=asked.state,
            kind=asked.kind,
            parent=asked.parent,
            before=position(asked.cursor, UUID),
            sight=principal_of(req).sight,
            limit=beyond(limit),
        )
        resp.media = page(req, resp, found, limit, lambda task: task.id)


class OneTask:
    """One task; ``?wait=SECONDS`` answers when it ended, or after so long."""

    def __init__(
        self, rows: AsyncReader, changes: AsyncChanges, outcomes: Outcomes
    ) -> None:
        self._rows = rows
        self._changes = changes
        self._outcomes = outcomes

    @contract(
        "Look at a task, or wait for its end", answers={200: Task}, query=TaskWait
    )
    async def on_get(self, req: Request, resp: Response, task_id: str) -> None:
        wait_s = query(req, TaskWait).wait
        where = {"id": uuid_of(task_id), "sight": principal_of(req).sight}
        seen = await self._rows.one(sql.tasks.seen, Seen, **where)
        task = seen and await self._outcomes.of_known(seen.id, wait_s)
        if not task:
            raise _unknown(task_id)
        resp.media = task

    @contract("Cancel a task", answers={200: Task}, problems=(TaskBegun,))
    async def on_delete(self, req: Request, resp: Response, task_id: str) -> None:
        """Cancel what has not begun: the task, or those of its children that wait. What
        has begun goes on, for libvirt cannot be stopped half-way."""
        async with self._changes.begin() as change:
            resp.media = task = await _cancelled(change, principal_of(req), task_id)
            await claim(change, req, answer=Answered(200, task))
            of = {"host_id": task.host_id, "vm_uuid": task.vm_uuid}
            of |= {"vm_name": task.vm_name, "task_id": task.id}
            await noted(change, req, "task-cancel", 200, **of)


async def _cancelled(change: AsyncChange, who: Principal, task_id: str) -> Task:
    where = {"id": uuid_of(task_id), "sight": who.sight}
    seen = await change.one(sql.tasks.seen, Seen, **where)
    if seen is None:
        raise _unknown(task_id)
    if seen.kind in OF_HOSTS and not who.may("admin"):
        raise RoleTooLow(f"A task that is to {seen.kind} a host is an admin's.")
    await change.all(sql.tasks.hold_parent, TaskId, id=seen.id)
    problem = encoded(problem_of(TaskCancelled("It was cancelled before it began.")))
    ended = await change.all(sql.tasks.cancel, TaskId, id=seen.id, problem=problem)
    change.publish(*(bus.task_ended(end) for task in ended for end in task.ends()))
    task = await change.one(sql.tasks.get, Task, id=seen.id)
    if task is None:
        raise _unknown(task_id)
    if not ended and task.state != "cancelled":
        raise TaskBegun(f"The task is {task.state}.", task=task.id)
    return task
