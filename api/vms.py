"""VMs: of one host, one by name, its hardware, its power."""

from typing import Any

import falcon.asgi
import msgspec
from msgspec import Struct

from api.contract import OF_A_TASK, PREFER, contract
from api.ended import UNFINISHED
from api.etags import unless_changed
from api.http import body, query
from api.inventory import Inventory
from api.listings import Listings
from api.outcome import Check, Order, Outcomes, answer
from api.problems import TaskFailed
from common.changes import AsyncChange
from common.db import AsyncReader, sql
from common.errors import (
    HostTimeout,
    HostUnreachable,
    InvalidRequest,
    UnknownVm,
    VmBusy,
    WrongState,
)
from common.shapes import Action, EditVm, Task, Vm, VmHardware
from common.shapes.parameters import Paging

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class HostVms:
    """The VMs of one host, from Postgres alone."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings

    @contract("List the VMs of a host", answers={200: list[Vm]}, query=Paging)
    async def on_get(self, req: Request, resp: Response, host_id: str) -> None:
        await self._listings.answer(req, resp, host_id, query(req, Paging))


class OneVm:
    """One VM, from Postgres alone."""

    def __init__(self, inventory: Inventory, outcomes: Outcomes) -> None:
        self._inventory = inventory
        self._outcomes = outcomes

    @contract("Look at a VM", answers={200: Vm})
    async def on_get(self, req: Request, resp: Response, host_id: str, vm: str) -> None:
        resp.media = await self._inventory.vm(host_id, vm)

    @contract(
        "Edit a VM: autostart, title, description",
        answers={200: Vm},
        body=EditVm,
        waits=True,
        conditional=True,
        problems=(VmBusy, WrongState),
    )
    async def on_patch(
        self, req: Request, resp: Response, host_id: str, vm: str
    ) -> None:
        """Answer with the VM when libvirt has done it."""
        wanted = await body(req, EditVm)
        if wanted == EditVm():
            raise InvalidRequest("Nothing to edit was named.", at="$")
        seen = await self._inventory.vm(host_id, vm)
        await self._inventory.reachable_host_of(seen)
        order = Order("edit", "power", host_id, seen.uuid, seen.name, params=wanted)
        check = _unless_changed(req, seen)
        answer(resp, req, await self._outcomes.of_new(req, order, _busy, check))


class _Kept(Struct, frozen=True):
    hardware: dict[str, Any] | None


class VmHardwares:
    """A VM's hardware, looked at afresh where the host answers."""

    def __init__(
        self, rows: AsyncReader, inventory: Inventory, outcomes: Outcomes
    ) -> None:
        self._rows = rows
        self._inventory = inventory
        self._outcomes = outcomes

    @contract(
        "Look at a VM's hardware",
        answers={200: VmHardware},
        takes=(PREFER,),
        problems=OF_A_TASK,
    )
    async def on_get(self, req: Request, resp: Response, host_id: str, vm: str) -> None:
        seen = await self._inventory.vm(host_id, vm)
        obstacle = await self._sync(req, seen)
        kept = await self._rows.one(sql.vms.hardware, _Kept, db_id=seen.db_id)
        if kept is None:
            raise UnknownVm(f"The VM {vm} is no longer on the host {host_id}.")
        if kept.hardware is None:
            raise obstacle or HostTimeout("The VM's hardware could not be read yet.")
        stale = {"stale": obstacle is not None}
        resp.media = msgspec.convert(kept.hardware | stale, VmHardware)

    async def _sync(self, req: Request, vm: Vm) -> Exception | None:
        """Have libvirt looked at; what came in the way of it, unless the VM is gone."""
        try:
            await self._inventory.reachable_host_of(vm)
        except HostUnreachable as error:
            return error
        order = Order("sync_vm", "look", vm.host_id, vm.uuid, vm.name)
        task = await self._outcomes.of_look(req, order)
        if task.state in UNFINISHED:
            return HostTimeout("The host has not answered yet.", task=task.id)
        if task.state == "done":
            return None
        failure = TaskFailed(task)
        if failure.problem.status == UnknownVm.status:
            raise failure
        return failure


class VmAction:
    """A VM's power."""

    def __init__(self, inventory: Inventory, outcomes: Outcomes) -> None:
        self._inventory = inventory
        self._outcomes = outcomes

    @contract(
        "Press a VM's power button",
        answers={204: None},
        body=Action,
        waits=True,
        conditional=True,
        problems=(VmBusy, WrongState),
    )
    async def on_post(
        self, req: Request, resp: Response, host_id: str, vm: str
    ) -> None:
        """Answer when libvirt has done it, or with the task if that takes longer."""
        wanted = await body(req, Action)
        req.context.action = wanted.action
        seen = await self._inventory.vm(host_id, vm)
        await self._inventory.reachable_host_of(seen)
        order = Order(wanted.action, "power", host_id, seen.uuid, seen.name)
        check = _unless_changed(req, seen)
        task = await self._outcomes.of_new(req, order, _busy, check)
        answer(resp, req, task)


def _unless_changed(req: Request, seen: Vm) -> Check | None:
    """Look at ``If-Match`` when nobody else may act on the VM any more."""
    if req.get_header("If-Match") is None:
        return None

    async def check(change: AsyncChange) -> None:
        where = {"host_id": seen.host_id, "vm": None, "uuid": seen.uuid}
        now = await change.one(sql.vms.get, Vm, **where)
        unless_changed(req, now or seen)

    return check


def _busy(task: Task | None) -> VmBusy:
    if task is None:
        return VmBusy("Another task has just ended; try again.")
    return VmBusy(
        f"The VM is busy: {task.kind} is {task.state}. Wait for it at"
        f" GET /api/tasks/{task.id}?wait=30.",
        task=task.id,
    )
