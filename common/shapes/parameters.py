"""What may stand behind the question mark of a URL."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from common.shapes.access import AuditEvent
from common.shapes.resources import TaskKind, TaskState

Limit = Annotated[int, Meta(ge=1, le=1000, description="So many at most in a page.")]
Cursor = Annotated[
    str, Meta(description="Opaque: out of the `Link` header of the page before.")
]
Seconds = Annotated[float, Meta(ge=0, le=300)]

# What VMs are chosen by, in `GET /api/vms` and in `POST /api/actions` alike.
Text = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]
"""Postgres knows no zero character, so nothing has a name with one."""
OfHost = Annotated[Text, Meta(description="On the host with this id.")]
Named = Annotated[
    Text, Meta(description="With this name; `*` stands for any characters.")
]
InState = Annotated[
    int,
    Meta(
        ge=0,
        le=7,
        description="In this state, by libvirt's number (virDomainState): 1 running,"
        " 3 paused, 4 shutting down, 5 off, 6 crashed, 7 asleep.",
    ),
]
WithUuid = Annotated[UUID, Meta(description="With this UUID.")]
Mac = Annotated[
    str,
    Meta(
        pattern=r"\A([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z",
        description="With a NIC of this MAC address, in capitals or not.",
    ),
]
WithDisk = Annotated[
    Text,
    Meta(
        description="With this disk: a path, a device or a volume, in full, as `path`"
        " has it in the VM's hardware."
    ),
]
InNetwork = Annotated[
    Text,
    Meta(
        description="With a NIC in this libvirt network, on this bridge, or on this"
        " device of the host."
    ),
]
Words = Annotated[
    Text,
    Meta(
        max_length=200,
        description="With this in its name, title, description, UUID, host, MACs, disks"
        " or networks, in capitals or not; `*` stands for any characters.",
    ),
]


VmSort = Literal[
    "db_id",
    "-db_id",
    "name",
    "-name",
    "host_id",
    "-host_id",
    "state",
    "-state",
    "vcpu_count",
    "-vcpu_count",
    "memory_bytes",
    "-memory_bytes",
]


class Paging(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without a limit all of it comes at once, as far as the list allows."""

    limit: Limit | None = None
    cursor: Cursor | None = None


class VmSearch(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page has 1000 VMs unless a limit says otherwise."""

    mac: Mac | None = None
    disk: WithDisk | None = None
    name: Named | None = None
    state: InState | None = None
    host: OfHost | None = None
    network: InNetwork | None = None
    uuid: WithUuid | None = None
    q: Words | None = None
    sort: Annotated[
        VmSort, Meta(description="By this field; with `-` before it, downwards.")
    ] = "db_id"
    fields: (
        Annotated[
            str,
            Meta(description="Only these fields of each VM, separated by commas."),
        ]
        | None
    ) = None


class TaskSearch(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The children of a task are left out unless their ``parent``, ``host`` or ``vm``
    is named. A page has 100 tasks unless a limit says otherwise."""

    host: OfHost | None = None
    vm: Annotated[Text, Meta(description="Of this VM: its name or UUID.")] | None = None
    state: Annotated[TaskState | None, Meta(description="In this state.")] = None
    kind: Annotated[
        TaskKind | None,
        Meta(description="Of this kind; only so those that a monitor asked for."),
    ] = None
    parent: (
        Annotated[UUID, Meta(description="The children of this task, all of them.")]
        | None
    ) = None


Instant = Annotated[
    str,
    Meta(
        pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)\Z",
        examples=["2026-11-23T09:30:00Z"],
    ),
]
"""A time (RFC 3339) that says where on earth."""


class AuditSearch(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest first; a page has 100 unless a limit says otherwise."""

    token: (
        Annotated[
            Text, Meta(description="By the token of this name, or its namesakes.")
        ]
        | None
    ) = None
    host: OfHost | None = None
    vm: Annotated[Text, Meta(description="Of this VM: its name or UUID.")] | None = None
    event: Annotated[AuditEvent | None, Meta(description="Of this kind.")] = None
    action: Annotated[
        Text | None, Meta(description="This action, as `start` or `token-create`.")
    ] = None
    task: Annotated[UUID | None, Meta(description="Of this task.")] = None
    since: Annotated[Instant | None, Meta(description="Not before this time.")] = None
    until: Annotated[Instant | None, Meta(description="Before this time.")] = None


class TaskWait(Struct, frozen=True, forbid_unknown_fields=True):
    wait: Annotated[
        Seconds,
        Meta(description="Answer when the task has ended, or after so many seconds."),
    ] = 0


class Streams(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """``hosts-changed`` and ``vms-changed`` are told in any case."""

    vm_stats: Annotated[
        str | list[str],
        Meta(description="Samples of this VM, `HOST/VM`; as often as wanted."),
    ] = []
    topics: (
        Annotated[
            str,
            Meta(
                description="Tell of each change, with the whole resource: `hosts`,"
                " `vms`, `tasks`, separated by commas."
            ),
        ]
        | None
    ) = None
    hosts: (
        Annotated[
            str,
            Meta(description="Only of these hosts: their ids, separated by commas."),
        ]
        | None
    ) = None
    since: (
        Annotated[
            str,
            Meta(
                description="Tell first what came after this cursor; the header"
                " `Last-Event-ID` goes before it."
            ),
        ]
        | None
    ) = None
    ticket: (
        Annotated[str, Meta(description="In place of a token, for browsers.")] | None
    ) = None


class Preferences(Struct, frozen=True):
    """What a client asks for in the header ``Prefer`` (RFC 7240)."""

    wait_s: Seconds | None = None
    respond_async: bool = False


__all__ = [
    "Paging",
    "Preferences",
    "Seconds",
    "Streams",
    "TaskSearch",
    "TaskWait",
    "VmSearch",
]
