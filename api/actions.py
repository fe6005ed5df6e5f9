"""/api/actions: one action on many VMs, as a parent task with a child each.

The parent is a row that no worker runs: the database counts its children as they end,
and lets the next one of a host go when one there has ended.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from uuid import UUID

import falcon.asgi
from msgspec import Struct
from uuid_utils.compat import uuid7

from api.contract import Answer, contract
from api.http import body
from api.idempotency import claim
from api.inventory import unknown_host, uuid_of
from api.outcome import Order, Outcomes, TaskId, answer, encoded, row_of
from api.principal import MANY, Principal, principal_of
from api.search import filters
from common.changes import AsyncChange
from common.db import AsyncReader, sql
from common.errors import (
    HostUnreachable,
    InvalidRequest,
    UnknownHost,
    UnknownVm,
    VirtumancerError,
    VmBusy,
    problem_of,
)
from common.power import foresee
from common.queue import Bell
from common.shapes import Actions, DryRun, Foreseen, Problem, Task
from common.shapes.fleet import VmFilter

MOST: Final = 10_000
"""So many VMs at a time, however few the filter leaves out."""

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Target(Struct, frozen=True):
    """A VM that was meant, as its row is now; without a UUID there is none."""

    host_id: str
    vm_name: str
    host_state: str | None
    vm_uuid: UUID | None
    state: int | None
    busy: UUID | None


class Child(NamedTuple):
    id: UUID
    target: Target
    problem: Problem | None


class FleetActions:
    """One action on many VMs."""

    def __init__(self, rows: AsyncReader, outcomes: Outcomes, per_host: int) -> None:
        self._rows = rows
        self._outcomes = outcomes
        self._per_host = per_host

    @contract(
        "Act on many VMs",
        answers={
            200: Answer(Task | DryRun, "All have ended; or what would happen."),
        },
        body=Actions,
        waits=True,
    )
    async def on_post(self, req: Request, resp: Response) -> None:
        """One task with a child for each VM: `GET /api/tasks?parent=ID` lists them, and
        `progress` counts them. A child that is refused (the VM is busy, the host is
        down, there is no such VM) has failed with its reason, and the others go on; the
        parent has failed if one of them has. `DELETE /api/tasks/{id}` cancels those
        that have not begun. With `dry_run` nothing is done."""
        wanted = await body(req, Actions)
        req.context.action = wanted.action
        if (wanted.vms is None) == (wanted.filter is None):
            raise InvalidRequest("Name either vms or a filter.", at="$.vms")
        if wanted.filter == VmFilter():
            raise InvalidRequest(
                'An empty filter fits everything; say so with {"name": "*"}.',
                at="$.filter",
            )
        targets = await self._targets(principal_of(req), wanted)
        if wanted.dry_run:
            resp.media = _dry_run(wanted, targets)
            return

        async def write(change: AsyncChange) -> UUID:
            return await self._write(req, change, wanted, targets)

        answer(resp, req, await self._outcomes.of_written(req, write))

    async def _targets(self, who: Principal, wanted: Actions) -> list[Target]:
        if wanted.filter is not None:
            found = await self._rows.all(
                sql.vms.targets,
                Target,
                **filters(wanted.filter),
                sight=who.sight,
                limit=MOST + 1,
            )
            if len(found) > MOST:
                raise InvalidRequest(
                    f"The filter fits more than {MOST} VMs; narrow it.", at="$.filter"
                )
            return found
        for reference in wanted.vms or []:
            if not who.sees(reference.host):
                raise unknown_host(reference.host)
        named = [(v.host, v.name, uuid_of(v.name)) for v in wanted.vms or []]
        hosts, names, uuids = (list(c) for c in zip(*named, strict=True))
        found = await self._rows.all(
            sql.vms.named_targets, Target, hosts=hosts, names=names, uuids=uuids
        )
        # One that was named twice, perhaps by its UUID too, is acted on once.
        once = {(t.host_id, t.vm_uuid or t.vm_name): t for t in found}
        return list(once.values())

    async def _write(
        self, req: Request, change: AsyncChange, wanted: Actions, targets: list[Target]
    ) -> UUID:
        parent = row_of(req, Order("actions", "fleet", MANY, params=wanted))
        await claim(change, req, parent["id"])
        host_ids = sorted({target.host_id for target in targets})
        facts = {"action": wanted.action, "host_ids": host_ids, "total": len(targets)}
        await change.run(sql.tasks.add_parent, **parent, **facts)
        children = [Child(uuid7(), t, _refusal(t)) for t in targets]
        columns = _columns(child for child in children if not child.problem)
        begun = await change.all(
            sql.tasks.add_children, TaskId, **_common(parent, wanted), **columns
        )
        added = {task.id for task in begun}
        # Who was not busy when the rows were read, but is now.
        refused = [
            child if child.problem else child._replace(problem=_busy(None))
            for child in children
            if child.problem or child.id not in added
        ]
        await change.run(
            sql.tasks.add_refused_children,
            **_common(parent, wanted),
            **_columns(refused),
            problems=[encoded(child.problem) for child in refused],
        )
        await change.run(sql.tasks.settle_parent, id=parent["id"])
        per_host = wanted.per_host or self._per_host
        ready = await change.all(
            sql.tasks.let_children_go, Bell, id=parent["id"], per_host=per_host
        )
        change.ring(ready)
        return UUID(str(parent["id"]))


def _common(parent: dict[str, Any], wanted: Actions) -> dict[str, Any]:
    return {
        "parent_id": parent["id"],
        "kind": wanted.action,
        "requested_by": parent["requested_by"],
        "request_id": parent["request_id"],
    }


def _columns(children: Iterable[Child]) -> dict[str, list[Any]]:
    kept = list(children)
    return {
        "ids": [child.id for child in kept],
        "host_ids": [child.target.host_id for child in kept],
        "vm_uuids": [child.target.vm_uuid for child in kept],
        "vm_names": [child.target.vm_name for child in kept],
    }


def _dry_run(wanted: Actions, targets: list[Target]) -> DryRun:
    vms = [_foreseen(wanted.action, target) for target in targets]
    return DryRun(
        action=wanted.action,
        total=len(vms),
        acts=sum(vm.acts for vm in vms),
        refused=sum(vm.problem is not None for vm in vms),
        vms=vms,
    )


def _foreseen(action: str, target: Target) -> Foreseen:
    problem = _refusal(target)
    acts = False
    if problem is None and target.state is not None:
        try:
            acts = foresee(action, target.state)
        except VirtumancerError as error:
            problem = problem_of(error)
    return Foreseen(
        host_id=target.host_id,
        vm_uuid=target.vm_uuid,
        vm_name=target.vm_name,
        acts=acts,
        problem=problem,
    )


def _refusal(target: Target) -> Problem | None:
    """Why a VM cannot be acted on now, as far as rows can tell."""
    if target.host_state is None:
        return problem_of(UnknownHost(f"There is no host {target.host_id}."))
    if target.vm_uuid is None:
        return problem_of(
            UnknownVm(f"The host {target.host_id} has no VM {target.vm_name}.")
        )
    if target.host_state in ("unreachable", "disabled"):
        return problem_of(
            HostUnreachable(f"The host {target.host_id} is {target.host_state}.")
        )
    return _busy(target.busy) if target.busy else None


def _busy(task: UUID | None) -> Problem:
    if task is None:
        return problem_of(VmBusy("Another task was faster."))
    return problem_of(VmBusy("The VM is busy with another task.", task=task))
