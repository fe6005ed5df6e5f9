"""The numbers of the system and of its VMs, from rows alone: no host is waited for."""

from typing import Final, get_args
from uuid import UUID

from msgspec import Struct

from api.exposition import Page, labels
from api.principal import Sight
from common import samples
from common.db import AsyncReader, sql
from common.measurements import process_name
from common.samples import HostCounters, Traffic, VmCounters
from common.shapes.resources import HostState

ALIVE_S: Final = 8
"""A worker or monitor whose heart has not beaten for so long counts as dead."""


class _Process(Struct, frozen=True):
    kind: str
    machine: str
    pid: int
    leases: int


class _Lane(Struct, frozen=True):
    lane: str
    queued: int
    running: int
    oldest_s: float


class _Host(Struct, frozen=True):
    id: str
    state: str
    age_s: float | None
    vms: str | None


class _Vm(Struct, frozen=True):
    host_id: str
    name: str
    uuid: UUID
    state: int
    vcpu_count: int
    memory_bytes: int


class Fleet(Struct, frozen=True):
    """All that the database knows at one moment."""

    processes: list[_Process]
    queue: list[_Lane]
    hosts: list[_Host]
    vms: list[_Vm]


async def read(rows: AsyncReader) -> Fleet:
    return Fleet(
        processes=await rows.all(sql.metrics.processes, _Process, fresh_s=ALIVE_S),
        queue=await rows.all(sql.metrics.queue, _Lane),
        hosts=await rows.all(sql.metrics.hosts, _Host),
        vms=await rows.all(sql.metrics.vms, _Vm),
    )


def seen(fleet: Fleet, sight: Sight) -> Fleet:
    """What of it may be seen."""
    return Fleet(
        fleet.processes,
        fleet.queue,
        [host for host in fleet.hosts if sight(host.id)],
        [vm for vm in fleet.vms if sight(vm.host_id)],
    )


def write(page: Page, fleet: Fleet) -> None:
    _write_processes(page, fleet.processes)
    _write_queue(page, {lane.lane: lane for lane in fleet.queue})
    _write_hosts(page, fleet.hosts)
    counters = {h.id: samples.decode(h.vms) for h in fleet.hosts if h.vms}
    ages = {h.id: h.age_s or 0.0 for h in fleet.hosts}
    _write_vms(
        page, [_Line(vm, counters.get(vm.host_id, {}), ages) for vm in fleet.vms]
    )


def _write_processes(page: Page, processes: list[_Process]) -> None:
    page.family("virtumancer_processes", "gauge", "Workers and monitors that live")
    for kind in ("worker", "monitor"):
        alive = sum(p.kind == kind for p in processes)
        page.sample("virtumancer_processes", labels({"kind": kind}), alive)
    page.family("virtumancer_leases", "gauge", "Hosts that a monitor owns")
    for p in processes:
        if p.kind == "monitor":
            name = process_name(p.kind, p.machine, p.pid)
            page.sample("virtumancer_leases", labels({"process": name}), p.leases)


def _write_queue(page: Page, lanes: dict[str, _Lane]) -> None:
    idle = _Lane("", 0, 0, 0.0)
    for name, means, field in (
        ("tasks_queued", "Tasks that have not begun", "queued"),
        ("tasks_running", "Tasks that a worker holds", "running"),
        ("queue_age_seconds", "How long the oldest queued task has waited", "oldest_s"),
    ):
        page.family(f"virtumancer_{name}", "gauge", means)
        for lane in ("power", "look"):
            value = getattr(lanes.get(lane, idle), field)
            page.sample(f"virtumancer_{name}", labels({"lane": lane}), value)


def _write_hosts(page: Page, hosts: list[_Host]) -> None:
    page.family("virtumancer_host_state", "gauge", "1 at the state that a host is in")
    for host in hosts:
        for state in get_args(HostState):
            where = labels({"host": host.id, "state": state})
            page.sample("virtumancer_host_state", where, int(host.state == state))
    page.family(
        "virtumancer_host_sample_age_seconds",
        "gauge",
        "Age of the last counters of a host's VMs; it grows while the host is silent",
    )
    for host in hosts:
        if host.age_s is not None:
            where = labels({"host": host.id})
            page.sample("virtumancer_host_sample_age_seconds", where, host.age_s)


class _Line:
    """A VM, its labels written once, and its counters if it was ever sampled."""

    def __init__(self, vm: _Vm, counters: HostCounters, ages: dict[str, float]) -> None:
        uuid = str(vm.uuid)
        self.vm = vm
        self.labels = labels({"host": vm.host_id, "vm": vm.name, "uuid": uuid})
        self.counters: VmCounters | None = counters.get(uuid)
        self.host_age_s = ages[vm.host_id]


_FACTS: Final = (
    ("state", "libvirt's number of a VM's state: 1 running, 3 paused, 5 off", "state"),
    ("vcpus", "Virtual CPUs of a VM", "vcpu_count"),
    ("memory_bytes", "Memory that a VM may take", "memory_bytes"),
)
_DISK: Final = (
    ("disk_read_bytes_total", "Bytes read from a VM's disk", "read_bytes"),
    ("disk_written_bytes_total", "Bytes written to a VM's disk", "write_bytes"),
    ("disk_reads_total", "Requests to read from a VM's disk", "reads"),
    ("disk_writes_total", "Requests to write to a VM's disk", "writes"),
)
_NET: Final = (
    ("net_receive_bytes_total", "Bytes that a VM received", "read_bytes"),
    ("net_transmit_bytes_total", "Bytes that a VM sent", "write_bytes"),
    ("net_receive_packets_total", "Packets that a VM received", "reads"),
    ("net_transmit_packets_total", "Packets that a VM sent", "writes"),
)


def _write_vms(page: Page, lines: list[_Line]) -> None:
    for name, means, field in _FACTS:
        page.family(f"virtumancer_vm_{name}", "gauge", means)
        for line in lines:
            value = getattr(line.vm, field)
            page.sample(f"virtumancer_vm_{name}", line.labels, value)
    sampled = [(line, line.counters) for line in lines if line.counters]
    name = "virtumancer_vm_cpu_seconds_total"
    page.family(name, "counter", "CPU time that a VM has taken")
    for line, counters in sampled:
        page.sample(name, line.labels, counters.cpu_s)
    name = "virtumancer_vm_sample_age_seconds"
    page.family(name, "gauge", "Age of a VM's counters; a busy VM's may be older")
    for line, counters in sampled:
        page.sample(name, line.labels, line.host_age_s + counters.behind_s)
    disks = [(line.labels, counters.disks) for line, counters in sampled]
    _write_traffic(page, _DISK, disks)
    _write_traffic(page, _NET, [(line.labels, c.nics) for line, c in sampled])


def _write_traffic(
    page: Page,
    families: tuple[tuple[str, str, str], ...],
    vms: list[tuple[str, dict[str, Traffic]]],
) -> None:
    devices = [
        (f"{where},{labels({'device': device})}", traffic)
        for where, found in vms
        for device, traffic in found.items()
    ]
    for name, means, field in families:
        page.family(f"virtumancer_vm_{name}", "counter", means)
        for where, traffic in devices:
            page.sample(f"virtumancer_vm_{name}", where, getattr(traffic, field))
