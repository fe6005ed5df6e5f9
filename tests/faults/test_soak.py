"""Everything at once: afterwards nothing is stuck and every row is libvirt's answer."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import libvirt
import pytest

from embedded.libvirtd import Libvirtd
from embedded.machines import define_machine
from embedded.servers import Redis
from tests.faults.conftest import Facts, Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.system import System, eventually

ACTIONS = ("start", "destroy", "suspend", "resume", "reboot", "reset", "shutdown")
NEVER_TWICE = ("reboot", "reset")
KILLED = ("worker", "monitor", "redis", "libvirtd", "link", "virsh")
UNDERSTOOD = {202, 204, 404, 409, 500, 503}
VMS = {"many": 46, "real": 4}
"""Domains of the test driver, and small machines under a libvirtd that is killed."""
SETTLED_S = 60


def seconds() -> float:
    """How long; `bin/test soak` sets it to 300."""
    return float(os.environ.get("VIRTUMANCER_SOAK_S", "60"))


Vms = dict[tuple[str, str], int]


def really(behind: libvirt.virConnect, real: Libvirtd) -> Vms:
    """The state of every VM as libvirt itself tells it."""
    machines = libvirt.open(real.url)
    try:
        connections = {"many": behind, "real": machines}
        return {
            (host_id, domain.name()): domain.state()[0]
            for host_id, connection in connections.items()
            for domain in connection.listAllDomains()
        }
    finally:
        machines.close()


def rows(lab: System) -> Vms:
    return {
        (host_id, name): vm["state"]
        for host_id in VMS
        for name, vm in lab.vms(host_id).items()
    }


@pytest.fixture
def real(hosts_folder: Path) -> Iterator[Libvirtd]:
    """A hypervisor of this test's own, with real machines."""
    with Libvirtd(hosts_folder / "real") as server:
        connection = libvirt.open(server.url)
        for number in range(VMS["real"]):
            define_machine(connection, f"vm-{number}", server.folder / "disks")
        connection.close()
        yield server


def test_after_random_kills_every_task_has_ended_and_every_row_is_right(
    lab: System,
    behind: libvirt.virConnect,
    hosts: Hosts,
    real: Libvirtd,
    redis: Redis,
) -> None:
    names = [f"vm-{number}" for number in range(VMS["many"])]
    for name in names:
        define(behind, name)
    lab.start(webs=1, workers=2, monitors=2)
    [host] = hosts(1)
    lab.add_host("many", uri(host))
    lab.add_host("real", real.url)
    vms = [*rows(lab)]
    dice = random.Random(20261123)
    over = threading.Event()
    answers: list[int] = []

    def act(seed: int) -> None:
        mine = random.Random(seed)
        with lab.webs[0].client() as client:
            while not over.is_set():
                (host_id, name), action = mine.choice(vms), mine.choice(ACTIONS)
                answer: httpx.Response = client.post(
                    f"/api/hosts/{host_id}/vms/{name}/action",
                    json={"action": action},
                    headers={"Prefer": "wait=5"},
                )
                answers.append(answer.status_code)
                over.wait(mine.random() / 5)

    def break_something() -> None:
        match dice.choice(KILLED):
            case "redis":
                redis.kill()
                time.sleep(dice.random() * 2)
                redis.start()
            case "libvirtd":
                real.kill()
                time.sleep(dice.random() * 2)
                real.start()
            case "link":
                host.cut()
            case "virsh":
                domain = behind.lookupByName(dice.choice(names))
                try:
                    domain.destroy() if domain.isActive() else domain.create()
                except libvirt.libvirtError:
                    return  # A client was faster.
            case kind:
                dice.choice(lab.of(kind)).kill()
                lab.worker() if kind == "worker" else lab.monitor()

    clients = [threading.Thread(target=act, args=(seed,)) for seed in range(6)]
    for client in clients:
        client.start()
    until = time.monotonic() + seconds()
    try:
        while time.monotonic() < until:
            break_something()
            time.sleep(dice.random() * 3)
    finally:
        over.set()
        for client in clients:
            client.join()

    eventually(lambda: not lab.unfinished(), SETTLED_S, "a task does not end")
    eventually(lambda: rows(lab) == really(behind, real), 20, "a row is wrong")
    presses = {(verb, name) for verb, name in host.pressed if verb in NEVER_TWICE}
    asked = asked_for(lab)
    assert {
        press: host.pressed[press]
        for press in presses
        if host.pressed[press] > asked[press]
    } == {}
    assert set(answers) <= UNDERSTOOD
    assert answers.count(204) > len(answers) / 4
    twice: list[Facts] = lab.rows(
        "select id, kind, attempts from tasks"
        " where kind in ('reboot', 'reset') and attempts > 1"
    )
    assert twice == []
    for host_id in VMS:
        assert lab.act(host_id, "vm-0", "destroy").status_code == 204


def asked_for(lab: System) -> Counter[tuple[str, str]]:
    """How often each press was asked for, by verb and VM, of the many."""
    return Counter(
        (task["kind"], task["vm_name"])
        for task in lab.rows(
            "select kind, vm_name from tasks where lane = 'power' and host_id = 'many'"
        )
    )
