"""/api/hosts: the physical machines."""

import falcon.asgi
import msgspec

from api.audit import noted
from api.contract import contract
from api.etags import unless_changed
from api.http import body, query
from api.idempotency import Answered, claim
from api.inventory import Inventory, unknown_host
from api.outcome import Order, Outcomes, TaskId, answer
from api.pages import beyond, page, position
from api.principal import may_reach, principal_of
from common import bus, uri
from common.changes import AsyncChange, AsyncChanges
from common.db import AsyncReader, sql
from common.denials import HostOutsideToken
from common.errors import (
    ConnectionFailed,
    HostIdTaken,
    HostRemoved,
    InvalidRequest,
    UriNotAllowed,
    problem_of,
)
from common.shapes import AddHost, Host, HostInfo, MoveHost, Task
from common.shapes.parameters import Paging
from common.shapes.resources import HostId
from common.uri_policy import UriPolicy

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Hosts:
    """All hosts."""

    def __init__(
        self,
        rows: AsyncReader,
        inventory: Inventory,
        outcomes: Outcomes,
        policy: UriPolicy,
    ) -> None:
        self._rows = rows
        self._inventory = inventory
        self._outcomes = outcomes
        self._policy = policy

    @contract("List the hosts", answers={200: list[Host]}, query=Paging)
    async def on_get(self, req: Request, resp: Response) -> None:
        asked = query(req, Paging)
        found = await self._rows.all(
            sql.hosts.list,
            Host,
            sight=principal_of(req).sight,
            after=position(asked.cursor, HostId),
            limit=beyond(asked.limit),
        )
        resp.media = page(req, resp, found, asked.limit, lambda host: host.id)

    @contract(
        "Add a host",
        answers={200: Host},
        body=AddHost,
        waits=True,
        problems=(HostIdTaken, UriNotAllowed, ConnectionFailed, HostOutsideToken),
    )
    async def on_post(self, req: Request, resp: Response) -> None:
        """Have a worker connect to the host; it writes the row if that succeeds."""
        new = await body(req, AddHost)
        if new.id == "check":
            raise InvalidRequest("`check` is no id: it is a path of ours.", at="$.id")
        may_reach(principal_of(req), new.id)
        address = uri.parse(new.uri, self._policy)

        async def is_free(change: AsyncChange) -> None:
            if await change.one(sql.hosts.get, Host, id=new.id):
                raise HostIdTaken(f"There is a host {new.id}; choose another id.")

        order = Order("connect", "power", new.id, uri=str(address))
        task = await self._outcomes.of_new(req, order, _being_added, is_free)
        answer(resp, req, task)


def _being_added(task: Task | None) -> HostIdTaken:
    if task is None:
        return HostIdTaken("A host with this id was just being added; try again.")
    return HostIdTaken("A host with this id is just being added.", task=task.id)


class OneHost:
    """One host."""

    def __init__(
        self,
        changes: AsyncChanges,
        inventory: Inventory,
        outcomes: Outcomes,
        policy: UriPolicy,
    ) -> None:
        self._changes = changes
        self._inventory = inventory
        self._outcomes = outcomes
        self._policy = policy

    @contract("Look at a host", answers={200: Host})
    async def on_get(self, req: Request, resp: Response, host_id: str) -> None:
        resp.media = await self._inventory.host(host_id)

    @contract(
        "Move a host to another URI",
        answers={200: Host},
        body=MoveHost,
        waits=True,
        conditional=True,
        problems=(HostIdTaken, UriNotAllowed, ConnectionFailed),
    )
    async def on_patch(self, req: Request, resp: Response, host_id: str) -> None:
        """Have a worker connect to the host at its new address and read it; if that
        fails, all stays as it was."""
        new = await body(req, MoveHost)
        address = uri.parse(new.uri, self._policy)

        async def is_the_same(change: AsyncChange) -> None:
            unless_changed(req, await _host(change, host_id))

        await self._inventory.host(host_id)
        order = Order("move", "power", host_id, uri=str(address))
        task = await self._outcomes.of_new(req, order, _being_added, is_the_same)
        answer(resp, req, task)

    @contract("Remove a host", answers={204: None}, conditional=True)
    async def on_delete(self, req: Request, resp: Response, host_id: str) -> None:
        """Remove the row; the monitor that owns it lets the connection go."""
        removal = HostRemoved(f"The host {host_id} was removed.")
        problem = msgspec.json.encode(problem_of(removal)).decode()
        async with self._changes.begin() as change:
            await claim(change, req, answer=Answered(204))
            unless_changed(req, await _host(change, host_id))
            await change.run(sql.hosts.remove, id=host_id)
            await noted(change, req, "host-remove", 204, host_id=host_id)
            ended = await change.all(
                sql.tasks.end_of_host, TaskId, host_id=host_id, problem=problem
            )
            change.publish(*bus.hosts_changed(host_id))
            change.publish(
                *(bus.task_ended(end) for task in ended for end in task.ends())
            )
        resp.status = 204


async def _host(change: AsyncChange, host_id: str) -> Host:
    """The host, which nobody else can change meanwhile."""
    host = await change.one(sql.hosts.hold, Host, id=host_id)
    if host is None:
        raise unknown_host(host_id)
    return host


class HostInformation:
    """What a host is and has, asked of libvirt now."""

    def __init__(self, inventory: Inventory, outcomes: Outcomes) -> None:
        self._inventory = inventory
        self._outcomes = outcomes

    @contract("Ask a host what it is and has", answers={200: HostInfo}, waits=True)
    async def on_get(self, req: Request, resp: Response, host_id: str) -> None:
        await self._inventory.reachable_host(host_id)
        task = await self._outcomes.of_look(req, Order("info", "look", host_id))
        answer(resp, req, task)
