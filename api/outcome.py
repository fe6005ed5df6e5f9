"""Row, message, await: how a request asks the workers for something.

The task is written and rung for in one Change. The relay says when it ended; whatever
the relay says or misses, the row is what is answered from.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import falcon.asgi
import msgspec
from msgspec import Struct
from uuid_utils.compat import uuid7

from api.audit import origin_of
from api.ended import UNFINISHED, answer_with
from api.http import preferences
from api.idempotency import MUTATIONS, claim, has_key
from api.principal import principal_of
from api.relay import Relay
from common.changes import AsyncChange, AsyncChanges
from common.db import AsyncReader, sql
from common.errors import StoreUnavailable, VirtumancerError
from common.queue import Bell
from common.shapes import Task, TaskKind


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks of a host."""

    kind: TaskKind
    lane: Literal["power", "look", "fleet"]
    host_id: str
    vm_uuid: UUID | None = None
    vm_name: str | None = None
    uri: str | None = None
    params: object = None
    """What the worker needs to know besides."""


class TaskId(Struct, frozen=True):
    id: UUID
    parent_id: UUID | None = None

    def ends(self) -> list[UUID]:
        """The tasks to look at again when this one has ended."""
        return [self.id] if self.parent_id is None else [self.id, self.parent_id]


Refusal = Callable[[Task | None], VirtumancerError]
"""The error of an order that another unfinished task stands in the way of."""

Check = Callable[[AsyncChange], Awaitable[None]]
"""Raises what forbids an order, looked at when nobody else can come in between."""


class Outcomes:
    """Writes tasks and awaits their end."""

    def __init__(
        self, changes: AsyncChanges, rows: AsyncReader, relay: Relay, wait_s: float
    ) -> None:
        self._changes = changes
        self._rows = rows
        self._relay = relay
        self._wait_s = wait_s

    async def of_new(
        self,
        req: falcon.asgi.Request,
        order: Order,
        refusal: Refusal,
        check: Check | None = None,
    ) -> Task:
        """Ask for something that only one task at a time may do."""
        row = row_of(req, order)
        alone = check is None and not has_key(req)
        begin = self._changes.begin_single if alone else self._changes.begin
        # A worker may have done it before we hear that it was written.
        end = self._relay.end_of(row["id"])
        async with begin() as change:
            await claim(change, req, row["id"])
            added = await change.one(sql.tasks.add, TaskId, **row)
            if added is None:
                where = {"host_id": order.host_id, "vm_uuid": order.vm_uuid}
                raise refusal(await change.one(sql.tasks.busy, Task, **where))
            if check is not None:
                await check(change)
            change.ring([Bell(added.id, order.host_id, order.lane)])
        req.context.asked = True
        return await self._awaited(added.id, end, self._patience_s(req))

    async def of_look(self, req: falcon.asgi.Request, order: Order) -> Task:
        """Ask for a look at libvirt, or join the same one that has not begun."""
        async with self._changes.begin() as change:
            row = row_of(req, order)
            added = await change.one(sql.tasks.join_look, TaskId, **row)
            assert added is not None
            await claim(change, req, added.id)
            if row["origin"]:
                await change.run(sql.audit.joined, **row | {"task_id": added.id})
            end = self._relay.end_of(added.id)
            change.ring([Bell(added.id, order.host_id, order.lane)])
        req.context.asked = True
        return await self._awaited(added.id, end, self._patience_s(req))

    async def of_written(
        self, req: falcon.asgi.Request, write: Callable[[AsyncChange], Awaitable[UUID]]
    ) -> Task:
        """Await a task that ``write`` writes itself."""
        async with self._changes.begin() as change:
            task_id = await write(change)
        req.context.asked = True
        # It may have ended as it was written, and nobody tells of that.
        task = await self.of_known(task_id, self._patience_s(req))
        return task or await self._row(task_id)

    async def of_known(self, task_id: UUID, wait_s: float) -> Task | None:
        """The task as it is when it ended, or after so long."""
        end = self._relay.end_of(task_id)
        task = await self._rows.one(sql.tasks.get, Task, id=task_id)
        if task is None or task.state not in UNFINISHED or wait_s == 0:
            return task
        return await self._awaited(task_id, end, wait_s)

    async def _awaited(
        self, task_id: UUID, end: "asyncio.Future[Task | None]", wait_s: float
    ) -> Task:
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        while True:
            left_s = 0 if self._relay.stopping else deadline - clock()
            await asyncio.wait({end}, timeout=max(0, left_s))
            if end.done() and (ended := end.result()):
                return ended
            # Asked for before the look, so that no end falls in between.
            end = self._relay.end_of(task_id)
            task = await self._row(task_id)
            late = self._relay.stopping or clock() >= deadline
            if late or task.state not in UNFINISHED:
                return task

    async def _row(self, task_id: UUID) -> Task:
        try:
            task = await self._rows.one(sql.tasks.get, Task, id=task_id)
        except StoreUnavailable as error:
            raise StoreUnavailable(
                "The database does not answer any more; what was asked for may still"
                f" be done. How it ends will stand at /api/tasks/{task_id}.",
                task=task_id,
            ) from error
        if task is None:
            raise StoreUnavailable("The record of the task was removed.", task=task_id)
        return task

    def _patience_s(self, req: falcon.asgi.Request) -> float:
        asked = preferences(req)
        if asked.wait_s is not None:
            return asked.wait_s
        return 0 if asked.respond_async else self._wait_s


def row_of(req: falcon.asgi.Request, order: Order) -> dict[str, Any]:
    """A new task's row; ``origin`` is for the audit, which looks are no matter of."""
    params = None if order.params is None else encoded(order.params)
    changes = req.method in MUTATIONS
    return {
        "id": uuid7(),
        "kind": order.kind,
        "lane": order.lane,
        "host_id": order.host_id,
        "vm_uuid": order.vm_uuid,
        "vm_name": order.vm_name,
        "uri": order.uri,
        "params": params,
        "requested_by": principal_of(req).name,
        "request_id": req.context.request_id,
        "origin": origin_of(req, order.uri or params) if changes else None,
    }


def encoded(value: object) -> str:
    """The value as it goes into a column of JSON."""
    return msgspec.json.encode(value).decode()


def answer(resp: falcon.asgi.Response, req: falcon.asgi.Request, task: Task) -> None:
    """Answer with how the task ended, or with 202 and the task if it goes on."""
    asked = preferences(req)
    applied = [f"wait={asked.wait_s:g}"] if asked.wait_s is not None else []
    if task.state in UNFINISHED:
        applied += ["respond-async"] * asked.respond_async
    if applied:
        resp.set_header("Preference-Applied", ", ".join(applied))
    if task.state not in UNFINISHED:
        answer_with(resp, task)
        return
    resp.status = 202
    resp.set_header("Location", f"/api/tasks/{task.id}")
    resp.media = task
