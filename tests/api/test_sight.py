"""What a token may not see does not exist for it."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from common import bus
from common.db import sql
from common.shapes import HostsChanged
from common.tokens import seconds_of, sees, sight_of
from tests.api.conftest import Rows, ScriptedWorker, WebProcess
from tests.lab import admission

AT_ONCE = {"Prefer": "respond-async"}


@dataclass
class Fleet:
    """Hosts kvm-1 and lab-1, a VM on each, and clients that see all or kvm-* alone."""

    rows: Rows
    web: WebProcess
    everything: httpx.Client
    limited: httpx.Client
    mine: uuid.UUID
    other: uuid.UUID

    def socket(self, client: httpx.Client) -> ClientConnection:
        shown = {"Authorization": client.headers["Authorization"]}
        return connect(self.web.ws_url, additional_headers=shown)


@pytest.fixture
def fleet(
    environment: dict[str, str], locked: WebProcess, rows: Rows
) -> Iterator[Fleet]:
    url = environment["DATABASE_URL"]

    def client(**limits: Any) -> httpx.Client:
        headers = admission.admit(url, "admin", **limits)
        return httpx.Client(base_url=locked.url, headers=headers, timeout=15)

    mine = rows.vm(rows.host("kvm-1"), "web")
    other = rows.vm(rows.host("lab-1"), "payroll")
    with client() as everything, client(hosts=["kvm-*"]) as limited:
        yield Fleet(rows, locked, everything, limited, mine, other)


def ids(answer: httpx.Response, key: str = "id") -> set[str]:
    assert answer.status_code == 200, answer.text
    return {one[key] for one in answer.json()}


@pytest.mark.parametrize(
    ("patterns", "fitting", "others"),
    [
        (["kvm-*"], ["kvm-1", "kvm-"], ["kvm", "xkvm-1", "KVM-1", "lab.kvm-1"]),
        (["kvm-?", "lab"], ["kvm-1", "lab"], ["kvm-12", "lab1"]),
        (["k.m"], ["k.m"], ["kvm"]),
        (["h[0-3]"], ["h0", "h3"], ["h4", "h-", "h"]),
        (["h[!0-3]"], ["h4", "h-"], ["h0"]),
        (["h[a-]"], ["ha", "h-"], ["hb"]),
        (["*"], ["x"], []),
    ],
)
def test_python_and_postgres_see_alike(
    rows: Rows, patterns: list[str], fitting: list[str], others: list[str]
) -> None:
    sight = sight_of(patterns)

    for host_id in fitting + others:
        [row] = rows.run("select %(id)s ~ %(s)s as it", id=host_id, s=sight)
        assert row["it"] == sees(patterns, host_id) == (host_id in fitting), host_id


def test_a_pattern_that_no_id_fits_is_none() -> None:
    assert sight_of(["h[!A-Za-z0-9._-]"]) is None
    assert sight_of(["h[z-a]"]) is None


def test_how_long_a_token_lasts_is_written_as_people_do() -> None:
    assert seconds_of("90d") == 90 * 86400
    assert seconds_of("30m") == 1800
    for wrong in ("", "d", "0d", "-1d", "1y", "1 d"):
        with pytest.raises(ValueError, match="90d"):
            seconds_of(wrong)


def test_lists_and_sums_leave_out_what_is_not_seen(fleet: Fleet) -> None:
    for path, key in (("/api/hosts", "id"), ("/api/vms", "host_id")):
        assert ids(fleet.everything.get(path), key) == {"kvm-1", "lab-1"}
        assert ids(fleet.limited.get(path), key) == {"kvm-1"}
    assert ids(fleet.limited.get("/api/vms?q=payroll"), "name") == set()
    overview = fleet.limited.get("/api/overview").json()
    assert overview["hosts"] == overview["vms"] == 1
    assert [host["id"] for host in overview["by_host"]] == ["kvm-1"]
    page = fleet.limited.get("/metrics").text
    assert "kvm-1" in page
    assert "lab-1" not in page
    assert "lab-1" in fleet.everything.get("/metrics").text


def test_the_rest_is_404_as_if_there_were_nothing(fleet: Fleet) -> None:
    def problem(method: str, path: str, host: str) -> Any:
        body = {"action": "start"} if path.endswith("action") else None
        where = path.format(host)
        answer = fleet.limited.request(method, f"/api/hosts/{where}", json=body)
        said = answer.json()
        said["detail"] = said["detail"].replace(host, "HOST")
        return said

    for method, path in (
        ("GET", "{}"),
        ("DELETE", "{}"),
        ("GET", "{}/vms"),
        ("GET", "{}/info"),
        ("POST", "{}/disconnect"),
        ("GET", "{}/vms/payroll"),
        ("GET", "{}/vms/payroll/hardware"),
        ("POST", "{}/vms/payroll/action"),
    ):
        unseen = problem(method, path, "lab-1")
        assert unseen["status"] == 404
        assert unseen == problem(method, path, "none-1"), path


def test_a_host_outside_cannot_be_added(fleet: Fleet) -> None:
    for new in ("lab-1", "lab-2"):
        body = {"id": new, "uri": "qemu:///system"}
        refused = fleet.limited.post("/api/hosts", json=body)
        assert refused.status_code == 403
        assert refused.json()["type"] == "/api/problems/host-outside-token"
    check = {"uri": "qemu+ssh://lab-1/system"}
    assert fleet.limited.post("/api/hosts/check", json=check).status_code == 403


def test_tasks_of_other_hosts_are_not_there(
    fleet: Fleet, worker: ScriptedWorker
) -> None:
    worker.answers["start"] = lambda task: None
    act = {"action": "start"}
    for host, vm in (("kvm-1", "web"), ("lab-1", "payroll")):
        path = f"/api/hosts/{host}/vms/{vm}/action"
        answer = fleet.everything.post(path, json=act, headers=AT_ONCE)
        assert answer.status_code < 300
    [unseen] = [
        task["id"]
        for task in fleet.everything.get("/api/tasks").json()
        if task["host_id"] == "lab-1"
    ]

    assert ids(fleet.limited.get("/api/tasks"), "host_id") == {"kvm-1"}
    assert fleet.limited.get("/api/tasks?host=lab-1").json() == []
    assert fleet.limited.get(f"/api/tasks/{unseen}").status_code == 404
    assert fleet.limited.delete(f"/api/tasks/{unseen}").status_code == 404


def test_an_action_on_many_acts_on_what_is_seen(
    fleet: Fleet, worker: ScriptedWorker
) -> None:
    worker.answers["start"] = lambda task: None
    all_vms = {"action": "start", "filter": {"name": "*"}}
    named = {"action": "start", "vms": [{"host": "lab-1", "name": "payroll"}]}

    mine = fleet.limited.post("/api/actions", json=all_vms, headers=AT_ONCE)
    both = fleet.everything.post("/api/actions", json=all_vms, headers=AT_ONCE)

    assert mine.json()["progress"]["total"] == 1
    assert both.json()["progress"]["total"] == 2
    assert fleet.limited.post("/api/actions", json=named).status_code == 404
    [seen] = fleet.limited.get("/api/tasks?kind=actions").json()
    assert seen["id"] == mine.json()["id"]
    path = f"/api/tasks/{both.json()['id']}"
    assert fleet.limited.get(path).status_code == 404
    assert fleet.everything.get(path).status_code == 200


def test_sockets_hear_of_nothing_else(fleet: Fleet, worker: ScriptedWorker) -> None:
    subscribe = {"type": "subscribe", "payload": {"topics": ["hosts", "vms", "tasks"]}}
    worker.answers["start"] = lambda task: None
    act = {"action": "start", "filter": {"name": "*"}}
    with fleet.socket(fleet.limited) as limited, fleet.socket(fleet.everything) as all_:
        for socket in (limited, all_):
            socket.send(json.dumps(subscribe))
            assert json.loads(socket.recv(10))["type"] == "subscribed"

        answer = fleet.everything.post("/api/actions", json=act, headers=AT_ONCE)
        assert answer.is_success
        for host_id in ("lab-1", "kvm-1"):
            revise = "update hosts set revision = revision + 1 where id = %(id)s"
            fleet.rows.run(revise, id=host_id)
            fleet.rows.publish(
                bus.frame(host_id, HostsChanged()), bus.vms_changed(host_id), bus.news()
            )

        heard, heard_all = until_host_updated(limited), until_host_updated(all_)

    assert "lab-1" in heard_all
    assert '"kind":"actions"' in heard_all
    assert "lab-1" not in heard
    assert '"kind":"actions"' not in heard
    assert heard.count('"hosts-changed"') == 1
    assert heard_all.count('"hosts-changed"') == 2


def until_host_updated(socket: ClientConnection) -> str:
    """All frames up to the one that says that kvm-1 has changed."""
    frames = []
    while True:
        frames.append(str(socket.recv(10)))
        told = json.loads(frames[-1])
        if told["type"] == "host-updated" and told["payload"]["id"] == "kvm-1":
            break
    # What is published bare may still be under way.
    while '"hostId":"kvm-1"' not in "".join(frames):
        frames.append(str(socket.recv(10)))
    return "\n".join(frames)


def test_what_was_missed_is_told_only_as_far_as_it_is_seen(fleet: Fleet) -> None:
    cursor = fleet.limited.get("/api/hosts").headers["x-virtumancer-cursor"]
    for host_id in ("lab-1", "kvm-1"):
        fleet.rows.run(
            "update hosts set revision = revision + 1 where id = %(id)s", id=host_id
        )
    task = {"kind": "actions", "lane": "fleet", "host_id": "*"}
    nothing = dict.fromkeys(("vm_uuid", "vm_name", "uri", "params", "request_id"))
    fleet.rows.run(
        sql.tasks.add_parent,
        id=uuid.uuid4(),
        requested_by="somebody",
        host_ids=["kvm-1", "lab-1"],
        origin=None,
        action="start",
        total=0,
        **task,
        **nothing,
    )
    since = {"topics": ["hosts", "vms", "tasks"], "since": cursor}

    with fleet.socket(fleet.limited) as socket:
        socket.send(json.dumps({"type": "subscribe", "payload": since}))
        frames = [json.loads(socket.recv(10)) for _ in range(3)]

    assert [frame["type"] for frame in frames] == [
        "subscribed",
        "host-updated",
        "replayed",
    ]
    assert frames[1]["payload"]["id"] == "kvm-1"


def test_stats_of_other_hosts_cannot_be_had(fleet: Fleet) -> None:
    address = {"hostId": "lab-1", "vmName": "payroll"}
    with fleet.socket(fleet.limited) as socket:
        socket.send(json.dumps({"type": "subscribe-vm-stats", "payload": address}))
        assert json.loads(socket.recv(10))["payload"]["code"] == "unknown-host"
    answer = fleet.limited.get("/api/events?vm-stats=lab-1/payroll")
    assert answer.status_code == 404


def test_one_tokens_keys_are_none_of_anothers(
    fleet: Fleet, worker: ScriptedWorker
) -> None:
    pressed: list[Any] = []
    worker.answers["start"] = pressed.append
    path, act = "/api/hosts/kvm-1/vms/web/action", {"action": "start"}
    key = {"Idempotency-Key": uuid.uuid4().hex}

    for client in (fleet.limited, fleet.everything, fleet.limited):
        assert client.post(path, json=act, headers=key).status_code == 204

    assert len(pressed) == 2
    names = {task["requested_by"] for task in pressed}
    assert len(names) == 2
