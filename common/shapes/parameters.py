"""What may stand behind the question mark of a URL."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from common.shapes.resources import TaskKind, TaskState

Limit = Annotated[int, Meta(ge=1, le=1000)]
Seconds = Annotated[float, Meta(ge=0, le=300)]
Mac = Annotated[str, Meta(pattern=r"\A([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z")]


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
    """``cursor`` is opaque: it comes out of the Link header of the page before."""

    limit: Limit | None = None
    cursor: str | None = None


class VmSearch(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """VMs that fit every filter; ``disk`` is a path or its like, in full; ``network``
    a libvirt network, a bridge or a device of the host."""

    mac: Mac | None = None
    disk: str | None = None
    name: str | None = None
    state: Annotated[int, Meta(ge=0, le=7)] | None = None
    host: str | None = None
    network: str | None = None
    uuid: UUID | None = None
    q: Annotated[str, Meta(max_length=200)] | None = None
    sort: VmSort = "db_id"
    fields: Annotated[str, Meta(description="Of a VM, separated by commas.")] | None = (
        None
    )


class TaskSearch(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks that fit every filter; ``vm`` is a name or a UUID. The children of a task
    are left out unless their ``parent``, ``host`` or ``vm`` is named."""

    host: str | None = None
    vm: str | None = None
    state: TaskState | None = None
    kind: TaskKind | None = None
    parent: UUID | None = None


class TaskWait(Struct, frozen=True, forbid_unknown_fields=True):
    wait: Seconds = 0


class Streams(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """``vm-stats`` is ``HOST/VM``, as often as wanted; ``topics`` and ``hosts`` are
    separated by commas. The header Last-Event-ID goes before ``since``."""

    vm_stats: str | list[str] = []
    topics: str | None = None
    hosts: str | None = None
    since: str | None = None


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
