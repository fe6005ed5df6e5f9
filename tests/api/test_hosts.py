"""/api/hosts, as the contract has it."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from common.db import sql
from common.errors import ConnectionFailed
from tests.api.conftest import Rows, ScriptedWorker

NEW = {"id": "kvm-1", "uri": "qemu+ssh://root@kvm-1/system"}
INFO = {"hostname": "kvm-1", "cpu": 8, "memory": 16777216000, "cores": 4, "threads": 2}


def connects(rows: Rows) -> Callable[[dict[str, Any]], object]:
    def connect(task: dict[str, Any]) -> object:
        rows.run(sql.hosts.add, id=task["host_id"], uri=task["uri"])
        return rows.run(sql.hosts.get, id=task["host_id"])[0]

    return connect


def test_an_added_host_is_answered_and_listed(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    worker.answers["connect"] = connects(rows)

    added = api.post("/api/hosts", json=NEW)

    assert added.status_code == 200
    assert added.json()["id"] == "kvm-1"
    assert added.json()["uri"] == "qemu+ssh://root@kvm-1/system"
    assert added.json()["created_at"].endswith("Z")
    assert added.json()["state"] == "connected"
    assert api.get("/api/hosts").json() == [added.json()]
    assert api.get("/api/hosts/kvm-1").json() == added.json()


def test_no_hosts_are_an_empty_list(api: httpx.Client) -> None:
    assert api.get("/api/hosts").json() == []


def test_a_failed_connection_is_500_and_names_the_step(
    api: httpx.Client, worker: ScriptedWorker
) -> None:
    def refuse(task: dict[str, Any]) -> None:
        raise ConnectionFailed("ssh: Permission denied.", step="ssh")

    worker.answers["connect"] = refuse

    answer = api.post("/api/hosts", json=NEW)

    problem = answer.json()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "/api/problems/connection-failed"
    assert problem["step"] == "ssh"
    assert api.get(f"/api/tasks/{problem['task']}").json()["state"] == "failed"
    assert api.get("/api/hosts").json() == []


def test_a_taken_id_is_409(api: httpx.Client, rows: Rows) -> None:
    rows.host("kvm-1")

    answer = api.post("/api/hosts", json=NEW)

    assert answer.status_code == 409
    assert answer.json()["type"] == "/api/problems/host-id-taken"


def test_an_id_that_is_just_being_added_is_409(api: httpx.Client) -> None:
    first = api.post("/api/hosts", json=NEW, headers={"Prefer": "respond-async"})

    second = api.post("/api/hosts", json=NEW)

    assert first.status_code == 202
    assert second.status_code == 409
    assert second.json()["task"] == first.json()["id"]


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"uri": NEW["uri"]}, "$.id"),
        ({"id": "kvm-1"}, "$.uri"),
        (NEW | {"name": "x"}, "$.name"),
        (NEW | {"id": "a b"}, "$.id"),
        (NEW | {"id": ""}, "$.id"),
        (NEW | {"id": "x" * 65}, "$.id"),
        (NEW | {"uri": 7}, "$.uri"),
        ([], "$"),
    ],
)
def test_a_wrong_body_is_400_and_says_where(
    api: httpx.Client, body: object, at: str
) -> None:
    answer = api.post("/api/hosts", json=body)

    assert answer.status_code == 400
    assert answer.json()["at"] == at


def test_a_pattern_is_shown_as_people_write_it(api: httpx.Client) -> None:
    answer = api.post("/api/hosts", json=NEW | {"id": "a b"})

    assert "like `[A-Za-z0-9._-]{1,64}`" in answer.json()["detail"]


def test_a_uri_that_is_not_allowed_is_422(api: httpx.Client) -> None:
    body = NEW | {"uri": "qemu+ext:///system?command=/bin/sh"}

    answer = api.post("/api/hosts", json=body)

    assert answer.status_code == 422
    assert answer.json()["type"] == "/api/problems/uri-not-allowed"


def test_a_removed_host_is_gone_with_its_vms(api: httpx.Client, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    removed = api.delete("/api/hosts/kvm-1")

    assert (removed.status_code, removed.content) == (204, b"")
    assert api.get("/api/hosts/kvm-1/vms").status_code == 404
    assert api.get("/api/vms").json() == []
    assert api.delete("/api/hosts/kvm-1").status_code == 404


def test_removing_a_host_ends_what_waits_for_it(
    api: httpx.Client, server: Any, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    answers: list[httpx.Response] = []

    def act() -> None:
        url = f"{server.url}/api/hosts/kvm-1/vms/a/action"
        answers.append(httpx.post(url, json={"action": "start"}, timeout=10))

    waiting = threading.Thread(target=act)
    waiting.start()
    while not api.get("/api/tasks").json():
        pass
    api.delete("/api/hosts/kvm-1")
    waiting.join(2)

    assert answers[0].status_code == 409
    assert answers[0].json()["type"] == "/api/problems/host-removed"


def test_info_is_asked_of_the_host(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.host("kvm-1")
    worker.answers["info"] = lambda task: INFO

    assert api.get("/api/hosts/kvm-1/info").json() == INFO


@pytest.mark.parametrize("state", ["unreachable", "disabled"])
def test_info_of_a_host_that_is_down_is_503_at_once(
    api: httpx.Client, rows: Rows, state: str
) -> None:
    rows.host("kvm-1", state)

    answer = api.get("/api/hosts/kvm-1/info")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert api.get("/api/tasks").json() == []


def test_unknown_hosts_are_404(api: httpx.Client) -> None:
    for path in ("", "/info", "/vms", "/vms/a", "/vms/a/hardware"):
        answer = api.get(f"/api/hosts/nobody{path}")
        assert answer.status_code == 404, path
        assert answer.json()["type"] == "/api/problems/unknown-host"


def test_hosts_come_in_pages(api: httpx.Client, rows: Rows) -> None:
    for name in "cab":
        rows.host(name)

    first = api.get("/api/hosts", params={"limit": 2})
    second = api.get(first.links["next"]["url"])

    assert [host["id"] for host in first.json()] == ["a", "b"]
    assert [host["id"] for host in second.json()] == ["c"]
    assert "next" not in second.links
    assert len(api.get("/api/hosts").json()) == 3


def test_a_removed_host_frees_its_id(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    worker.answers["connect"] = connects(rows)
    for _ in range(2):
        assert api.post("/api/hosts", json=NEW).status_code == 200
        assert api.delete("/api/hosts/kvm-1").status_code == 204


def test_a_host_id_that_postgres_could_not_hold_is_404(api: httpx.Client) -> None:
    assert api.get(f"/api/hosts/{uuid.uuid4()}%00").status_code == 404
