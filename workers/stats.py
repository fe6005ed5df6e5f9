"""libvirt's counters as the frame that clients get. Pure: no clock, no libvirt.

The keys are those of https://libvirt.org/html/libvirt-libvirt-domain.html
#virConnectGetAllDomainStats.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from common.shapes import DiskStats, NetStats, VmStats, VmStatsPayload, VmStatsUpdated
from workers.hypervisor.records import DomainStats, RawStats

_CPU_PERCENT_PER_NS_A_SECOND: Final = 1e-7
_OFF: Final = (5, 6)
"""VIR_DOMAIN_SHUTOFF and VIR_DOMAIN_CRASHED."""
# Rates over less than this are noise.
_SHORTEST_S: Final = 0.2
_NEAR_S: Final = 0.5
_CPU: Final = ("cpu.time", "cpu.user", "cpu.system")
_BALLOON: Final = ("balloon.current", "balloon.maximum")


class Series:
    """One VM's counters, tick after tick, as frames."""

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self._newest: DomainStats | None = None
        self._earlier: DomainStats | None = None
        self._balloon: RawStats = {}
        self._still: bytes | None = None

    def frame(self, now: DomainStats) -> bytes:
        """The frame of this sample, whose values become this object's own."""
        values, newest = now.values, self._newest
        if values.get("state.state") in _OFF:
            # libvirt counts its own CPU time for a domain without a process.
            for key in _CPU:
                values.pop(key, None)
        if "balloon.maximum" in values:
            self._balloon = {key: values[key] for key in _BALLOON if key in values}
        else:
            values.update(self._balloon)
        if newest is None:
            self._newest = now
            return self._encoded(now, None)
        if now.monotonic_s - newest.monotonic_s <= _NEAR_S:
            # Out of turn, for a newcomer: too near for a rate, and for the next one's.
            return self._encoded(now, self._earlier)
        self._earlier = newest
        if values != newest.values:
            self._newest = now
            self._still = None
            return self._encoded(now, newest)
        # Nothing was counted: but for the first time, the frame is that of before. What
        # came last goes first, for memory is quickest where it has just been used.
        self._newest = DomainStats(now.uuid, now.name, now.monotonic_s, newest.values)
        if self._still is None:
            self._still = self._encoded(now, newest)
        return self._still

    def _encoded(self, now: DomainStats, before: DomainStats | None) -> bytes:
        payload = VmStatsPayload(self._host_id, now.name, sample(now, before))
        return msgspec.json.encode(VmStatsUpdated(payload))


def sample(now: DomainStats, before: DomainStats | None) -> VmStats:
    """The counters of ``now`` and the rates since ``before``.

    Rates are None without a sample before, and where a counter went backwards: the
    VM was started again in between.
    """
    values = now.values
    off = values.get("state.state") in _OFF
    rates = _Rates(now, None if off else before)
    return VmStats(
        state=number(values, "state.state"),
        memory=number(values, "balloon.current"),
        max_mem=number(values, "balloon.maximum"),
        vcpu=number(values, "vcpu.current"),
        cpu_time=0 if off else number(values, "cpu.time"),
        cpu_percent=rates.of("cpu.time", _CPU_PERCENT_PER_NS_A_SECOND),
        disk_stats=[
            DiskStats(
                device=str(values[disk.name]),
                read_bytes=number(values, disk.read_bytes),
                write_bytes=number(values, disk.write_bytes),
                read_requests=number(values, disk.reads),
                write_requests=number(values, disk.writes),
                read_bytes_per_s=rates.of(disk.read_bytes),
                write_bytes_per_s=rates.of(disk.write_bytes),
            )
            for disk in devices(values, "block")
        ],
        net_stats=[
            NetStats(
                device=str(values[nic.name]),
                read_bytes=number(values, nic.read_bytes),
                write_bytes=number(values, nic.write_bytes),
                read_packets=number(values, nic.reads),
                write_packets=number(values, nic.writes),
                read_bytes_per_s=rates.of(nic.read_bytes),
                write_bytes_per_s=rates.of(nic.write_bytes),
            )
            for nic in devices(values, "net")
        ],
    )


class _Rates:
    def __init__(self, now: DomainStats, before: DomainStats | None) -> None:
        self._now = now.values
        self._before = before.values if before else {}
        self._elapsed_s = now.monotonic_s - before.monotonic_s if before else 0.0

    def of(self, key: str, scale: float = 1.0) -> float | None:
        """The growth of a counter a second, times ``scale``."""
        if self._elapsed_s < _SHORTEST_S or key not in self._before:
            return None
        grown = number(self._now, key) - number(self._before, key)
        return round(grown * scale / self._elapsed_s, 3) if grown >= 0 else None


def number(values: RawStats, key: str) -> int:
    value = values.get(key, 0)
    return value if isinstance(value, int) else 0


class Keys(NamedTuple):
    """Under which keys a device's counters stand."""

    name: str
    read_bytes: str
    write_bytes: str
    reads: str
    writes: str


_COUNTERS: Final = {
    "block": ("name", "rd.bytes", "wr.bytes", "rd.reqs", "wr.reqs"),
    "net": ("name", "rx.bytes", "tx.bytes", "rx.pkts", "tx.pkts"),
}


# Putting the keys together at every tick would cost as much as reading what they name.
@lru_cache(1024)
def _keys(group: str, index: int) -> Keys:
    return Keys(*(f"{group}.{index}.{counter}" for counter in _COUNTERS[group]))


def devices(values: RawStats, group: str) -> Iterator[Keys]:
    """The keys of each of a group's devices; the groups are block and net."""
    # How many there are is the host's word, and so is whether it is a number.
    for index in range(min(number(values, f"{group}.count"), len(values))):
        keys = _keys(group, index)
        if keys.name in values:
            yield keys
