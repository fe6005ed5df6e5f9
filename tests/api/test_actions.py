"""/api/actions: one action on many VMs, and cancelling what has not begun."""

import threading
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb

from common.db import sql
from common.errors import HostRemoved, LibvirtRefused, problem_of
from tests.api.conftest import Rows, ScriptedWorker

LATER = {"Prefer": "respond-async"}
ALL = {"action": "start", "filter": {"name": "*"}}


def children(api: httpx.Client, parent: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(
        "/api/tasks", params={"parent": parent, "limit": 1000}
    ).json()
    return found[::-1]


def fleet(rows: Rows, hosts: int, vms: int) -> None:
    for h in range(hosts):
        host = rows.host(f"h{h}")
        for v in range(vms):
            rows.vm(host, f"vm {v}", state=5)


def test_an_action_is_done_to_a_list(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    fleet(rows, 2, 3)
    worker.answers["start"] = lambda task: None
    vms = [{"host": "h0", "name": "vm 1"}, {"host": "h1", "name": "vm 2"}]

    answer = api.post("/api/actions", json={"action": "start", "vms": vms * 2})

    parent = answer.json()
    assert answer.status_code == 200
    assert (parent["kind"], parent["state"]) == ("actions", "done")
    assert parent["progress"] == {
        "action": "start",
        "total": 2,
        "done": 2,
        "failed": 0,
        "interrupted": 0,
        "cancelled": 0,
    }
    seen = [
        (c["host_id"], c["vm_name"], c["kind"]) for c in children(api, parent["id"])
    ]
    assert seen == [("h0", "vm 1", "start"), ("h1", "vm 2", "start")]
    assert [t["id"] for t in api.get("/api/tasks").json()] == [parent["id"]]
    assert len(api.get("/api/tasks?host=h0").json()) == 1


def test_what_is_refused_fails_alone(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    fleet(rows, 1, 3)
    rows.vm(rows.host("down", "unreachable"), "a")
    busy = api.post(
        "/api/hosts/h0/vms/vm 0/action", json={"action": "reset"}, headers=LATER
    ).json()
    rows.run("update tasks set state = 'running', process_id = %(id)s", id=worker.id)

    def start(task: dict[str, Any]) -> None:
        if task["vm_name"] == "vm 2":
            raise LibvirtRefused("libvirt refused: no.")

    worker.answers["start"] = start
    names = [("h0", "vm 0"), ("h0", "vm 1"), ("h0", "vm 2"), ("h0", "none")]
    names += [("down", "a"), ("nowhere", "b")]
    vms = [{"host": host, "name": name} for host, name in names]

    parent = api.post("/api/actions", json={"action": "start", "vms": vms}).json()

    ends = {
        (c["host_id"], c["vm_name"]): (c["problem"] or {"type": ""})["type"]
        for c in children(api, parent["id"])
    }
    assert {k: v.rpartition("/")[2] for k, v in ends.items()} == {
        ("h0", "vm 0"): "vm-busy",
        ("h0", "vm 1"): "",
        ("h0", "vm 2"): "libvirt-refused",
        ("h0", "none"): "unknown-vm",
        ("down", "a"): "host-unreachable",
        ("nowhere", "b"): "unknown-host",
    }
    assert parent["state"] == "failed"
    assert (parent["progress"]["done"], parent["progress"]["failed"]) == (1, 5)
    refused = next(c for c in children(api, parent["id"]) if c["vm_name"] == "vm 0")
    assert refused["problem"]["task"] == busy["id"]
    assert parent["problem"]["task"] in {c["id"] for c in children(api, parent["id"])}


def test_nothing_but_refusals_ends_at_once(api: httpx.Client, rows: Rows) -> None:
    rows.vm(rows.host("down", "disabled"), "a")

    answer = api.post("/api/actions", json=ALL)

    assert answer.elapsed.total_seconds() < 1
    assert answer.status_code == 200
    assert answer.json()["state"] == "failed"
    assert answer.json()["ended_at"]


def test_a_filter_that_fits_nothing_is_done(api: httpx.Client, rows: Rows) -> None:
    parent = api.post("/api/actions", json=ALL).json()

    assert (parent["state"], parent["progress"]["total"]) == ("done", 0)


def test_a_dry_run_does_nothing_and_says_what_would_be(
    api: httpx.Client, rows: Rows
) -> None:
    host = rows.host("h0")
    rows.vm(host, "off", state=5)
    rows.vm(host, "on", state=1)
    rows.vm(host, "paused", state=3)
    rows.vm(rows.host("down", "unreachable"), "lost")

    answer = api.post("/api/actions", json=ALL | {"dry_run": True})

    said = answer.json()
    assert (said["total"], said["acts"], said["refused"]) == (4, 1, 2)
    ends = {
        vm["vm_name"]: (vm["acts"], vm["problem"] and vm["problem"]["status"])
        for vm in said["vms"]
    }
    assert ends == {
        "off": (True, None),
        "on": (False, None),
        "paused": (False, 409),
        "lost": (False, 503),
    }
    assert api.get("/api/tasks").json() == []


@pytest.mark.parametrize("per_host", [1, 3])
def test_never_more_at_a_time_than_asked_for_on_a_host(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker, per_host: int
) -> None:
    fleet(rows, 2, 10)
    most: dict[str, int] = {}

    def start(task: dict[str, Any]) -> None:
        for row in rows.run(
            "select host_id, count(*)::int as n from tasks"
            " where parent_id is not null and not held"
            " and state in ('queued', 'running') group by host_id"
        ):
            most[row["host_id"]] = max(most.get(row["host_id"], 0), row["n"])

    worker.answers["start"] = start

    parent = api.post("/api/actions", json=ALL | {"per_host": per_host}).json()

    assert parent["state"] == "done"
    assert parent["progress"]["done"] == 20
    assert most == {"h0": per_host, "h1": per_host}


def test_what_has_not_begun_is_cancelled(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    fleet(rows, 1, 6)
    begun, go_on = threading.Event(), threading.Event()

    def start(task: dict[str, Any]) -> None:
        begun.set()
        go_on.wait(10)

    worker.answers["start"] = start
    parent = api.post("/api/actions", json=ALL, headers=LATER).json()
    assert parent["state"] == "running"
    begun.wait(5)

    cancelled = api.delete(f"/api/tasks/{parent['id']}")
    go_on.set()
    ended = api.get(f"/api/tasks/{parent['id']}?wait=10").json()

    assert cancelled.status_code == 200
    assert cancelled.json()["progress"]["cancelled"] == 5
    assert ended["state"] == "cancelled"
    assert (ended["progress"]["done"], ended["progress"]["cancelled"]) == (1, 5)
    again = api.post("/api/hosts/h0/vms/vm 5/action", json={"action": "start"})
    assert again.status_code == 204


def test_a_task_that_waits_is_cancelled_and_whoever_waits_hears_it(
    api: httpx.Client, rows: Rows, server: Any
) -> None:
    rows.vm(rows.host("h0"), "a")
    url = "/api/hosts/h0/vms/a/action"
    answers: list[httpx.Response] = []

    def act() -> None:
        answers.append(httpx.post(f"{server.url}{url}", json={"action": "start"}))

    waiting = threading.Thread(target=act)
    waiting.start()
    while not (tasks := api.get("/api/tasks").json()):
        pass
    cancelled = api.delete(f"/api/tasks/{tasks[0]['id']}")
    waiting.join(3)

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert answers[0].status_code == 409
    assert answers[0].json()["type"] == "/api/problems/task-cancelled"
    assert api.delete(f"/api/tasks/{tasks[0]['id']}").status_code == 200
    assert api.delete("/api/tasks/none").status_code == 404


def test_what_has_begun_cannot_be_cancelled(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("h0"), "a")
    worker.answers["start"] = lambda task: None
    api.post("/api/hosts/h0/vms/a/action", json={"action": "start"})
    [task] = api.get("/api/tasks").json()

    answer = api.delete(f"/api/tasks/{task['id']}")

    assert answer.status_code == 409
    assert answer.json()["type"] == "/api/problems/task-begun"


def test_a_host_that_is_removed_takes_its_children_along(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    fleet(rows, 2, 6)
    parent = api.post("/api/actions", json=ALL, headers=LATER).json()

    api.delete("/api/hosts/h0")
    worker.answers["start"] = lambda task: None
    ended = api.get(f"/api/tasks/{parent['id']}?wait=10").json()

    assert ended["state"] == "failed"
    assert (ended["progress"]["done"], ended["progress"]["failed"]) == (6, 6)
    assert ended["problem"]["type"].endswith(HostRemoved.type)


def test_a_child_whose_worker_died_lets_the_next_go(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    fleet(rows, 1, 3)
    reset = ALL | {"action": "reset", "per_host": 1}
    parent = api.post("/api/actions", json=reset, headers=LATER).json()
    rows.run(sql.tasks.claim, host_id="h0", lane="power", process_id=worker.id)
    rows.run("update tasks set process_id = null where parent_id is not null")

    problem = problem_of(HostRemoved("x"))

    rows.run(sql.tasks.interrupt_orphans, max_attempts=5, problem=Jsonb(problem))
    worker.answers["reset"] = lambda task: None
    ended = api.get(f"/api/tasks/{parent['id']}?wait=10").json()

    assert ended["state"] == "failed"
    assert (ended["progress"]["interrupted"], ended["progress"]["done"]) == (1, 2)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"action": "start"}, "$.vms"),
        ({"action": "start", "vms": []}, "$.vms"),
        ({"action": "start", "filter": {}}, "$.filter"),
        ({"action": "start", "filter": {"name": "*"}, "vms": [{}]}, "$.vms[0].host"),
        ({"action": "start", "filter": {"name": "\0"}}, "$.filter.name"),
        ({"action": "explode", "filter": {"name": "*"}}, "$.action"),
        (ALL | {"per_host": 0}, "$.per_host"),
    ],
)
def test_a_wrong_body_is_400(api: httpx.Client, body: object, at: str) -> None:
    answer = api.post("/api/actions", json=body)

    assert (answer.status_code, answer.json()["at"]) == (400, at)


def test_the_same_key_acts_once(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    fleet(rows, 1, 2)
    done: list[Any] = []
    worker.answers["start"] = done.append
    key = {"Idempotency-Key": "k"}

    first, second = (api.post("/api/actions", json=ALL, headers=key) for _ in "12")

    assert (first.status_code, second.content) == (200, first.content)
    assert len(done) == 2
