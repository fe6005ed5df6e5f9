"""What a host is: its name, CPUs and memory, and which libvirt runs there."""

from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from common.errors import LibvirtRefused
from workers.hypervisor.link import Link
from workers.hypervisor.records import MAX_COUNT, Capacity, HostFacts

_MIB = 1024 * 1024
_MOST_CPUS = 2**31 - 1
_LONGEST_NAME = 255
_ALL_CELLS = libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS


def host_facts(link: Link) -> HostFacts:
    """Everything libvirt tells of the host, what a driver does not know left out."""
    virt = link.virt
    model, mib, cpus, mhz, nodes, sockets, cores, threads = link.call(virt.getInfo)
    return HostFacts(
        hostname=link.call(virt.getHostname)[:_LONGEST_NAME],
        cpus=cpus,
        memory_bytes=_memory_bytes(link, mib),
        cores=cores,
        threads=threads,
        sockets=sockets,
        numa_nodes=nodes,
        cpu_mhz=mhz,
        cpu_model=model,
        free_memory_bytes=_at_most(MAX_COUNT, _known(link, virt.getFreeMemory)),
        hypervisor=link.call(virt.getType)[:_LONGEST_NAME],
        hypervisor_version=_version(_known(link, virt.getVersion)),
        libvirt_version=_version(link.call(virt.getLibVersion)) or "",
    )


def capacity(link: Link) -> Capacity:
    """What the host has to give, in one or two round trips."""
    info = _known(link, link.virt.getInfo)
    if info is None:
        return Capacity(None, None)
    _model, mib, cpus, *_rest = info
    return Capacity(_at_most(_MOST_CPUS, cpus), _memory_bytes(link, mib))


def ask_for_kvm(link: Link) -> None:
    """Raises LibvirtRefused if QEMU has no KVM here."""
    link.call(link.virt.getDomainCapabilities, None, None, None, "kvm", 0)


def _memory_bytes(link: Link, mib: int) -> int:
    """All memory to the KiB, where the host's own number is rounded to MiB."""
    stats = _known(link, link.virt.getMemoryStats, _ALL_CELLS) or {}
    return _at_most(MAX_COUNT, stats.get("total", 0) * 1024 or mib * _MIB)


Number = TypeVar("Number", int, int | None)


def _at_most(most: int, number: Number) -> Number:
    """A host may claim to be larger than any number of ours."""
    return number if number is None else min(number, most)


def _known(link: Link, function: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None where this driver has none."""
    try:
        return link.call(function, *arguments)
    except LibvirtRefused:
        return None


def _version(number: int | None) -> str | None:
    """9000000 is 9.0.0; see virConnectGetVersion."""
    if number is None:
        return None
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"
