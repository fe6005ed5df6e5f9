"""Everything at once: afterwards nothing is stuck and every row is libvirt's answer."""

import os
import random
import threading
import time

import httpx
import libvirt

from embedded.servers import Redis
from tests.faults.conftest import Facts, Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.system import System, eventually

ACTIONS = ("start", "destroy", "suspend", "resume", "reboot", "reset", "shutdown")
UNDERSTOOD = {202, 204, 404, 409, 500, 503}
VMS = 50
SETTLED_S = 60


def seconds() -> float:
    """How long; `bin/test soak` sets it to 300."""
    return float(os.environ.get("VIRTUMANCER_SOAK_S", "60"))


def really(behind: libvirt.virConnect) -> dict[str, int]:
    return {domain.name(): domain.state()[0] for domain in behind.listAllDomains()}


def rows(lab: System) -> dict[str, int]:
    return {name: vm["state"] for name, vm in lab.vms("one").items()}


def test_after_random_kills_every_task_has_ended_and_every_row_is_right(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, redis: Redis
) -> None:
    names = [f"vm-{number}" for number in range(VMS)]
    for name in names:
        define(behind, name)
    lab.start(webs=1, workers=2, monitors=2)
    [host] = hosts(1)
    lab.add_host("one", uri(host))
    dice = random.Random(20261123)
    over = threading.Event()
    answers: list[int] = []

    def act(seed: int) -> None:
        mine = random.Random(seed)
        with lab.webs[0].client() as client:
            while not over.is_set():
                name, action = mine.choice(names), mine.choice(ACTIONS)
                answer: httpx.Response = client.post(
                    f"/api/hosts/one/vms/{name}/action",
                    json={"action": action},
                    headers={"Prefer": "wait=5"},
                )
                answers.append(answer.status_code)
                over.wait(mine.random() / 5)

    def break_something() -> None:
        match dice.choice(("worker", "monitor", "redis", "link", "virsh")):
            case "redis":
                redis.kill()
                time.sleep(dice.random() * 2)
                redis.start()
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
    eventually(lambda: rows(lab) == really(behind), 10, "a row is wrong")
    assert set(answers) <= UNDERSTOOD
    assert answers.count(204) > len(answers) / 4
    twice: list[Facts] = lab.rows(
        "select id, kind, attempts from tasks"
        " where kind in ('reboot', 'reset') and attempts > 1"
    )
    assert twice == []
    assert lab.act("one", "vm-0", "destroy").status_code == 204
