"""libvirt's counters as frames."""

from workers.hypervisor.records import DomainStats, RawStats
from workers.stats import sample

RUNNING: RawStats = {
    "state.state": 1,
    "cpu.time": 1_000_000_000,
    "balloon.current": 65536,
    "balloon.maximum": 131072,
    "vcpu.current": 2,
    "block.count": 1,
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


def seen(at_s: float, **changes: int) -> DomainStats:
    values = {**RUNNING, **{k.replace("_", "."): v for k, v in changes.items()}}
    return DomainStats("u", "one", at_s, values)


def test_a_first_sample_has_counters_and_no_rates() -> None:
    stats = sample(seen(10), None)

    assert (stats.state, stats.memory, stats.max_mem, stats.vcpu) == (
        1,
        65536,
        131072,
        2,
    )
    assert stats.cpu_time == 1_000_000_000
    assert stats.cpu_percent is None
    assert stats.disk_stats[0].device == "vda"
    assert (stats.disk_stats[0].read_bytes, stats.disk_stats[0].write_bytes) == (
        1024,
        2048,
    )
    assert stats.disk_stats[0].read_bytes_per_s is None
    assert (stats.net_stats[0].read_bytes, stats.net_stats[0].write_bytes) == (
        4096,
        8192,
    )


def test_rates_are_growth_over_the_time_between() -> None:
    later = {
        "cpu.time": 3_000_000_000,
        "block.0.rd.bytes": 5120,
        "net.0.tx.bytes": 9192,
    }
    now = DomainStats("u", "one", 12.0, {**RUNNING, **later})

    stats = sample(now, seen(10))

    assert stats.cpu_percent == 100.0
    assert stats.disk_stats[0].read_bytes_per_s == 2048.0
    assert stats.disk_stats[0].write_bytes_per_s == 0.0
    assert stats.net_stats[0].write_bytes_per_s == 500.0


def test_a_vm_that_was_started_again_has_no_negative_rate() -> None:
    now = DomainStats("u", "one", 12.0, {**RUNNING, "cpu.time": 5})

    assert sample(now, seen(10)).cpu_percent is None


def test_a_vm_that_is_off_has_a_state_and_zeros() -> None:
    off = DomainStats("u", "one", 1.0, {"state.state": 5, "cpu.time": 7})

    stats = sample(off, None)

    assert (stats.state, stats.memory, stats.cpu_time) == (5, 0, 0)
    assert stats.disk_stats == []
    assert stats.net_stats == []
