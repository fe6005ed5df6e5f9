"""The whole system: edits, links and actions on many VMs, on a real libvirt."""

from typing import Any

import pytest

from tests.faults.conftest import Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.system import System, eventually

RUNNING, OFF = 1, 5


@pytest.fixture
def fleet(lab: System, hosts: Hosts, behind: Any) -> System:
    """Two hosts, both of them the same hypervisor, with eight VMs of ours."""
    for number in range(8):
        define(behind, f"fleet-{number}")
    lab.start(workers=2)
    for name, host in zip("ab", hosts(2), strict=True):
        lab.add_host(name, uri(host))
    return lab


def test_a_vm_is_edited_as_it_runs_and_for_its_next_start(
    fleet: System, behind: Any
) -> None:
    domain = behind.lookupByName("fleet-0")
    domain.create()
    path = "/api/hosts/a/vms/fleet-0"
    words = {"title": "Shop <&> ü", "description": "two\nlines", "autostart": True}

    answer = fleet.api.patch(path, json=words)
    cleared = fleet.api.patch(path, json={"title": ""})

    assert answer.status_code == 200, answer.text
    assert answer.json() | words == answer.json()
    assert cleared.json()["title"] == ""
    assert cleared.json()["description"] == "two\nlines"
    assert domain.autostart() == 1
    assert domain.metadata(0, None, 2) == "two\nlines"


def test_a_host_is_left_alone_until_it_is_connected(fleet: System, behind: Any) -> None:
    fleet.api.post("/api/hosts/a/disconnect").raise_for_status()
    behind.lookupByName("fleet-1").create()
    fleet.of("monitor")[0].kill()
    fleet.monitor().wait_until_ready()
    eventually(lambda: fleet.state("b", "fleet-1") == RUNNING, 15)

    assert fleet.host("a")["state"] == "disabled"
    assert fleet.state("a", "fleet-1") == OFF
    assert fleet.act("a", "fleet-1", "destroy").status_code == 503

    fleet.api.post("/api/hosts/a/connect").raise_for_status()
    eventually(lambda: fleet.host("a")["state"] == "connected", 10)
    eventually(lambda: fleet.state("a", "fleet-1") == RUNNING, 10)


def test_a_host_moves_and_is_watched_at_its_new_address(
    fleet: System, hosts: Hosts, behind: Any
) -> None:
    [new] = hosts(1)
    wrong = fleet.api.patch("/api/hosts/a", json={"uri": f"{uri(new)}.none"})
    assert wrong.status_code == 500

    moved = fleet.api.patch("/api/hosts/a", json={"uri": uri(new)})
    assert moved.status_code == 200, moved.text
    assert moved.json()["uri"] == uri(new)

    eventually(lambda: fleet.host("a")["state"] == "connected", 10)
    behind.lookupByName("fleet-2").create()
    eventually(lambda: fleet.state("a", "fleet-2") == RUNNING, 10)
    assert fleet.act("a", "fleet-2", "destroy").status_code == 204


def test_actions_outlive_the_workers_that_do_them(fleet: System) -> None:
    wanted = {
        "action": "start",
        "filter": {"host": "a", "name": "fleet-*"},
        "per_host": 2,
    }
    key = {"Idempotency-Key": "all", "Prefer": "respond-async"}
    parent = fleet.api.post("/api/actions", json=wanted, headers=key).json()
    fleet.of("worker")[0].kill()

    ended = fleet.ended(f"/api/tasks/{parent['id']}", 40)
    again = fleet.api.post("/api/actions", json=wanted, headers=key)

    assert ended["state"] == "done", ended
    assert ended["progress"]["done"] == 8
    assert (again.status_code, again.json()["id"]) == (200, parent["id"])
    states = fleet.vms("a")
    assert {states[f"fleet-{n}"]["state"] for n in range(8)} == {RUNNING}


def test_the_overview_knows_what_is_there(fleet: System) -> None:
    overview = fleet.api.get("/api/overview").json()

    assert [host["id"] for host in overview["by_host"]] == ["a", "b"]
    assert overview["by_host"][0]["vcpus"]["there"] > 0
    assert overview["memory_bytes"]["there"] > 0


def test_the_doctor_sees_a_sound_host(fleet: System) -> None:
    host = fleet.host("a")

    check = fleet.api.post("/api/hosts/check", json={"uri": host["uri"]}).json()

    assert check["ok"], check
    assert [step["name"] for step in check["steps"]] == ["socket", "libvirt"]
