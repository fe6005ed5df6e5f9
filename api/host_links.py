"""/api/hosts/{id}/connect, /disconnect, /sync: the link to a host, as users want it."""

import falcon.asgi

from api.audit import noted
from api.contract import contract
from api.idempotency import Answered, claim
from api.inventory import Inventory, unknown_host
from api.outcome import Order, Outcomes, answer
from common import bus
from common.changes import AsyncChange, AsyncChanges
from common.db import Query, sql
from common.errors import HostUnreachable
from common.shapes import Host

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class HostConnect:
    """A host that is in use: its monitor connects, and tries again by itself."""

    def __init__(self, changes: AsyncChanges) -> None:
        self._changes = changes

    @contract("Use a host again", answers={200: Host})
    async def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """Undo a disconnect. Answered at once with the host, ``connecting`` until its
        monitor has got through; nothing changes for a host that is in use."""
        async with self._changes.begin() as change:
            resp.media = await _switched(change, req, sql.hosts.enable, host_id)
            await noted(change, req, "host-connect", 200, host_id=host_id)


class HostDisconnect:
    """A host that is left alone, until somebody connects it again."""

    def __init__(self, changes: AsyncChanges) -> None:
        self._changes = changes

    @contract("Leave a host alone", answers={200: Host})
    async def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """Let the connection go until ``connect``, also over restarts of everything.
        The host is ``disabled``: its VMs are answered as they last were, marked
        ``stale``, and nothing is asked of it."""
        async with self._changes.begin() as change:
            resp.media = await _switched(change, req, sql.hosts.disable, host_id)
            await change.run(sql.hosts.let_go, id=host_id)
            await noted(change, req, "host-disconnect", 200, host_id=host_id)


async def _switched(
    change: AsyncChange, req: Request, switch: Query, host_id: str
) -> Host:
    """The host, switched unless it was so already."""
    if await change.run(switch, id=host_id):
        change.publish(*bus.hosts_changed(host_id), bus.vms_changed(host_id))
    host = await change.one(sql.hosts.get, Host, id=host_id)
    if host is None:
        raise unknown_host(host_id)
    await claim(change, req, answer=Answered(200, host))
    return host


class HostSync:
    """A look at everything that a host has."""

    def __init__(self, inventory: Inventory, outcomes: Outcomes) -> None:
        self._inventory = inventory
        self._outcomes = outcomes

    @contract(
        "Look at all VMs of a host now",
        answers={204: None},
        waits=True,
        problems=(HostUnreachable,),
    )
    async def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """Answered when every VM has been looked at; rarely needed, for changes are
        heard of by themselves."""
        await self._inventory.reachable_host(host_id)
        order = Order("sync_host", "look", host_id)
        answer(resp, req, await self._outcomes.of_look(req, order))
