"""What is asked about the whole fleet, or changed of its hosts and VMs."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct
from msgspec.structs import fields

from common.shapes.parameters import Mac
from common.shapes.resources import HostId, PowerAction, Problem, Vm


class CheckStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step on the way to a host; ``fix`` is the exact thing to do."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None


class HostCheck(Struct, frozen=True, kw_only=True):
    """What stands between us and a host; steps after one that fails are not tried."""

    uri: str
    ok: Annotated[bool, Meta(description="Whether the host can be added.")]
    steps: list[CheckStep]


Uri = Annotated[str, Meta(min_length=1, max_length=2048)]
Title = Annotated[
    str, Meta(max_length=1024, pattern=r"\A[^\x00-\x1f\x7f\ufffe\uffff]*\Z")
]
Description = Annotated[
    str,
    Meta(max_length=16384, pattern=r"\A[^\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]*\Z"),
]


class MoveHost(Struct, frozen=True, forbid_unknown_fields=True):
    """The same host at another address."""

    uri: Uri


class EditVm(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is; an empty text takes the old one away.

    What is edited holds for the VM as it runs and for its next start.
    """

    autostart: bool | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class Amount(Struct, frozen=True, kw_only=True):
    """Of all VMs, of those that are on, and of the host; null if it was never read."""

    given: int
    active: int
    there: int | None


class HostOverview(Struct, frozen=True, kw_only=True):
    """``vms_by_state`` has libvirt's virDomainState numbers as its keys."""

    id: str
    state: str
    vms: int
    vms_by_state: dict[str, int]
    vcpus: Amount
    memory_bytes: Amount


class Overview(Struct, frozen=True, kw_only=True):
    """The whole fleet in numbers."""

    hosts: int
    hosts_by_state: dict[str, int]
    vms: int
    vms_by_state: dict[str, int]
    vcpus: Amount
    memory_bytes: Amount
    by_host: list[HostOverview]


PartialVm: Any = defstruct(
    "PartialVm",
    [(field.name, field.type | UnsetType, UNSET) for field in fields(Vm)],
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    module=__name__,
    namespace={"__doc__": "A VM, or the fields of it that were asked for."},
)


Text = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]
"""Postgres knows no zero character, so nothing has a name with one."""


class VmReference(Struct, frozen=True, forbid_unknown_fields=True):
    """``name`` is the VM's name or its UUID."""

    host: HostId
    name: Annotated[Text, Meta(min_length=1, max_length=4096)]


class VmFilter(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """VMs that fit every filter, as in ``GET /api/vms``; at least one is needed."""

    host: Text | None = None
    name: Text | None = None
    state: Annotated[int, Meta(ge=0, le=7)] | None = None
    uuid: UUID | None = None
    mac: Mac | None = None
    disk: Text | None = None
    network: Text | None = None
    q: Annotated[Text, Meta(max_length=200)] | None = None


class Actions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action on many VMs: on a list or, in its place, on what fits a filter.

    ``per_host`` of them at a time on each host.
    """

    action: PowerAction
    vms: Annotated[list[VmReference], Meta(min_length=1, max_length=1000)] | None = None
    filter: VmFilter | None = None
    per_host: Annotated[int, Meta(ge=1, le=100)] | None = None
    dry_run: bool = False


class Foreseen(Struct, frozen=True, kw_only=True):
    """What would become of one VM: ``acts`` unless it is so already or refuses."""

    host_id: str
    vm_uuid: UUID | None
    vm_name: str
    acts: bool
    problem: Problem | None


class DryRun(Struct, frozen=True, kw_only=True):
    """What would happen, by the rows as they are now; nothing has been done."""

    action: PowerAction
    total: int
    acts: int
    refused: int
    vms: list[Foreseen]


class CheckHost(Struct, frozen=True, forbid_unknown_fields=True):
    """A host that may be added, or that cannot be reached; ``id`` only names it."""

    uri: Uri
    id: HostId | None = None
