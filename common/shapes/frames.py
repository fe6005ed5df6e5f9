"""What goes over ``/ws`` and ``/api/events``: every frame is ``{"type", "payload"}``.

The contract's camelCase keys (``hostId``, ``vmName``) stand where it has them.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct


class VmAddress(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    host_id: Annotated[str, Meta(min_length=1, max_length=64)]
    vm_name: Annotated[str, Meta(min_length=1, max_length=4096)]


class SubscribeVmStats(Struct, frozen=True, tag_field="type", tag="subscribe-vm-stats"):
    payload: VmAddress


class UnsubscribeVmStats(
    Struct, frozen=True, tag_field="type", tag="unsubscribe-vm-stats"
):
    payload: VmAddress


ClientFrame = SubscribeVmStats | UnsubscribeVmStats


class HostsChanged(Struct, frozen=True, tag_field="type", tag="hosts-changed"):
    payload: None = None


class HostAddress(Struct, frozen=True, rename="camel"):
    host_id: str


class VmsChanged(Struct, frozen=True, tag_field="type", tag="vms-changed"):
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

    state: int
    memory: int
    max_mem: int
    vcpu: int
    cpu_time: int
    cpu_percent: float | None
    disk_stats: list[DiskStats]
    net_stats: list[NetStats]


class VmStatsPayload(Struct, frozen=True, rename="camel"):
    host_id: str
    vm_name: str
    stats: VmStats


class VmStatsUpdated(Struct, frozen=True, tag_field="type", tag="vm-stats-updated"):
    payload: VmStatsPayload


class FrameError(Struct, frozen=True):
    """``request`` is the message that could not be served, as it came."""

    code: str
    message: str
    request: Any


class ErrorFrame(Struct, frozen=True, tag_field="type", tag="error"):
    payload: FrameError


ServerFrame = HostsChanged | VmsChanged | VmStatsUpdated | ErrorFrame
