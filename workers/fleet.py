"""The counters of every VM of a host, for whoever scrapes /metrics: watched or not.

One bulk call a host, over the sampler's connection. A VM that is too busy to say keeps
its last counters, which say by how much they are older.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from common.changes import Changes
from common.db import sql
from common.errors import StoreUnavailable
from common.samples import HostCounters, Traffic, VmCounters
from workers import belief
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import DomainStats, RawStats, StatsGroup
from workers.leases import OwnedHost
from workers.stats import devices, number

# Memory is in the VM's row: the balloon would cost as much as all else together.
_GROUPS: Final = (
    StatsGroup.STATE | StatsGroup.CPU | StatsGroup.INTERFACE | StatsGroup.BLOCK
)
_NS_A_SECOND: Final = 1e9


@dataclass(frozen=True, slots=True)
class _Kept:
    monotonic_s: float
    counters: VmCounters


class FleetSample:
    """The last counters of one host's VMs."""

    def __init__(
        self, host: OwnedHost, changes: Changes, most_vms: int = belief.MOST_VMS
    ) -> None:
        self._host = host
        self._changes = changes
        self._most_vms = most_vms
        self._kept: dict[str, _Kept] = {}

    def take(self, connection: Connection) -> None:
        """Read all counters and write them; without a database they are lost.

        Raises HostNotBelieved where there are too many.
        """
        seen = connection.fleet_stats(_GROUPS)
        belief.check_number(len(seen), self._most_vms)
        read_at = time.monotonic()
        self._kept = {
            uuid: kept
            for uuid, now in seen.items()
            if (kept := _newest(now, self._kept.get(uuid)))
        }
        row: HostCounters = {
            uuid: replace(k.counters, behind_s=max(0.0, read_at - k.monotonic_s))
            for uuid, k in self._kept.items()
        }
        with suppress(StoreUnavailable), self._changes.begin() as change:
            change.run(
                sql.metrics.keep_sample,
                host_db_id=self._host.db_id,
                age_s=time.monotonic() - read_at,
                vms=msgspec.json.encode(row).decode(),
            )


def _newest(now: DomainStats, before: _Kept | None) -> _Kept | None:
    counters = counters_of(now.values)
    busy = before and before.counters.disks and not (counters and counters.disks)
    if counters is None or busy:
        return before
    return _Kept(now.monotonic_s, counters)


def counters_of(values: RawStats) -> VmCounters | None:
    """libvirt's counters as they are kept; None if not even the CPU's is there."""
    if "cpu.time" not in values:
        return None
    return VmCounters(
        behind_s=0.0,
        cpu_s=number(values, "cpu.time") / _NS_A_SECOND,
        disks=_traffic(values, "block"),
        nics=_traffic(values, "net"),
    )


def _traffic(values: RawStats, group: str) -> dict[str, Traffic]:
    """By device; one without counters is left out, for zero would be a lie."""
    return {
        str(values[keys.name]): Traffic(*(number(values, key) for key in keys[1:]))
        for keys in devices(values, group)
        if keys.read_bytes in values
    }
