"""What is asked about the whole fleet, or changed of its hosts and VMs."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct
from msgspec.structs import fields

from common.shapes.parameters import (
    InNetwork,
    InState,
    Mac,
    Named,
    OfHost,
    Text,
    WithDisk,
    WithUuid,
    Words,
)
from common.shapes.resources import HostId, PowerAction, Pressed, Problem, Uri, Vm


class CheckStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step on the way to a host; ``fix`` is the exact thing to do."""

    name: Annotated[
        str,
        Meta(
            description="`dns`, `tcp`, `tls`, `host-key`, `ssh`, `socket`, `libvirt` or"
            " `kvm`."
        ),
    ]
    ok: Annotated[bool, Meta(description="Whether it worked.")]
    detail: Annotated[str, Meta(description="What was found.")]
    fix: Annotated[
        str | None, Meta(description="The exact thing to do; absent where all is well.")
    ] = None


class HostCheck(Struct, frozen=True, kw_only=True):
    """What stands between us and a host; steps after one that fails are not tried."""

    uri: str
    ok: Annotated[bool, Meta(description="Whether the host can be added.")]
    steps: list[CheckStep]


Title = Annotated[
    str,
    Meta(
        max_length=1024,
        pattern=r"\A[^\x00-\x1f\x7f\ufffe\uffff]*\Z",
        description="One line about the VM.",
    ),
]
Description = Annotated[
    str,
    Meta(
        max_length=16384,
        pattern=r"\A[^\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]*\Z",
        description="Any text about the VM.",
    ),
]


class MoveHost(Struct, frozen=True, forbid_unknown_fields=True):
    """The same host at another address."""

    uri: Uri


class EditVm(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is; an empty text takes the old one away.

    What is edited holds for the VM as it runs and for its next start.
    """

    autostart: (
        Annotated[bool, Meta(description="Whether the VM starts with its host.")]
        | UnsetType
    ) = UNSET
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class Amount(Struct, frozen=True, kw_only=True):
    """Of all VMs, of those that are on, and of the host; null if it was never read."""

    given: Annotated[int, Meta(description="What all VMs have, were they on.")]
    active: Annotated[int, Meta(description="What the VMs that are on have.")]
    there: Annotated[int | None, Meta(description="What the host has.")]


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


class VmReference(Struct, frozen=True, forbid_unknown_fields=True):
    """``name`` is the VM's name or its UUID."""

    host: HostId
    name: Annotated[Text, Meta(min_length=1, max_length=4096)]


class VmFilter(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """VMs that fit every filter, as in ``GET /api/vms``; at least one is needed."""

    host: OfHost | None = None
    name: Named | None = None
    state: InState | None = None
    uuid: WithUuid | None = None
    mac: Mac | None = None
    disk: WithDisk | None = None
    network: InNetwork | None = None
    q: Words | None = None


class Actions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action on many VMs: on a list or, in its place, on what fits a filter.

    ``per_host`` of them at a time on each host.
    """

    action: Pressed
    vms: (
        Annotated[
            list[VmReference],
            Meta(min_length=1, max_length=1000, description="These VMs."),
        ]
        | None
    ) = None
    filter: Annotated[
        VmFilter | None, Meta(description="In their place: all that fit this.")
    ] = None
    per_host: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=100,
                description="So many at a time on each host; else"
                " `VIRTUMANCER_ACTIONS_PER_HOST`.",
            ),
        ]
        | None
    ) = None
    dry_run: Annotated[
        bool, Meta(description="Only say what would happen, and do nothing.")
    ] = False


class Foreseen(Struct, frozen=True, kw_only=True):
    """What would become of one VM: ``acts`` unless it is so already or refuses."""

    host_id: str
    vm_uuid: Annotated[UUID | None, Meta(description="Null if there is no such VM.")]
    vm_name: str
    acts: Annotated[bool, Meta(description="Whether anything would be done.")]
    problem: Annotated[
        Problem | None, Meta(description="Why it would be refused; null if not.")
    ]


class DryRun(Struct, frozen=True, kw_only=True):
    """What would happen, by the rows as they are now; nothing has been done."""

    action: PowerAction
    total: Annotated[int, Meta(description="So many VMs were meant.")]
    acts: Annotated[int, Meta(description="With so many something would be done.")]
    refused: Annotated[int, Meta(description="So many would refuse.")]
    vms: list[Foreseen]


class CheckHost(Struct, frozen=True, forbid_unknown_fields=True):
    """A host that may be added, or that cannot be reached; ``id`` only names it."""

    uri: Uri
    id: Annotated[
        HostId | None, Meta(description="What the host is, or would be, called here.")
    ] = None
