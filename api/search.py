"""/api/vms and /api/overview: the whole fleet at a glance, from Postgres alone."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import falcon.asgi
import msgspec
from msgspec import Struct, to_builtins

from api.contract import contract
from api.http import query
from api.pages import beyond, page, position
from api.principal import principal_of
from common.db import AsyncReader, sql
from common.errors import InvalidRequest
from common.shapes import Amount, HostOverview, Overview, PartialVm, Vm
from common.shapes.parameters import VmSearch
from common.shapes.resources import DbId

PAGE = 1000

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Place(Struct, frozen=True, array_like=True):
    """The last VM of a page, by what the list is sorted by."""

    sort: str
    key: str | int
    db_id: DbId


class Vms:
    """VMs of all hosts: which one has this MAC, this disk, this name?"""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows

    @contract(
        "Search VMs over all hosts", answers={200: list[PartialVm]}, query=VmSearch
    )
    async def on_get(self, req: Request, resp: Response) -> None:
        """Those that fit every filter. `*` in `name` and in `q` stands for anything;
        `q` looks at name, title, description, UUID, host, MACs, disks and networks,
        capitals or not. `-` before a field sorts downwards. A page begins after the
        last VM of the page before, whatever was added or removed meanwhile."""
        asked = query(req, VmSearch)
        fields = _fields(asked.fields)
        limit = asked.limit or PAGE
        by = asked.sort.removeprefix("-")
        found = await self._rows.all(
            sql.vms.search,
            Vm,
            **filters(asked),
            **_after(asked),
            sight=principal_of(req).sight,
            by=by,
            down=asked.sort.startswith("-"),
            limit=beyond(limit),
        )

        def place(vm: Vm) -> Place:
            return Place(asked.sort, 0 if by == "db_id" else getattr(vm, by), vm.db_id)

        shown = page(req, resp, found, limit, place)
        resp.media = _only(shown, fields) if fields else shown


def filters(asked: Any) -> dict[str, object]:
    """What ``sql.vms.search`` takes for these filters."""
    name, q = asked.name, asked.q
    mac = asked.mac and asked.mac.lower()
    return {
        "host": asked.host,
        "name": name and _pattern(name),
        # What the index of words can tell of a name with something left open.
        "name_words": (name and "*" in name and f"%{_pattern(name.lower())}%") or None,
        "state": asked.state,
        "uuid": asked.uuid,
        "mac": mac and _having("networks", {"mac": {"address": mac}}),
        "disk": None if asked.disk is None else _having("disks", {"path": asked.disk}),
        "network": asked.network,
        "q": q and f"%{_pattern(q.lower())}%",
    }


def _pattern(wanted: str) -> str:
    """In the words of SQL's LIKE."""
    for special in "\\%_":
        wanted = wanted.replace(special, f"\\{special}")
    return wanted.replace("*", "%")


def _having(devices: str, facts: dict[str, Any]) -> str:
    """The jsonb that a VM's hardware contains if one of its devices is like this."""
    return msgspec.json.encode({devices: [facts]}).decode()


def _after(asked: VmSearch) -> dict[str, object]:
    place = position(asked.cursor, Place)
    if place and place.sort != asked.sort:
        raise InvalidRequest(
            "The cursor belongs to a list that is sorted otherwise.", at="?cursor"
        )
    key = place.key if place else None
    return {
        "after_text": key if isinstance(key, str) else None,
        "after_number": key if isinstance(key, int) else None,
        "after": place.db_id if place else None,
    }


def _fields(asked: str | None) -> list[str]:
    fields = asked.split(",") if asked is not None else []
    for field in fields:
        if field not in Vm.__struct_fields__:
            known = ", ".join(Vm.__struct_fields__)
            raise InvalidRequest(
                f"A VM has no field {field!r}; it has {known}.", at="?fields"
            )
    return fields


def _only(vms: list[Vm], fields: list[str]) -> list[dict[str, Any]]:
    return [{field: getattr(vm, field) for field in fields} for vm in vms]


class _HostSums(Struct, frozen=True):
    id: str
    state: str
    cpu_count: int | None
    memory_bytes: int | None
    vms: int
    vms_by_state: dict[str, int]
    vcpus: int
    active_vcpus: int
    vm_memory_bytes: int
    active_vm_memory_bytes: int


class FleetOverview:
    """How much there is, and how much of it is given out."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows

    @contract("Count the fleet", answers={200: Overview})
    async def on_get(self, req: Request, resp: Response) -> None:
        """Hosts and VMs by state, memory and virtual CPUs given out against what is
        there, over all and host by host."""
        sums = await self._rows.all(
            sql.hosts.overview, _HostSums, sight=principal_of(req).sight
        )
        hosts = [_of_host(one) for one in sums]
        states: Counter[str] = Counter()
        for one in sums:
            states.update(one.vms_by_state)
        resp.media = Overview(
            hosts=len(hosts),
            hosts_by_state=dict(Counter(one.state for one in sums)),
            vms=sum(host.vms for host in hosts),
            vms_by_state=dict(sorted(states.items())),
            vcpus=_sum(host.vcpus for host in hosts),
            memory_bytes=_sum(host.memory_bytes for host in hosts),
            by_host=hosts,
        )


def _of_host(one: _HostSums) -> HostOverview:
    return HostOverview(
        id=one.id,
        state=one.state,
        vms=one.vms,
        vms_by_state=one.vms_by_state,
        vcpus=Amount(given=one.vcpus, active=one.active_vcpus, there=one.cpu_count),
        memory_bytes=Amount(
            given=one.vm_memory_bytes,
            active=one.active_vm_memory_bytes,
            there=one.memory_bytes,
        ),
    )


def _sum(amounts: Iterable[Amount]) -> Amount:
    """Over all hosts; what is there counts those that were looked at once."""
    found = [to_builtins(amount) for amount in amounts]
    return Amount(
        **{n: sum(f[n] or 0 for f in found) for n in Amount.__struct_fields__}
    )
