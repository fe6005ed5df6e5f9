"""What goes over ``/ws`` and ``/api/events``: every frame is ``{"type", "payload"}``,
and those about a subscription add ``"cursor"``.

The contract's camelCase keys (``hostId``, ``vmName``) stand where it has them.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from common.shapes.resources import DomainState, Host, HostId, Task, Vm


class VmAddress(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    host_id: Annotated[str, Meta(min_length=1, max_length=64)]
    vm_name: Annotated[str, Meta(min_length=1, max_length=4096)]


class SubscribeVmStats(Struct, frozen=True, tag_field="type", tag="subscribe-vm-stats"):
    """Asks for samples of a VM: one at once, then one every few seconds."""

    payload: VmAddress


class UnsubscribeVmStats(
    Struct, frozen=True, tag_field="type", tag="unsubscribe-vm-stats"
):
    """Asks for no more samples of a VM."""

    payload: VmAddress


Topic = Literal["hosts", "vms", "tasks"]
Topics = Annotated[list[Topic], Meta(min_length=1, max_length=3)]
HostIds = Annotated[list[HostId], Meta(max_length=1000)]
Cursor = Annotated[
    str, Meta(description="opaque: how far everything has been told", max_length=80)
]


class Subscription(Struct, frozen=True, forbid_unknown_fields=True):
    """Which resources to tell of: of all hosts, or of these; ``since`` a cursor."""

    topics: Topics
    hosts: Annotated[
        HostIds | None, Meta(description="Only of these; null for all.")
    ] = None
    since: Cursor | None = None


class Subscribe(Struct, frozen=True, tag_field="type", tag="subscribe"):
    """A socket has one subscription; another one takes its place."""

    payload: Subscription


class TopicsLeft(Struct, frozen=True, forbid_unknown_fields=True):
    topics: Topics | None = None


class Unsubscribe(Struct, frozen=True, tag_field="type", tag="unsubscribe"):
    """Leaves these topics, or all."""

    payload: TopicsLeft


ClientFrame = SubscribeVmStats | UnsubscribeVmStats | Subscribe | Unsubscribe


class HostsChanged(Struct, frozen=True, tag_field="type", tag="hosts-changed"):
    """A host came, went, was lost or was found: read the list of hosts again."""

    payload: None = None


class HostAddress(Struct, frozen=True, rename="camel"):
    host_id: str


class VmsChanged(Struct, frozen=True, tag_field="type", tag="vms-changed"):
    """Something of a host's VMs has changed: read their list again."""

    payload: HostAddress


class DiskStats(Struct, frozen=True, kw_only=True):
    """Counters since the VM's start; the rates are null until a second sample."""

    device: str
    read_bytes: int
    write_bytes: int
    read_requests: int
    write_requests: int
    read_bytes_per_s: float | None
    write_bytes_per_s: float | None


class NetStats(Struct, frozen=True, kw_only=True):
    """Counters since the VM's start; ``read`` is what the VM received."""

    device: str
    read_bytes: int
    write_bytes: int
    read_packets: int
    write_packets: int
    read_bytes_per_s: float | None
    write_bytes_per_s: float | None


class VmStats(Struct, frozen=True, kw_only=True):
    """One sample. ``memory`` and ``max_mem`` are KiB, ``cpu_time`` nanoseconds.

    ``cpu_percent`` is 100 for one virtual CPU that is busy all the time.
    """

    state: DomainState
    memory: Annotated[int, Meta(description="KiB that the VM has now.")]
    max_mem: Annotated[int, Meta(description="KiB that it may have.")]
    vcpu: Annotated[int, Meta(description="Virtual CPUs that are there now.")]
    cpu_time: Annotated[int, Meta(description="Nanoseconds since the VM's start.")]
    cpu_percent: Annotated[
        float | None,
        Meta(description="100 is one virtual CPU; null until a second sample."),
    ]
    disk_stats: list[DiskStats]
    net_stats: list[NetStats]


class VmStatsPayload(Struct, frozen=True, rename="camel"):
    host_id: str
    vm_name: str
    stats: VmStats


class VmStatsUpdated(Struct, frozen=True, tag_field="type", tag="vm-stats-updated"):
    """A sample of a VM that was asked for."""

    payload: VmStatsPayload


class FrameError(Struct, frozen=True):
    """``request`` is the message that could not be served, as it came."""

    code: Annotated[
        str, Meta(description="The last word of a problem's type: `unknown-vm`.")
    ]
    message: Annotated[str, Meta(description="What happened and what to do.")]
    request: Any


class ErrorFrame(Struct, frozen=True, tag_field="type", tag="error"):
    """A message that could not be served; the socket stays open."""

    payload: FrameError


Missed = Literal["nothing", "follows", "too-old"]


class Subscribed(Struct, frozen=True):
    """What is told from now on, and whether anything was missed since the cursor.

    ``nothing``: nothing was. ``follows``: it comes next, the last state of each
    resource, and then ``replayed``. ``too-old``: nobody knows any more; read the lists
    again, from now on all is told. Null: no cursor was given.
    """

    topics: list[Topic]
    hosts: list[HostId] | None
    missed: Missed | None


class SubscribedFrame(Struct, frozen=True, tag_field="type", tag="subscribed"):
    """The answer to a subscription: what holds from here on."""

    payload: Subscribed
    cursor: Cursor


class Replay(Struct, frozen=True):
    """How many frames told what was missed."""

    frames: int


class Replayed(Struct, frozen=True, tag_field="type", tag="replayed"):
    """All that was missed has been told; from here on it is news."""

    payload: Replay
    cursor: Cursor


class TopicsKept(Struct, frozen=True):
    topics: list[Topic]


class Unsubscribed(Struct, frozen=True, tag_field="type", tag="unsubscribed"):
    """The topics that are still told of."""

    payload: TopicsKept


class VmUpdated(Struct, frozen=True, tag_field="type", tag="vm-updated"):
    """A VM, as it is now: new, or changed."""

    payload: Vm
    cursor: Cursor


class VmIdentity(Struct, frozen=True):
    host_id: str
    uuid: UUID


class VmRemoved(Struct, frozen=True, tag_field="type", tag="vm-removed"):
    """A VM that is no longer there."""

    payload: VmIdentity
    cursor: Cursor


class HostUpdated(Struct, frozen=True, tag_field="type", tag="host-updated"):
    """A host, as it is now: new, or changed."""

    payload: Host
    cursor: Cursor


class HostIdentity(Struct, frozen=True):
    id: str


class HostRemoved(Struct, frozen=True, tag_field="type", tag="host-removed"):
    """A host that was removed, and all its VMs with it."""

    payload: HostIdentity
    cursor: Cursor


class TaskUpdated(Struct, frozen=True, tag_field="type", tag="task-updated"):
    """A task, as it is now: new, or changed."""

    payload: Task
    cursor: Cursor


NewsFrame = VmUpdated | VmRemoved | HostUpdated | HostRemoved | TaskUpdated
"""The whole resource as REST returns it, or the identity of one that is gone."""

ServerFrame = (
    HostsChanged
    | VmsChanged
    | VmStatsUpdated
    | ErrorFrame
    | SubscribedFrame
    | Replayed
    | Unsubscribed
    | NewsFrame
)
