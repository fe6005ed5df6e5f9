"""/api/tasks: what was asked of the hosts, and how it ended."""

from uuid import UUID

import falcon.asgi

from api.contract import contract
from api.http import query
from api.inventory import uuid_of
from api.outcome import Outcomes
from api.pages import beyond, page, position
from common.db import AsyncReader, sql
from common.errors import UnknownTask
from common.shapes import Task
from common.shapes.parameters import TaskSearch, TaskWait

PAGE = 100

Request = falcon.asgi.Request
Response = falcon.asgi.Response


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
            before=position(asked.cursor, UUID),
            limit=beyond(limit),
        )
        resp.media = page(req, resp, found, limit, lambda task: task.id)


class OneTask:
    """One task; ``?wait=SECONDS`` answers when it ended, or after so long."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    @contract(
        "Look at a task, or wait for its end", answers={200: Task}, query=TaskWait
    )
    async def on_get(self, req: Request, resp: Response, task_id: str) -> None:
        wait_s = query(req, TaskWait).wait
        known = uuid_of(task_id)
        task = known and await self._outcomes.of_known(known, wait_s)
        if not task:
            raise UnknownTask(f"There is no task {task_id}; GET /api/tasks lists them.")
        resp.media = task
