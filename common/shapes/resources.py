"""What REST returns and takes, and what a task row holds."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from common.shapes.hardware import Graphics, Hardware

HostId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
HostState = Literal["connecting", "connected", "unreachable", "disabled"]
PowerAction = Literal[
    "start", "shutdown", "reboot", "destroy", "reset", "suspend", "resume"
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
    title: str
    status: int
    detail: str
    advice: Annotated[
        str | None, Meta(description="What to do about every problem of this type.")
    ] = None
    task: UUID | None = None
    step: str | None = None
    libvirt_code: int | None = None
    libvirt_message: str | None = None
    at: str | None = None
    state: int | None = None


class ProblemType(Struct, frozen=True, kw_only=True):
    """A kind of error: one entry of the catalogue."""

    type: str
    title: str
    status: int
    meaning: str
    advice: str
    retryable: Annotated[
        bool, Meta(description="Whether the same may succeed without a change.")
    ]
    libvirt: Annotated[
        list[str], Meta(description="Error codes of libvirt that always mean this.")
    ]


class AddHost(Struct, frozen=True, forbid_unknown_fields=True):
    id: HostId
    uri: Annotated[str, Meta(min_length=1, max_length=2048)]


class Host(Struct, frozen=True, kw_only=True):
    """A physical machine with a libvirt daemon, and how the link to it stands."""

    id: str
    uri: str
    created_at: datetime
    state: HostState
    state_since: datetime
    error: Problem | None
    next_retry_at: datetime | None
    observed_at: datetime | None
    revision: int


class HostInfo(Struct, frozen=True, kw_only=True):
    """virNodeInfo and its surroundings.

    ``cpu`` counts all logical CPUs, ``cores`` is per socket, ``threads`` per core.
    https://libvirt.org/html/libvirt-libvirt-host.html#virNodeInfo
    """

    hostname: str
    cpu: int
    memory: Annotated[int, Meta(description="bytes")]
    cores: int
    threads: int
    sockets: int
    nodes: int
    mhz: int
    cpu_model: str
    free_memory_bytes: int | None
    hypervisor: str
    hypervisor_version: str | None
    libvirt_version: str


DbId = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Vm(Struct, frozen=True, kw_only=True):
    """A VM as a list shows it. ``state`` is libvirt's virDomainState number."""

    db_id: int
    host_id: str
    uuid: UUID
    name: str
    title: str
    description: str
    vcpu_count: int
    memory_bytes: int
    state: int
    state_reason: int
    persistent: bool
    autostart: bool
    graphics: Graphics
    stale: bool
    observed_at: datetime
    revision: int


class VmHardware(Hardware, frozen=True, kw_only=True):
    """A VM's hardware as it is now or, ``stale``, as it last was known."""

    stale: bool


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    action: PowerAction


class Progress(Struct, frozen=True, kw_only=True):
    """How many children a task has, and how many of them have ended in which way."""

    total: int
    done: int
    failed: int
    interrupted: int
    cancelled: int


class Task(Struct, frozen=True, kw_only=True):
    """Something a host was asked to do, and how it ended.

    ``actions`` is about many hosts, ``*``: its children are about one each, and
    ``progress`` counts them.
    ``waits_for`` says in words what an unfinished task waits for. It is as of the
    answer or the frame: a change of it alone is no news.
    """

    id: UUID
    kind: TaskKind
    host_id: str
    vm_uuid: UUID | None
    vm_name: str | None
    state: TaskState
    requested_by: str
    request_id: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    worker: UUID | None
    problem: Problem | None
    result: Any
    revision: int
    parent_id: UUID | None = None
    progress: Progress | None = None
    waits_for: str | None = None


class ProcessHealth(Struct, frozen=True, kw_only=True):
    alive: int
    answers: bool


class BriefHealth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is said to who shows no token."""

    status: Literal["ok", "degraded"]


class Health(Struct, frozen=True, kw_only=True):
    """Which part of the system answers; ``problems`` says what to do about the rest."""

    status: Literal["ok", "degraded"]
    postgres: bool
    redis: bool
    workers: ProcessHealth
    monitors: ProcessHealth
    problems: list[str]
