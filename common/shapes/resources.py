"""What REST returns and takes, and what a task row holds."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from common.shapes.hardware import Graphics, Hardware

HostId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
Uri = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2048,
        description="A libvirt URI in one of the forms that the README lists, such as"
        " `qemu+ssh://admin@kvm1.example.org/system`.",
    ),
]
Revision = Annotated[
    int,
    Meta(description="Grows with every change; of two answers the higher is newer."),
]
DomainState = Annotated[
    int,
    Meta(
        description="libvirt's virDomainState: 0 none, 1 running, 2 blocked, 3 paused,"
        " 4 shutting down, 5 off, 6 crashed, 7 asleep."
    ),
]
HostState = Literal["connecting", "connected", "unreachable", "disabled"]
PowerAction = Literal[
    "start", "shutdown", "reboot", "destroy", "reset", "suspend", "resume"
]
Pressed = Annotated[
    PowerAction,
    Meta(
        description="`shutdown` and `reboot` ask the VM, `destroy` (force off) and"
        " `reset` (force reset) do not."
    ),
]
TaskKind = Literal[
    "start",
    "shutdown",
    "reboot",
    "destroy",
    "reset",
    "suspend",
    "resume",
    "connect",
    "info",
    "sync_host",
    "sync_vm",
    "edit",
    "move",
    "check",
    "actions",
]
TaskState = Literal["queued", "running", "done", "failed", "interrupted", "cancelled"]


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error body (RFC 9457). ``detail`` says what happened and what to do."""

    type: Annotated[str, Meta(description="An address of the catalogue; stable.")]
    title: Annotated[str, Meta(description="The same for every problem of the type.")]
    status: Annotated[int, Meta(description="The HTTP status.")]
    detail: Annotated[str, Meta(description="What happened this time.")]
    advice: Annotated[
        str | None, Meta(description="What to do about every problem of this type.")
    ] = None
    task: Annotated[
        UUID | None, Meta(description="The task that failed, or that is in the way.")
    ] = None
    step: Annotated[
        str | None, Meta(description="Where the way to the host ended.")
    ] = None
    libvirt_code: Annotated[
        int | None, Meta(description="libvirt's error code (virErrorNumber).")
    ] = None
    libvirt_message: Annotated[str | None, Meta(description="libvirt's own words.")] = (
        None
    )
    at: Annotated[
        str | None,
        Meta(description="What of the request is wrong: `$.uri`, `?state`, a header."),
    ] = None
    state: Annotated[
        int | None, Meta(description="The state of the VM that does not allow it.")
    ] = None


class ProblemType(Struct, frozen=True, kw_only=True):
    """A kind of error: one entry of the catalogue."""

    type: Annotated[str, Meta(description="Where this entry is; a problem's `type`.")]
    title: str
    status: Annotated[int, Meta(description="The HTTP status of such a problem.")]
    meaning: Annotated[str, Meta(description="What has happened.")]
    advice: Annotated[str, Meta(description="What to do about it.")]
    retryable: Annotated[
        bool, Meta(description="Whether the same may succeed without a change.")
    ]
    libvirt: Annotated[
        list[str], Meta(description="Error codes of libvirt that always mean this.")
    ]


