"""Finds the host or the VM that an address names, or says which one is unknown."""

from uuid import UUID

from common.db import AsyncReader, sql
from common.errors import HostUnreachable, UnknownHost, UnknownVm
from common.shapes import Host, Vm

DOWN = ("unreachable", "disabled")


class Inventory:
    """Looks hosts and VMs up in Postgres."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows

    async def host(self, host_id: str) -> Host:
        host = await self._rows.one(sql.hosts.get, Host, id=_text(host_id))
        if host is None:
            raise unknown_host(host_id)
        return host

    async def reachable_host(self, host_id: str) -> None:
        """Refuse to ask anything of a host that is known not to answer."""
        _refuse_when_down(await self.host(host_id))

    async def reachable_host_of(self, vm: Vm) -> None:
        """The same for the host of a VM that was just looked up."""
        if vm.stale:
            await self.reachable_host(vm.host_id)

    async def vm(self, host_id: str, vm: str) -> Vm:
        """The VM of this name or, where no VM has that name, of this UUID."""
        named = {"vm": _text(vm), "uuid": uuid_of(vm)}
        seen = await self._rows.one(sql.vms.get, Vm, host_id=_text(host_id), **named)
        if seen is None:
            await self.host(host_id)
            raise UnknownVm(
                f"The host {host_id} has no VM {vm};"
                f" GET /api/hosts/{host_id}/vms lists them."
            )
        return seen


def unknown_host(host_id: str) -> UnknownHost:
    """Said alike of a host that is not there and of one that is none of yours."""
    return UnknownHost(f"There is no host {host_id}; GET /api/hosts lists them.")


def _refuse_when_down(host: Host) -> None:
    if host.state in DOWN:
        why = f": {host.error.detail}" if host.error else "."
        if host.state == "disabled":
            why = f"; POST /api/hosts/{host.id}/connect uses it again."
        raise HostUnreachable(f"The host {host.id} is {host.state}{why}")


def _text(name: str) -> str:
    """Postgres knows no zero character, so nothing has a name with one."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}")


def uuid_of(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None
