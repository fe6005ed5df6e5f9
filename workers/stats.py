"""libvirt's counters as the frame that clients get. Pure: no clock, no libvirt.

The keys are those of https://libvirt.org/html/libvirt-libvirt-domain.html
#virConnectGetAllDomainStats.
"""

from collections.abc import Iterator
from typing import Final

from common.shapes import DiskStats, NetStats, VmStats
from workers.hypervisor.records import DomainStats, RawStats

_CPU_PERCENT_PER_NS_A_SECOND: Final = 1e-7
_OFF: Final = (5, 6)
"""VIR_DOMAIN_SHUTOFF and VIR_DOMAIN_CRASHED."""
# Rates over less than this are noise.
_SHORTEST_S: Final = 0.2


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
        # libvirt counts its own CPU time for a domain without a process.
        cpu_time=0 if off else number(values, "cpu.time"),
        cpu_percent=rates.of("cpu.time", _CPU_PERCENT_PER_NS_A_SECOND),
        disk_stats=[
            DiskStats(
                device=str(values.get(f"{disk}.name", "")),
                read_bytes=number(values, f"{disk}.rd.bytes"),
                write_bytes=number(values, f"{disk}.wr.bytes"),
                read_requests=number(values, f"{disk}.rd.reqs"),
                write_requests=number(values, f"{disk}.wr.reqs"),
                read_bytes_per_s=rates.of(f"{disk}.rd.bytes"),
                write_bytes_per_s=rates.of(f"{disk}.wr.bytes"),
            )
            for disk in devices(values, "block")
        ],
        net_stats=[
            NetStats(
                device=str(values.get(f"{nic}.name", "")),
                read_bytes=number(values, f"{nic}.rx.bytes"),
                write_bytes=number(values, f"{nic}.tx.bytes"),
                read_packets=number(values, f"{nic}.rx.pkts"),
                write_packets=number(values, f"{nic}.tx.pkts"),
                read_bytes_per_s=rates.of(f"{nic}.rx.bytes"),
                write_bytes_per_s=rates.of(f"{nic}.tx.bytes"),
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


def devices(values: RawStats, group: str) -> Iterator[str]:
    """The prefixes of a group's devices."""
    # How many there are is the host's word, and so is whether it is a number.
    for index in range(min(number(values, f"{group}.count"), len(values))):
        prefix = f"{group}.{index}"
        if f"{prefix}.name" in values:
            yield prefix