class AddHost(Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[HostId, Meta(description="What the host is to be called here.")]
    uri: Uri


class Host(Struct, frozen=True, kw_only=True):
    """A physical machine with a libvirt daemon, and how the link to it stands."""

    id: str
    uri: str
    created_at: datetime
    state: Annotated[
        HostState,
        Meta(
            description="`disabled` by a user's disconnect, else how the link stands."
        ),
    ]
    state_since: datetime
    error: Annotated[
        Problem | None, Meta(description="Why it is unreachable, and what to do.")
    ]
    next_retry_at: Annotated[
        datetime | None, Meta(description="When it is tried again by itself.")
    ]
    observed_at: Annotated[
        datetime | None,
        Meta(description="When all of it was last looked at; null for never."),
    ]
    revision: Revision


class HostInfo(Struct, frozen=True, kw_only=True):
    """virNodeInfo and its surroundings.

    ``cpu`` counts all logical CPUs, ``cores`` is per socket, ``threads`` per core.
    https://libvirt.org/html/libvirt-libvirt-host.html#virNodeInfo
    """

    hostname: str
    cpu: Annotated[int, Meta(description="All logical CPUs.")]
    memory: Annotated[int, Meta(description="Bytes.")]
    cores: Annotated[int, Meta(description="Per socket.")]
    threads: Annotated[int, Meta(description="Per core.")]
    sockets: Annotated[int, Meta(description="Per NUMA node.")]
    nodes: Annotated[int, Meta(description="NUMA nodes.")]
    mhz: int
    cpu_model: Annotated[str, Meta(description="The architecture: `x86_64`.")]
    free_memory_bytes: Annotated[
        int | None, Meta(description="Null where the driver does not say.")
    ]
    hypervisor: Annotated[str, Meta(description="As libvirt calls it: `QEMU`.")]
    hypervisor_version: str | None
    libvirt_version: Annotated[str, Meta(description="Of the host's daemon.")]


DbId = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Vm(Struct, frozen=True, kw_only=True):
    """A VM as a list shows it. ``state`` is libvirt's virDomainState number."""

    db_id: Annotated[
        int,
        Meta(description="Ours; a VM that is removed and defined again has another."),
    ]
    host_id: str
    uuid: UUID
    name: str
    title: str
    description: str
    vcpu_count: Annotated[int, Meta(description="Virtual CPUs that it has now.")]
    memory_bytes: Annotated[int, Meta(description="At boot, before ballooning.")]
    state: DomainState
    state_reason: Annotated[
        int, Meta(description="libvirt's reason for that state (virDomain…Reason).")
    ]
    persistent: Annotated[
        bool, Meta(description="Whether it is still defined when it has ended.")
    ]
    autostart: Annotated[bool, Meta(description="Whether it starts with its host.")]
    graphics: Graphics
    stale: Annotated[
        bool,
        Meta(
            description="Whether the host cannot be reached: this is how it last was."
        ),
    ]
    observed_at: Annotated[datetime, Meta(description="When it was last looked at.")]
    revision: Revision


class VmHardware(Hardware, frozen=True, kw_only=True):
    """A VM's hardware as it is now or, ``stale``, as it last was known."""

    stale: Annotated[
        bool, Meta(description="Whether the host could not be asked just now.")
    ]


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    action: Pressed


class Progress(Struct, frozen=True, kw_only=True):
    """How many children a task has, and how many of them have ended in which way."""

    action: Annotated[
        PowerAction | None, Meta(description="What is done to each of the VMs.")
    ] = None
    total: Annotated[int, Meta(description="All children.")]
    done: int
    failed: int
    interrupted: Annotated[
        int, Meta(description="A worker died, and it must not be done twice.")
    ]
    cancelled: Annotated[int, Meta(description="Before they began.")]


class Task(Struct, frozen=True, kw_only=True):
    """Something a host was asked to do, and how it ended.

    ``actions`` is about many hosts, ``*``: its children are about one each, and
    ``progress`` counts them.
    ``waits_for`` says in words what an unfinished task waits for. It is as of the
    answer or the frame: a change of it alone is no news.
    """

    id: UUID
    kind: TaskKind
    host_id: Annotated[str, Meta(description="`*` of a task about many hosts.")]
    vm_uuid: UUID | None
    vm_name: str | None
    state: Annotated[
        TaskState,
        Meta(
            description="`interrupted`: a worker died, and it must not be done twice."
        ),
    ]
    requested_by: Annotated[
        str, Meta(description="The token's name, or the part of the system.")
    ]
    request_id: Annotated[
        str | None,
        Meta(description="The `X-Request-ID` of the request, as in the log."),
    ]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempts: Annotated[int, Meta(description="How often a worker has begun it.")]
    worker: Annotated[
        UUID | None, Meta(description="The worker process that has it, or had it.")
    ]
    problem: Annotated[Problem | None, Meta(description="Why it was not done.")]
    result: Annotated[
        Any, Meta(description="What was found, by tasks that look: `info`, `check`.")
    ]
    revision: Revision
    parent_id: Annotated[
        UUID | None, Meta(description="The task that this is a part of.")
    ] = None
    progress: Progress | None = None
    waits_for: str | None = None


class ProcessHealth(Struct, frozen=True, kw_only=True):
    alive: Annotated[int, Meta(description="So many have a fresh heartbeat.")]
    answers: Annotated[bool, Meta(description="Whether there are any.")]


class BriefHealth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is said to who shows no token."""

    status: Literal["ok", "degraded"]


class Health(Struct, frozen=True, kw_only=True):
    """Which part of the system answers; ``problems`` says what to do about the rest."""

    status: Literal["ok", "degraded"]
    postgres: Annotated[bool, Meta(description="Whether it answers.")]
    redis: Annotated[bool, Meta(description="Whether it answers.")]
    workers: ProcessHealth
    monitors: ProcessHealth
    problems: Annotated[
        list[str], Meta(description="What is missing, and what to do about it.")
    ]
