"""VMs of a host and of all hosts, their hardware and their power."""

import time
import uuid
from typing import Any
from unittest.mock import ANY
from urllib.parse import quote

import httpx
import pytest

from common.errors import BrokenDomain, HostTimeout, UnknownVm, WrongState
from embedded.folders import scratch
from embedded.servers import Postgres
from tests.api.conftest import HARDWARE, Rows, ScriptedWorker, Webs
from tests.lab.proxy import Proxy

ODD_NAMES = ["a/b c%d ü", "%2F", "a+b&c=d?e#f", "new\nline", ".x", "日本語", "a" * 300]


def address(name: str) -> str:
    return f"/api/hosts/kvm-1/vms/{quote(name, safe='')}"


def test_vms_of_a_host_are_listed_as_the_contract_has_them(
    api: httpx.Client, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    vm_uuid = rows.vm(host, "ubuntu-vm-01", description="d")

    [vm] = api.get("/api/hosts/kvm-1/vms").json()

    contract = {
        "name": "ubuntu-vm-01",
        "description": "d",
        "vcpu_count": 2,
        "memory_bytes": 2147483648,
        "state": 1,
        "graphics": {"vnc": True, "spice": False},
    }
    assert vm | contract == vm
    assert isinstance(vm["db_id"], int)
    assert vm["uuid"] == str(vm_uuid)
    assert vm["stale"] is False


def test_a_host_without_vms_has_an_empty_list(api: httpx.Client, rows: Rows) -> None:
    rows.host("kvm-1")

    assert api.get("/api/hosts/kvm-1/vms").json() == []


def test_the_list_stays_while_the_host_is_down(api: httpx.Client, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1", "unreachable"), "a")

    [vm] = api.get("/api/hosts/kvm-1/vms").json()

    assert (vm["name"], vm["stale"]) == ("a", True)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_vm_of_any_name_is_found_and_acted_on(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker, name: str
) -> None:
    host = rows.host("kvm-1")
    vm_uuid = rows.vm(host, name)
    rows.vm(host, "a")
    acted: list[dict[str, Any]] = []
    worker.answers["start"] = acted.append

    one = api.get(address(name))
    action = api.post(f"{address(name)}/action", json={"action": "start"})

    assert one.json()["name"] == name
    assert action.status_code == 204
    assert acted[0]["vm_uuid"] == vm_uuid
    assert acted[0]["vm_name"] == name


def test_a_vm_is_found_by_its_uuid(api: httpx.Client, rows: Rows) -> None:
    vm_uuid = rows.vm(rows.host("kvm-1"), "a")

    assert api.get(address(str(vm_uuid))).json()["name"] == "a"


def test_a_name_goes_before_a_uuid(api: httpx.Client, rows: Rows) -> None:
    host = rows.host("kvm-1")
    vm_uuid = rows.vm(host, "a")
    rows.vm(host, str(vm_uuid))

    assert api.get(address(str(vm_uuid))).json()["name"] == str(vm_uuid)


def test_unknown_vms_are_404(api: httpx.Client, rows: Rows) -> None:
    rows.host("kvm-1")
    for answer in (
        api.get(address("nobody")),
        api.get(address(str(uuid.uuid4()))),
        api.get(f"{address('nobody')}/hardware"),
        api.post(f"{address('nobody')}/action", json={"action": "start"}),
    ):
        assert answer.status_code == 404
        assert answer.json()["type"] == "/api/problems/unknown-vm"


def test_a_name_that_is_no_text_is_404(api: httpx.Client, rows: Rows) -> None:
    rows.host("kvm-1")
    for segment in ("%FF", "%00", "a%00b", "%C3", "%"):
        assert api.get(f"/api/hosts/kvm-1/vms/{segment}").status_code == 404


@pytest.mark.parametrize(
    "action",
    ["start", "shutdown", "reboot", "destroy", "reset", "suspend", "resume"],
)
def test_every_action_is_done_by_a_worker(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker, action: str
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    worker.answers[action] = lambda task: None

    answer = api.post(f"{address('a')}/action", json={"action": action})

    assert (answer.status_code, answer.content) == (204, b"")
    [task] = api.get("/api/tasks").json()
    assert (task["kind"], task["state"], task["host_id"]) == (action, "done", "kvm-1")


def test_an_unknown_action_is_400_and_names_the_valid_ones(
    api: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    answer = api.post(f"{address('a')}/action", json={"action": "explode"})

    assert answer.status_code == 400
    assert answer.json()["at"] == "$.action"
    assert "start, shutdown, reboot, destroy, reset" in answer.json()["detail"]


def test_second_action_on_a_busy_vm_conflicts(api: httpx.Client, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    later = {"Prefer": "respond-async"}
    first = api.post(f"{address('a')}/action", json={"action": "start"}, headers=later)

    second = api.post(f"{address('a')}/action", json={"action": "destroy"})

    assert first.status_code == 202
    assert second.status_code == 409
    assert second.json()["type"] == "/api/problems/vm-busy"
    assert second.json()["task"] == first.json()["id"]


def test_a_state_that_does_not_allow_it_is_409(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    def refuse(task: dict[str, Any]) -> None:
        raise WrongState("The VM is off.")

    rows.vm(rows.host("kvm-1"), "a")
    worker.answers["reboot"] = refuse

    answer = api.post(f"{address('a')}/action", json={"action": "reboot"})

    assert answer.status_code == 409
    assert answer.json()["detail"] == "The VM is off."
    [task] = api.get("/api/tasks").json()
    assert answer.json()["task"] == task["id"]


def test_an_action_on_a_host_that_is_down_is_503_without_a_task(
    api: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1", "unreachable"), "a")

    answer = api.post(f"{address('a')}/action", json={"action": "start"})

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert api.get("/api/tasks").json() == []


def test_an_action_that_takes_long_is_202_and_ends_as_a_task(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    began_s = time.monotonic()
    answer = api.post(
        f"{address('a')}/action",
        json={"action": "start"},
        headers={"Prefer": "wait=0.3"},
    )
    took_s = time.monotonic() - began_s
    worker.answers["start"] = lambda task: None
    task = api.get(answer.headers["location"], params={"wait": 5}).json()

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/tasks/{answer.json()['id']}"
    assert answer.headers["preference-applied"] == "wait=0.3"
    assert answer.json()["state"] == "queued"
    assert 0.3 <= took_s < 2.5
    assert task["state"] == "done"


def test_an_action_is_answered_as_soon_as_it_is_done(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    worker.answers["start"] = lambda task: None

    began_s = time.monotonic()
    api.post(f"{address('a')}/action", json={"action": "start"})

    assert time.monotonic() - began_s < 2


def test_hardware_is_looked_at_afresh(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    vm_uuid = rows.vm(rows.host("kvm-1"), "a")
    looked: list[dict[str, Any]] = []
    worker.answers["sync_vm"] = looked.append

    hardware = api.get(f"{address('a')}/hardware").json()

    assert looked[0]["vm_uuid"] == vm_uuid
    [disk], [network] = hardware["disks"], hardware["networks"]
    kept = HARDWARE["disks"][0]
    assert disk | kept | {"driver": ANY, "target": ANY} == disk
    assert disk["driver"] | kept["driver"] == disk["driver"]
    assert disk["target"] | kept["target"] == disk["target"]
    assert network["mac"] == {"address": "52:54:00:11:22:33"}
    assert hardware["stale"] is False


def test_hardware_of_a_host_that_is_down_is_the_last_known(
    api: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1", "unreachable"), "a")

    answer = api.get(f"{address('a')}/hardware")

    assert answer.status_code == 200
    assert answer.json()["stale"] is True
    assert answer.json()["disks"][0]["path"] == "/vm/a.qcow2"


@pytest.mark.parametrize("error", [HostTimeout("late"), BrokenDomain("odd")])
def test_hardware_that_cannot_be_looked_at_is_the_last_known(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker, error: Exception
) -> None:
    def fail(task: dict[str, Any]) -> None:
        raise error

    rows.vm(rows.host("kvm-1"), "a")
    worker.answers["sync_vm"] = fail

    answer = api.get(f"{address('a')}/hardware")

    assert (answer.status_code, answer.json()["stale"]) == (200, True)


def test_hardware_without_a_worker_is_the_last_known(
    api: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    answer = api.get(f"{address('a')}/hardware", headers={"Prefer": "wait=0.1"})

    assert (answer.status_code, answer.json()["stale"]) == (200, True)


def test_hardware_never_seen_of_a_host_that_is_down_is_503(
    api: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1", "unreachable"), "a", hardware=None)

    answer = api.get(f"{address('a')}/hardware")

    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_hardware_of_a_vm_that_the_look_finds_gone_is_404(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    def gone(task: dict[str, Any]) -> None:
        raise UnknownVm("The VM is gone.")

    rows.vm(rows.host("kvm-1"), "a")
    worker.answers["sync_vm"] = gone

    assert api.get(f"{address('a')}/hardware").status_code == 404


def test_vms_are_searched_over_all_hosts(api: httpx.Client, rows: Rows) -> None:
    one, two = rows.host("one"), rows.host("two")
    rows.vm(one, "a")
    rows.vm(two, "a", hardware=None, state=5)
    rows.vm(two, "null", hardware=None)

    def found(**filters: str | int) -> list[tuple[str, str]]:
        answer = api.get("/api/vms", params=filters)
        return [(vm["host_id"], vm["name"]) for vm in answer.json()]

    assert len(found()) == 3
    assert found(name="a") == [("one", "a"), ("two", "a")]
    assert found(name="null") == [("two", "null")]
    assert found(mac="52:54:00:11:22:33") == [("one", "a")]
    assert found(mac="52:54:00:AA:22:33") == []
    assert found(disk="/vm/a.qcow2") == [("one", "a")]
    assert found(disk="/vm") == []
    assert found(state=5) == [("two", "a")]
    assert found(host="two", name="a") == [("two", "a")]


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("mac=no", "?mac"),
        ("state=running", "?state"),
        ("state=8", "?state"),
        ("state=null", "?state"),
        ("limit=0", "?limit"),
        ("limit=1001", "?limit"),
        ("cursor=%21", "?cursor"),
        ("cursor=LTE=", "?cursor"),
        ("cursor=ü", "?cursor"),
        ("colour=red", "?colour"),
        ("name=a&name=b", "?name"),
        ("name=%00", "?name"),
    ],
)
def test_a_wrong_parameter_is_400_and_says_which(
    api: httpx.Client, query: str, at: str
) -> None:
    answer = api.get(f"/api/vms?{query}")

    assert answer.status_code == 400
    assert answer.json()["at"] == at


def test_vms_come_in_pages_that_keep_their_filter(
    api: httpx.Client, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    for number in range(5):
        rows.vm(host, f"vm {number}", state=number % 2)

    for path in ("/api/vms?state=0&limit=1", "/api/hosts/kvm-1/vms?limit=2"):
        names = []
        url: str | None = path
        while url:
            answer = api.get(url)
            names += [vm["name"] for vm in answer.json()]
            url = answer.links.get("next", {}).get("url")
        assert names in (
            ["vm 0", "vm 2", "vm 4"],
            ["vm 0", "vm 1", "vm 2", "vm 3", "vm 4"],
        )


@pytest.mark.parametrize(
    "search", ["/api/vms?disk=", "/api/vms?name=", "/api/tasks?vm=", "/api/tasks?host="]
)
def test_a_search_for_an_empty_name_finds_nothing(
    api: httpx.Client, search: str
) -> None:
    answer = api.get(search)

    assert (answer.status_code, answer.json()) == (200, [])


def test_a_task_may_end_before_its_request_hears_that_it_was_written(
    web: Webs, rows: Rows, worker: ScriptedWorker, postgres: Postgres
) -> None:
    rows.vm(rows.host("h"), "vm", state=5)
    worker.answers["start"] = lambda task: None
    with scratch() as folder:
        # libpq wants a socket of this very name.
        between = Proxy(postgres.socket, folder / postgres.socket.name)
        with between:
            url = postgres.url_of("api")
            slow = url.replace(str(postgres.socket.parent), str(folder))
            far = web(DATABASE_URL=slow, VIRTUMANCER_WAIT_S="30")
            between.delay(0.2)

            path = f"{far.url}/api/hosts/h/vms/vm/action"
            answer = httpx.post(path, json={"action": "start"}, timeout=40)

    assert answer.status_code == 204
    assert answer.elapsed.total_seconds() < 15
