"""Postgres is the truth: without it everything waits, and afterwards goes on."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx
import libvirt

from embedded.servers import Postgres
from tests.faults.conftest import Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.proxy import PRESSES
from tests.lab.system import System, eventually

READ_S: Final = 3
BACK_S: Final = 15
SHORT: Final = ("start", "reset")
LONG: Final = ("reboot", "suspend")
VERBS: Final = (*SHORT, *LONG)
READS: Final = (
    "/api/hosts",
    "/api/hosts/one/vms",
    "/api/hosts/one/vms/idle-0",
    "/api/hosts/one/vms/idle-0/hardware",
    "/api/hosts/one/info",
    "/api/tasks",
)


def refused(lab: System, path: str) -> None:
    """Nothing can be read: a problem says so, in time."""
    began = time.monotonic()
    answer = lab.api.get(path)
    lasted_s = time.monotonic() - began

    assert answer.status_code == 503, f"{path}: {answer.text}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/api/problems/store-unavailable"
    assert lasted_s <= READ_S, path


def test_tasks_outlast_a_database_that_is_gone_for_half_a_minute(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, postgres: Postgres
) -> None:
    for verb in VERBS:
        domain = behind.lookupByUUIDString(define(behind, verb))
        if verb != "start":
            domain.create()
    for number in range(4):
        define(behind, f"idle-{number}")
    lab.start(webs=2, workers=2, monitors=2)
    [host] = hosts(1)
    lab.add_host("one", uri(host))
    listener = lab.listen()
    listener.subscribe("one", "idle-0")
    listener.wait(5, "vm-stats-updated")
    # Two come back from libvirt while there is no database, two long after it is back.
    short = host.hold_replies(*(number for number, v in PRESSES.items() if v in SHORT))
    long = host.hold_replies(*(number for number, v in PRESSES.items() if v in LONG))
    pressed = {verb: lab.ask("one", verb, verb) for verb in VERBS}
    eventually(lambda: short.reached == long.reached == 2, 20)

    postgres.kill()
    gone = time.monotonic()
    try:
        for path in READS:
            refused(lab, path)
        began = time.monotonic()
        posted = lab.act("one", "idle-1", "start")
        posted_s = time.monotonic() - began
        health = lab.api.get("/api/health").json()
        short.release()
        while time.monotonic() - gone < 30:
            refused(lab, READS[0])
            time.sleep(1)
    finally:
        postgres.start()
    back = time.monotonic()

    assert posted.status_code == 503
    assert posted_s <= READ_S
    assert health["postgres"] is False
    assert any("Postgres" in problem for problem in health["problems"])
    eventually(lambda: lab.api.get("/api/hosts").status_code == 200, 5)
    time.sleep(max(0, 10 - (time.monotonic() - back)))
    assert not any(lab.said("a process died"))
    long.release()
    ended = {verb: lab.ended(path, BACK_S) for verb, path in pressed.items()}
    assert {v: t["state"] for v, t in ended.items()} == dict.fromkeys(VERBS, "done")
    assert {t["attempts"] for t in ended.values()} == {1}
    assert host.pressed == {(verb, verb): 1 for verb in VERBS}
    eventually(lambda: lab.host("one")["state"] == "connected", BACK_S)
    assert lab.act("one", "idle-2", "start").status_code == 204
    listener.wait(5, "vms-changed", since=back, hostId="one")
    listener.wait(10, "vm-stats-updated", since=time.monotonic())
    behind.lookupByName("idle-3").create()
    eventually(lambda: lab.state("one", "idle-3") == 1, 5)
    for process in lab.processes:
        assert len(process.said("postgres is gone")) <= 1, process.name
        assert len(process.said("postgres is back")) <= 1, process.name


def test_tasks_run_once_though_postgres_is_restarted_under_load(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, postgres: Postgres
) -> None:
    names = [f"vm-{number}" for number in range(60)]
    for name in names:
        define(behind, name)
    lab.start(workers=2)
    [host] = hosts(1)
    lab.add_host("one", uri(host))

    def act(name: str) -> httpx.Response:
        return lab.act("one", name, "start", "wait=20")

    with ThreadPoolExecutor(4) as clients:
        asked = {name: clients.submit(act, name) for name in names}
        eventually(lambda: sum(future.done() for future in asked.values()) > 20, 10)
        postgres.kill()
        postgres.start()
        answers = {name: future.result() for name, future in asked.items()}

    assert {a.status_code for a in answers.values()} <= {204, 503}
    assert sum(a.status_code == 204 for a in answers.values()) > 40
    eventually(lambda: not lab.unfinished(), BACK_S)
    attempts = lab.rows("select attempts from tasks where kind = 'start'")
    assert {task["attempts"] for task in attempts} == {1}
    assert set(host.pressed.values()) == {1}
    for name, answer in answers.items():
        if answer.status_code == 204:
            assert lab.state("one", name) == 1


def test_a_silent_postgres_is_a_503_and_no_hang(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, postgres: Postgres
) -> None:
    for number in range(2):
        define(behind, f"idle-{number}")
    lab.start(workers=2, monitors=2)
    [host] = hosts(1)
    lab.add_host("one", uri(host))

    postgres.pause()
    try:
        with ThreadPoolExecutor(len(READS)) as clients:
            list(clients.map(lambda path: refused(lab, path), READS))
        began = time.monotonic()
        posted = lab.act("one", "idle-0", "start")
        posted_s = time.monotonic() - began
        time.sleep(max(0, 10 - (time.monotonic() - began)))
    finally:
        postgres.resume()

    assert posted.status_code == 503
    assert posted_s <= READ_S
    eventually(lambda: lab.api.get("/api/hosts").status_code == 200, 5)
    eventually(lambda: lab.host("one")["state"] == "connected", BACK_S)
    assert lab.act("one", "idle-1", "start").status_code == 204
    eventually(lambda: not lab.unfinished(), BACK_S)
    assert set(host.pressed.values()) == {1}
