"""What the hypervisor says, in plain shapes: nothing of libvirt's own gets out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from itertools import islice
from typing import NamedTuple, cast

from common.errors import VirtumancerError

RawStats = dict[str, int | str | bool]
"""Counters under libvirt's own keys (``cpu.time``, ``block.0.rd.bytes`` …); see
https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectGetAllDomainStats."""


MAX_COUNT = 2**63 - 1
"""What a counter can be here and in every database."""

_LONGEST_TEXT = 512
_MOST_COUNTERS = 65_536


def credible(values: Mapping[str, object]) -> RawStats:
    """What of a domain's counters can be: no more of them, none of them negative or
    beyond 63 bits, no text longer than a name."""
    if len(values) <= _MOST_COUNTERS and _all_can_be(values):
        # As good as always, and then they need not be copied.
        return cast("RawStats", values)
    return {
        key: value
        for key, value in islice(values.items(), _MOST_COUNTERS)
        if (isinstance(value, int) and 0 <= value <= MAX_COUNT)
        or (isinstance(value, str) and len(value) <= _LONGEST_TEXT)
    }


def _all_can_be(values: Mapping[str, object]) -> bool:
    # A thousand domains have fifty counters each, at every tick.
    for value in values.values():
        if type(value) is int:
            if not 0 <= value <= MAX_COUNT:
                return False
        elif type(value) is str:
            if len(value) > _LONGEST_TEXT:
                return False
        elif type(value) is not bool:
            return False
    return True


class StatsGroup(IntFlag):
    """Groups of counters, with libvirt's numbers (``VIR_DOMAIN_STATS_*``)."""

    STATE = 1 << 0
    CPU = 1 << 1
    BALLOON = 1 << 2  # Dear: the hypervisor asks the guest's balloon.
    VCPU = 1 << 3
    INTERFACE = 1 << 4
    BLOCK = 1 << 5
    CHEAP = STATE | CPU | VCPU | INTERFACE | BLOCK
    ALL = CHEAP | BALLOON


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long libvirt may take before its transport is cut, in seconds.

    A power action may take longer than other calls: starting from a managed save reads
    the whole memory back.
    """

    open_s: float = 10.0
    call_s: float = 10.0
    power_s: float = 60.0


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class ListedDomain:
    """One line of the hypervisor's list; ``state`` and reason are libvirt's numbers.

    ``libvirt_id`` is the running domain's number, None while it is off.
    """

    uuid: str
    name: str
    libvirt_id: int | None
    active: bool
    persistent: bool
    autostart: bool
    state: int
    state_reason: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Every domain of a host; those that cannot be read apart, uuid to reason."""

    domains: list[ListedDomain]
    unreadable: dict[str, VirtumancerError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DomainSeen:
    """One domain looked up: its line of the list and its live XML."""

    listed: ListedDomain
    xml: str


@dataclass(frozen=True, slots=True)
class BlockSize:
    """Bytes of one disk: what the guest sees, what is written, what the file takes."""

    capacity: int
    allocation: int
    physical: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host is; ``memory_bytes`` is all its memory, ``cpus`` all logical CPUs.

    ``cores`` are per socket and ``threads`` per core, as libvirt counts them.
    """

    hostname: str
    cpus: int
    memory_bytes: int
    cores: int
    threads: int
    sockets: int
    numa_nodes: int
    cpu_mhz: int
    cpu_model: str
    free_memory_bytes: int | None
    hypervisor: str
    hypervisor_version: str | None
    libvirt_version: str


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a host has to give; None where its driver does not say."""

    cpus: int | None
    memory_bytes: int | None


class DomainStats(NamedTuple):
    """Counters of one domain; ``monotonic_s`` is this process's clock when read."""

    uuid: str
    name: str
    monotonic_s: float
    values: RawStats


@dataclass(frozen=True, slots=True)
class Devices:
    """Targets that have counters: disks (``vda``), and NICs by target or by MAC."""

    disks: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened: look again.

    ``kind`` is one of ``lifecycle``, ``reboot``, ``device-added``, … or ``closed``
    when the connection is gone (then ``uuid`` is None and nothing more follows).
    ``detail`` is libvirt's number for the lifecycle event or the close reason;
    ``at_s`` is this process's clock when libvirt told.
    """

    kind: str
    uuid: str | None
    detail: int = 0
    at_s: float = field(default_factory=time.monotonic, compare=False)
