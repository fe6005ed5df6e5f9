"""The last counters of all VMs: what is kept of a VM that is too busy to say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from common.changes import Changes
from common.samples import HostCounters, Traffic, decode
from workers.fleet import FleetSample
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import DomainStats, RawStats, StatsGroup
from workers.leases import OwnedHost

BUSY: RawStats = {"state.state": 1, "cpu.time": 9_000_000_000, "block.count": 1}
WELL: RawStats = BUSY | {
    "cpu.time": 2_500_000_000,
    "block.0.name": "vda",
    "block.0.rd.bytes": 1024,
    "block.0.wr.bytes": 2048,
    "block.0.rd.reqs": 3,
    "block.0.wr.reqs": 4,
    "net.count": 1,
    "net.0.name": "vnet0",
    "net.0.rx.bytes": 4096,
    "net.0.tx.bytes": 8192,
    "net.0.rx.pkts": 5,
    "net.0.tx.pkts": 6,
}


class Host:
    """A host whose answers the test says, and the row that is written about it."""

    def __init__(self) -> None:
        self.answer: dict[str, RawStats] = {}
        self.row: HostCounters = {}
        self.now_s = 0.0
        host = OwnedHost(1, "kvm-1", "test:///default")
        self._sample = FleetSample(host, cast(Changes, self))

    def fleet_stats(self, groups: StatsGroup) -> dict[str, DomainStats]:
        return {u: DomainStats(u, u, self.now_s, v) for u, v in self.answer.items()}

    @contextmanager
    def begin(self) -> Iterator["Host"]:
        yield self

    def run(self, query: object, **row: Any) -> None:
        self.row = decode(row["vms"])

    def take(self, at_s: float, **answer: RawStats) -> HostCounters:
        self.now_s, self.answer = at_s, answer
        self._sample.take(cast(Connection, self))
        return self.row


def test_counters_are_kept_by_vm_and_device() -> None:
    kept = Host().take(0, one=WELL)["one"]

    assert kept.cpu_s == 2.5
    assert kept.disks == {"vda": Traffic(1024, 2048, 3, 4)}
    assert kept.nics == {"vnet0": Traffic(4096, 8192, 5, 6)}


def test_a_busy_vm_keeps_its_last_counters_which_say_that_they_are_older() -> None:
    host = Host()
    host.take(10, one=WELL, two=WELL)

    kept = host.take(25, one=BUSY, two=WELL)

    assert kept["one"].disks and kept["one"].cpu_s == 2.5
    assert kept["one"].behind_s - kept["two"].behind_s == 15


def test_a_vm_that_is_off_is_forgotten() -> None:
    host = Host()
    host.take(0, one=WELL, two=WELL)

    kept = host.take(15, two=WELL)

    assert kept.keys() == {"two"}


def test_a_vm_without_disks_is_no_busy_one() -> None:
    host = Host()
    host.take(0, one={"cpu.time": 1})

    assert host.take(15, one={"cpu.time": 2_000_000_000})["one"].cpu_s == 2
