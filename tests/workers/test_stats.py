"""libvirt's counters as frames."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from common.shapes import VmStats, VmStatsUpdated
from workers.hypervisor.records import DomainStats, RawStats
from workers.stats import Series, sample

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


def said(frame: bytes) -> VmStats:
    return msgspec.json.decode(frame, type=VmStatsUpdated).payload.stats


def test_a_vm_at_rest_has_rates_of_zero_and_the_same_frame_each_time() -> None:
    series = Series("h")

    first, second, third = (series.frame(seen(at_s)) for at_s in (1, 2, 3))

    assert said(first).cpu_percent is None
    assert said(second).cpu_percent == 0.0
    assert second == third


def test_the_cpu_time_of_libvirt_is_not_that_of_a_vm_that_is_off() -> None:
    series = Series("h")

    frames = [series.frame(seen(at, state_state=5, cpu_time=at * 7)) for at in (1, 2)]
    started = series.frame(seen(3, cpu_time=22))

    assert [said(frame).cpu_time for frame in frames] == [0, 0]
    assert said(started).cpu_percent is None


def test_a_balloon_that_was_not_asked_for_is_as_it_was() -> None:
    series = Series("h")
    series.frame(seen(1))
    cheap = {k: v for k, v in RUNNING.items() if not k.startswith("balloon")}

    frame = series.frame(DomainStats("u", "one", 2.0, cheap))

    assert (said(frame).memory, said(frame).max_mem) == (65536, 131072)


@given(st.lists(st.tuples(st.sampled_from([0.125, 1.0]), st.integers(0, 1))))
def test_a_frame_is_made_of_its_own_sample_and_the_one_before(
    ticks: list[tuple[float, int]],
) -> None:
    series = Series("h")
    at_s, kept = 1.0, list[DomainStats]()

    for step_s, counted in ticks:
        at_s += step_s
        now = seen(at_s, cpu_time=counted)
        frame = series.frame(now)

        # What is taken out of turn is too near for a rate.
        far = [earlier for earlier in kept if at_s - earlier.monotonic_s > 0.5]
        assert said(frame) == sample(now, far[-1] if far else None)
        if far == kept:
            kept.append(now)
