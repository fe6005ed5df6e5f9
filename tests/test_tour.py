"""The contract as a newcomer meets it: `bin/up`, its demo machines, curl and virsh.

Everything is real: the processes of the Procfile, the embedded servers, QEMU.
"""

import json
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import libvirt
import pytest
from websockets.sync.client import ClientConnection, connect

from embedded.machines import machine_xml
from embedded.processes import tagged
from embedded.up import MARK
from tests.lab.up import Running, home_folder

RUNNING, PAUSED, OFF = 1, 3, 5


@pytest.fixture(scope="module")
def up() -> Iterator[Running]:
    with home_folder() as home, Running(home) as up:
        assert up.hears("/api/hosts/demo/info", timeout_s=60), up.said
        yield up
        up.end()
        print(up.said)  # noqa: T201


def pid_of(up: Running, command: str) -> int:
    """The process of the Procfile that runs this module."""
    for pid in tagged(MARK, str(up.state)):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[1:3] == [b"-m", command.encode()]:
            return pid
    raise AssertionError(f"no process runs {command}")


@pytest.fixture
def api(up: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{up.url}/api", timeout=40) as client:
        yield client


@pytest.fixture
def virsh(up: Running) -> Iterator[Any]:
    """A libvirt connection behind our back."""
    uri = httpx.get(f"{up.url}/api/hosts").json()[0]["uri"]
    connection = libvirt.open(uri)
    yield connection
    connection.close()


@pytest.fixture
def socket(up: Running) -> Iterator[ClientConnection]:
    with connect(f"{up.url.replace('http', 'ws')}/ws") as socket:
        yield socket


def act(api: httpx.Client, vm: str, action: str) -> httpx.Response:
    where = f"/hosts/demo/vms/{quote(vm, safe='')}/action"
    return api.post(where, json={"action": action})


def state_of(api: httpx.Client, vm: str) -> int | None:
    vms = {v["name"]: v["state"] for v in api.get("/hosts/demo/vms").json()}
    return vms.get(vm)


def frame_of(socket: ClientConnection, kind: str, timeout_s: float = 10) -> Any:
    """The next frame of this type."""
    until = time.monotonic() + timeout_s
    while True:
        frame = json.loads(socket.recv(timeout=until - time.monotonic()))
        if frame["type"] == kind:
            return frame["payload"]


Eventually = Callable[..., None]


def test_the_demo_host_is_there_with_its_machines(api: httpx.Client) -> None:
    hosts = api.get("/hosts").json()
    vms = api.get("/hosts/demo/vms").json()

    assert [host["id"] for host in hosts] == ["demo"]
    assert hosts[0]["created_at"].endswith("Z")
    assert {vm["name"] for vm in vms} >= {"demo-one", "demo-two", "demo-three"}
    one = next(vm for vm in vms if vm["name"] == "demo-one")
    assert one["vcpu_count"] == 1
    assert one["memory_bytes"] == 64 << 20
    assert one["graphics"] == {"vnc": True, "spice": False}
    assert isinstance(one["db_id"], int)


def test_health_says_that_everything_answers(api: httpx.Client) -> None:
    health = api.get("/health").json()

    assert health["status"] == "ok"
    assert health["workers"]["alive"] >= 1
    assert health["monitors"]["alive"] >= 1


def test_info_is_the_machine_itself(api: httpx.Client) -> None:
    info = api.get("/hosts/demo/info").json()

    assert info["hostname"]
    assert info["cpu"] == os.cpu_count()
    assert info["memory"] > 1 << 29
    assert info["cores"] >= 1
    assert info["threads"] >= 1


def test_every_power_action_does_what_it_says(
    api: httpx.Client, virsh: Any, eventually: Eventually
) -> None:
    domain = virsh.lookupByName("demo-one")
    for action, state in [
        ("start", RUNNING),
        ("start", RUNNING),
        ("suspend", PAUSED),
        ("resume", RUNNING),
        ("reset", RUNNING),
    ]:
        assert act(api, "demo-one", action).status_code == 204, action
        assert domain.state()[0] == state, action
        assert state_of(api, "demo-one") == state, action

    # The guest obeys when it has booted, and not before.
    eventually(lambda: press(api, "shutdown") and domain.state()[0] == OFF, 30)
    eventually(lambda: state_of(api, "demo-one") == OFF)
    assert act(api, "demo-one", "shutdown").status_code == 204
    assert act(api, "demo-one", "destroy").status_code == 204
    for action in ("reboot", "reset", "suspend"):
        refused = act(api, "demo-one", action)
        assert refused.status_code == 409, action
        assert refused.headers["content-type"] == "application/problem+json"


def press(api: httpx.Client, action: str) -> bool:
    return act(api, "demo-one", action).status_code in (204, 409)


def test_a_reboot_starts_the_guest_anew(api: httpx.Client, virsh: Any) -> None:
    assert act(api, "demo-two", "start").status_code == 204
    try:
        assert act(api, "demo-two", "reboot").status_code == 204
        assert virsh.lookupByName("demo-two").isActive()
    finally:
        assert act(api, "demo-two", "destroy").status_code == 204
    assert state_of(api, "demo-two") == OFF


def test_hardware_has_the_contracts_names(api: httpx.Client) -> None:
    hardware = api.get("/hosts/demo/vms/demo-one/hardware").json()

    (disk,) = hardware["disks"]
    assert (disk["type"], disk["device"]) == ("file", "disk")
    assert disk["driver"]["driver_name"] == "qemu"
    assert disk["driver"]["type"] == "raw"
    assert disk["path"].endswith("demo-one.img")
    assert disk["target"]["dev"] == "vda"
    assert disk["target"]["bus"] == "virtio"
    assert disk["capacity_bytes"] == Path(disk["path"]).stat().st_size
    (network,) = hardware["networks"]
    assert network["model"]["model_type"] == "virtio"
    assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", network["mac"]["address"])
    assert hardware["stale"] is False


def test_a_vm_is_found_by_its_mac_and_its_disk(api: httpx.Client) -> None:
    hardware = api.get("/hosts/demo/vms/demo-three/hardware").json()
    mac = hardware["networks"][0]["mac"]["address"]

    by_mac = api.get("/vms", params={"mac": mac.upper()}).json()
    by_disk = api.get("/vms", params={"disk": hardware["disks"][0]["path"]}).json()

    assert [vm["name"] for vm in by_mac] == ["demo-three"]
    assert [vm["name"] for vm in by_disk] == ["demo-three"]


@pytest.mark.parametrize(
    "name",
    ["a b", "ünïcödé-机器", "per%cent?and#hash", "quo'te\"s", "-dash", "x;rm -rf"],
)
def test_a_vm_of_any_name_is_defined_started_and_gone(
    api: httpx.Client, virsh: Any, up: Running, name: str, eventually: Eventually
) -> None:
    disk = up.state / "libvirtd" / "disks" / "demo-three.img"
    domain_uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    domain = virsh.defineXML(machine_xml(name, domain_uuid, disk))
    try:
        eventually(lambda: state_of(api, name) == OFF)
        assert act(api, name, "start").status_code == 204
        assert state_of(api, name) == RUNNING
        where = f"/hosts/demo/vms/{quote(name, safe='')}/hardware"
        assert api.get(where).status_code == 200
        assert act(api, domain.UUIDString(), "destroy").status_code == 204
    finally:
        if domain.isActive():
            domain.destroy()
        domain.undefine()
    eventually(lambda: state_of(api, name) is None)
    assert act(api, name, "start").status_code == 404


def test_what_virsh_does_arrives_by_itself(
    api: httpx.Client, virsh: Any, socket: ClientConnection
) -> None:
    socket.ping().wait(5)
    domain = virsh.lookupByName("demo-two")
    domain.create()
    try:
        began = time.monotonic()
        assert frame_of(socket, "vms-changed") == {"hostId": "demo"}
        while state_of(api, "demo-two") != RUNNING:
            frame_of(socket, "vms-changed")
        assert time.monotonic() - began < 5
    finally:
        domain.destroy()
    while state_of(api, "demo-two") != OFF:
        frame_of(socket, "vms-changed")


def test_stats_come_at_once_and_go_on_over_a_stop(
    api: httpx.Client, socket: ClientConnection
) -> None:
    assert act(api, "demo-one", "start").status_code == 204
    address = {"hostId": "demo", "vmName": "demo-one"}
    began = time.monotonic()
    socket.send(json.dumps({"type": "subscribe-vm-stats", "payload": address}))

    first = frame_of(socket, "vm-stats-updated")

    assert time.monotonic() - began < 1.9
    assert (first["hostId"], first["vmName"]) == ("demo", "demo-one")
    assert first["stats"]["state"] == RUNNING
    assert first["stats"]["memory"] == first["stats"]["max_mem"] == 64 << 10
    assert first["stats"]["vcpu"] == 1
    assert first["stats"]["disk_stats"][0]["device"] == "vda"
    second = frame_of(socket, "vm-stats-updated")
    while not second["stats"]["cpu_percent"]:
        second = frame_of(socket, "vm-stats-updated")
    assert second["stats"]["cpu_time"] > first["stats"]["cpu_time"]
    assert second["stats"]["disk_stats"][0]["read_bytes"] > 0

    assert act(api, "demo-one", "destroy").status_code == 204
    while frame_of(socket, "vm-stats-updated")["stats"]["state"] != OFF:
        pass
    assert act(api, "demo-one", "start").status_code == 204
    while frame_of(socket, "vm-stats-updated")["stats"]["state"] != RUNNING:
        pass

    socket.send(json.dumps({"type": "unsubscribe-vm-stats", "payload": address}))
    socket.send("a bad frame")
    frame_of(socket, "error")
    with pytest.raises(TimeoutError):
        frame_of(socket, "vm-stats-updated", timeout_s=5)
    assert act(api, "demo-one", "destroy").status_code == 204


def test_hosts_come_and_go(
    api: httpx.Client, socket: ClientConnection, eventually: Eventually
) -> None:
    uri = api.get("/hosts").json()[0]["uri"].replace("qemu+", "test+")
    uri = uri.replace("/session", "/default")
    added = api.post("/hosts", json={"id": "second", "uri": uri})

    assert added.status_code == 200
    assert added.json()["id"] == "second"
    assert added.json()["uri"] == uri
    assert frame_of(socket, "hosts-changed") is None
    assert [vm["name"] for vm in api.get("/hosts/second/vms").json()] == ["test"]
    again = api.post("/hosts", json={"id": "second", "uri": uri})
    assert again.status_code == 409

    assert api.delete("/hosts/second").status_code == 204
    frame_of(socket, "hosts-changed")
    assert api.get("/hosts/second/vms").status_code == 404
    assert api.delete("/hosts/second").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "bad", "uri": "qemu+tcp://127.0.0.1:1/system"}, 500),
        ({"id": "bad", "uri": "qemu+ext:///system?command=/bin/true"}, 422),
        ({"id": "bad", "uri": "test:///default"}, 422),
        ({"id": "not good", "uri": "qemu:///system"}, 400),
        ({"id": "bad"}, 400),
    ],
)
def test_a_host_that_cannot_be_added_leaves_nothing(
    api: httpx.Client, body: dict[str, str], status: int
) -> None:
    answer = api.post("/hosts", json=body)

    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert answer.json()["detail"]
    assert [host["id"] for host in api.get("/hosts").json()] == ["demo"]


@pytest.mark.parametrize("command", ["workers.main", "workers.monitor", "api"])
def test_a_process_that_is_killed_comes_back_and_all_goes_on(
    up: Running, api: httpx.Client, command: str, virsh: Any, eventually: Eventually
) -> None:
    victim = pid_of(up, command)
    os.kill(victim, signal.SIGKILL)

    eventually(lambda: works(api), 30)
    assert act(api, "demo-three", "destroy").status_code == 204
    domain = virsh.lookupByName("demo-three")
    domain.create()
    eventually(lambda: state_of(api, "demo-three") == RUNNING, 20)
    domain.destroy()
    eventually(lambda: state_of(api, "demo-three") == OFF, 20)


def works(api: httpx.Client) -> bool:
    try:
        return act(api, "demo-three", "start").status_code == 204
    except httpx.TransportError:
        return False


def test_server_sent_events_carry_the_same_frames(up: Running, virsh: Any) -> None:
    url = f"{up.url}/api/events?vm-stats=demo/demo-two"
    with httpx.stream("GET", url, timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == (
            "event: vm-stats-updated"
        )
        domain = virsh.lookupByName("demo-two")
        domain.create()
        try:
            assert "event: vms-changed" in lines
        finally:
            domain.destroy()
