"""Every VM at /metrics: from rows and last samples, whatever its host is up to."""

import time
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from embedded.libvirtd import Libvirtd
from embedded.machines import define_machine
from tests.faults.conftest import Hosts, NewLab, uri
from tests.lab.hypervisors import behind_our_back, define
from tests.lab.system import System, eventually
from tests.measured.scrape import scrape

QUICK = {"VIRTUMANCER_FLEET_INTERVAL_S": "1", "VIRTUMANCER_STATS_INTERVAL_S": "0.5"}
CPU = "virtumancer_vm_cpu_seconds_total"
AGE = "virtumancer_host_sample_age_seconds"


@pytest.fixture
def quick(new_lab: NewLab) -> Iterator[System]:
    """A system that samples the fleet every second."""
    with new_lab(VIRTUMANCER_CALL_TIMEOUT_S="2", **QUICK) as lab:
        yield lab


@pytest.fixture
def machine(domains: Libvirtd) -> Iterator[Any]:
    """A QEMU that runs."""
    with behind_our_back(domains, "qemu") as qemu:
        domain = define_machine(qemu, "machine", domains.folder / "disks")
        domain.create()
        yield domain


def test_a_vm_that_nobody_watches_has_its_counters(
    quick: System, machine: Any, hosts: Hosts
) -> None:
    quick.start()
    [host] = hosts(1)
    quick.add_host("real", uri(host, "qemu", "session"))
    time.sleep(1.5)  # Time enough for a sample, had anybody asked for one.
    assert quick.rows("select from host_samples") == []

    eventually(lambda: scrape(quick.api).value(CPU, vm="machine"), 10)
    first = scrape(quick.api)
    before = first.value(CPU, vm="machine") or 0
    eventually(lambda: (scrape(quick.api).value(CPU, vm="machine") or 0) > before, 10)

    vm = {"host": "real", "vm": "machine", "uuid": machine.UUIDString()}
    assert first.value("virtumancer_vm_state", **vm) == 1
    assert first.value("virtumancer_vm_vcpus", **vm) == 1
    assert first.value("virtumancer_vm_memory_bytes", **vm) == 64 * 1024 * 1024
    assert first.value("virtumancer_vm_disk_reads_total", **vm, device="vda")
    assert first.value("virtumancer_vm_disk_written_bytes_total", **vm) == 0
    assert (first.value("virtumancer_vm_sample_age_seconds", **vm) or 99) < 5


def test_a_silent_host_leaves_its_last_values_and_their_age(
    quick: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "one")
    quick.start()
    silent, well = hosts(2)
    quick.add_host("silent", uri(silent))
    quick.add_host("well", uri(well))
    quick.act("silent", "one", "start")
    eventually(lambda: scrape(quick.api).value(CPU, host="silent", vm="one"), 10)

    silent.go_silent()
    began = time.monotonic()
    ages, slowest_s = [], 0.0
    while time.monotonic() - began < 6:
        asked = time.monotonic()
        seen = scrape(quick.api)
        slowest_s = max(slowest_s, time.monotonic() - asked)
        ages.append(seen.value(AGE, host="silent") or 0)
        time.sleep(0.2)

    assert slowest_s < 1
    assert seen.value(CPU, host="silent", vm="one")
    assert ages[-1] > 4
    assert (seen.value(AGE, host="well") or 99) < 4
    unreachable = {"host": "silent", "state": "unreachable"}
    eventually(
        lambda: scrape(quick.api).value("virtumancer_host_state", **unreachable), 15
    )
    assert scrape(quick.api).value("virtumancer_vm_state", host="silent", vm="one") == 1
