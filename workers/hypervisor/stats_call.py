"""Counters of domains: one bulk call, completed where a driver falls short.

The keys are libvirt's: see virConnectGetAllDomainStats.
"""

import time
from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from typing import Any

import libvirt

from common.errors import LibvirtRefused, UnknownVm, WrongState
from workers.hypervisor.domains import Call, Domains, each_of, name_of
from workers.hypervisor.link import Link
from workers.hypervisor.records import (
    Devices,
    DomainStats,
    RawStats,
    StatsGroup,
    credible,
)

# Without it, one domain with a stuck job would hold up all.
_NOWAIT = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT

_ACTIVE = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE

_BLOCK = ("rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes", "errs")
_INTERFACE = (
    *("rx.bytes", "rx.pkts", "rx.errs", "rx.drop"),
    *("tx.bytes", "tx.pkts", "tx.errs", "tx.drop"),
)
_PARALLEL = 4
_OFF = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)

DevicesOf = Callable[[str], Devices]
"""From a domain's XML to the devices that have counters."""


def stats(
    link: Link,
    domains: Domains,
    uuids: Iterable[str],
    groups: StatsGroup,
    devices_of: DevicesOf | None,
) -> dict[str, DomainStats]:
    """The counters of each domain that is there."""
    handles = _handles(domains, uuids)
    samples = _bulk(link, handles, groups)
    if devices_of is None:
        groups &= ~(StatsGroup.BLOCK | StatsGroup.INTERFACE)
    lacking = _lacking(samples, groups)

    def complete(call: Call, uuid: str) -> None:
        handle, values = handles[uuid], samples[uuid].values
        if lacking[uuid] & _OF_INFO:
            _add_info(call, handle, values)
        if lacking[uuid] & _OF_DEVICES and devices_of is not None:
            devices = devices_of(call(handle.XMLDesc, 0))
            _add_devices(call, handle, values, lacking[uuid], devices)

    for uuid, failure in each_of(link, lacking, complete, _PARALLEL).items():
        if isinstance(failure, UnknownVm):
            del samples[uuid]
    return samples


def _handles(domains: Domains, uuids: Iterable[str]) -> dict[str, Any]:
    handles = {}
    for uuid in uuids:
        try:
            handles[uuid] = domains.handle(uuid)
        except UnknownVm:
            continue
    return handles


def _bulk(
    link: Link, handles: dict[str, Any], groups: StatsGroup
) -> dict[str, DomainStats]:
    if not handles:
        # An empty list would mean every domain.
        return {}
    call = link.virt.domainListGetStats
    answer = link.call(call, list(handles.values()), int(groups), _NOWAIT)
    now = time.monotonic()
    # To write a uuid costs five times as much as a name, and what was renamed is not
    # ours any longer. The host may answer for domains that nobody asked about.
    uuids = {name_of(handle): uuid for uuid, handle in handles.items()}
    return {
        uuid: DomainStats(uuid, name, now, credible(values))
        for handle, values in answer
        if (name := name_of(handle)) is not None and (uuid := uuids.get(name))
    }


def fleet_stats(link: Link, groups: StatsGroup) -> dict[str, DomainStats]:
    """The counters of every domain that is on, as far as the driver has them in bulk.

    A driver that keeps no CPU time in bulk is asked for it domain by domain.
    """
    answer = link.call(link.virt.getAllDomainStats, int(groups), _NOWAIT | _ACTIVE)
    now = time.monotonic()
    handles = {handle.UUIDString(): handle for handle, _ in answer}
    samples = {
        (uuid := handle.UUIDString()): DomainStats(uuid, name, now, credible(values))
        for handle, values in answer
        if (name := name_of(handle)) is not None
    }

    def complete(call: Call, uuid: str) -> None:
        _add_info(call, handles[uuid], samples[uuid].values)

    each_of(link, _lacking(samples, groups & _OF_INFO), complete, _PARALLEL)
    return samples


# A group, and the key whose absence says that the driver does not serve it in bulk.
_SIGNS = {
    StatsGroup.CPU: "cpu.time",
    StatsGroup.BALLOON: "balloon.maximum",
    StatsGroup.VCPU: "vcpu.current",
    StatsGroup.INTERFACE: "net.count",
    StatsGroup.BLOCK: "block.count",
}
_OF_INFO = StatsGroup.CPU | StatsGroup.BALLOON | StatsGroup.VCPU
_OF_DEVICES = StatsGroup.INTERFACE | StatsGroup.BLOCK
_OF_DOMAINS_THAT_ARE_OFF = StatsGroup.BALLOON | StatsGroup.VCPU


def _lacking(
    samples: dict[str, DomainStats], groups: StatsGroup
) -> dict[str, StatsGroup]:
    """Domains by uuid, with the groups that the bulk answer left out of them."""
    when_on = {sign: group for group, sign in _SIGNS.items() if group & groups}
    when_off = {s: g for s, g in when_on.items() if g & _OF_DOMAINS_THAT_ARE_OFF}
    lacking = {}
    for uuid, now in samples.items():
        signs = when_off if now.values.get("state.state") in _OFF else when_on
        if not signs.keys() <= now.values.keys():
            missing = signs.keys() - now.values.keys()
            lacking[uuid] = reduce(or_, [signs[sign] for sign in missing])
    return lacking


def _add_info(call: Call, handle: Any, values: RawStats) -> None:
    _state, maximum, current, vcpus, cpu_time = call(handle.info)
    info = {
        "cpu.time": cpu_time,
        "balloon.current": current,
        "balloon.maximum": maximum,
        "vcpu.current": vcpus,
    }
    values |= {**credible(info), **values}


def _add_devices(
    call: Call, handle: Any, values: RawStats, lacking: StatsGroup, devices: Devices
) -> None:
    if lacking & StatsGroup.BLOCK:
        found = _by_device(call, handle.blockStats, devices.disks, _BLOCK)
        _add_list(values, "block", found)
    if lacking & StatsGroup.INTERFACE:
        found = _by_device(call, handle.interfaceStats, devices.interfaces, _INTERFACE)
        _add_list(values, "net", found)


def _by_device(
    call: Call, ask: Callable[..., Any], names: Iterable[str], keys: tuple[str, ...]
) -> list[RawStats]:
    found = []
    for name in names:
        try:
            counters = call(ask, name)
        except (LibvirtRefused, WrongState):
            # A device without counters, or gone since the XML was written.
            continue
        known = zip(keys, counters, strict=True)
        found.append(credible({"name": name, **dict(known)}))
    return found


def _add_list(values: RawStats, prefix: str, found: list[RawStats]) -> None:
    values[f"{prefix}.count"] = len(found)
    for number, counters in enumerate(found):
        for key, value in counters.items():
            values[f"{prefix}.{number}.{key}"] = value
