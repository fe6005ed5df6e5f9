"""ETags, and what can be changed: a host's link and address, a VM's words."""

import threading
from typing import Any

import httpx
import pytest

from common.db import sql
from common.errors import ConnectionFailed
from tests.api.conftest import Rows, ScriptedWorker
from tests.api.test_hosts import NEW, connects

HOST = "/api/hosts/kvm-1"
VM = f"{HOST}/vms/a"
MOVED = {"uri": "qemu+ssh://root@kvm-2/system"}


def edits(rows: Rows) -> Any:
    """What a worker does to a row, without a hypervisor."""

    def edit(task: dict[str, Any]) -> object:
        for name, value in task["params"].items():
            rows.run(f"update vms set {name} = %(value)s", value=value)
        [vm] = rows.run(
            sql.vms.get, host_id=task["host_id"], vm=None, uuid=task["vm_uuid"]
        )
        return vm

    return edit


def moves(rows: Rows) -> Any:
    def move(task: dict[str, Any]) -> object:
        rows.run(sql.hosts.move, id=task["host_id"], uri=task["uri"])
        return rows.run(sql.hosts.get, id=task["host_id"])[0]

    return move


@pytest.mark.parametrize(
    "path",
    ["/api/hosts", HOST, f"{HOST}/vms", VM, "/api/vms", "/api/tasks", "/api/problems"],
)
def test_what_has_not_changed_is_304(api: httpx.Client, rows: Rows, path: str) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    first = api.get(path)
    same = api.get(path, headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    other = api.get(path, headers={"If-None-Match": '"other"'})

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == first.headers["etag"]
    assert other.status_code == 200
    assert other.json() == first.json()


def test_a_change_changes_the_tag(api: httpx.Client, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    tags = {path: api.get(path).headers["etag"] for path in (VM, "/api/vms")}

    rows.run("update vms set state = 5")

    for path, tag in tags.items():
        assert api.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_a_vm_is_edited(api: httpx.Client, rows: Rows, worker: ScriptedWorker) -> None:
    rows.vm(rows.host("kvm-1"), "a", description="old")
    worker.answers["edit"] = edits(rows)

    answer = api.patch(VM, json={"title": "Web", "autostart": True})

    assert answer.status_code == 200
    assert answer.json() == api.get(VM).json()
    words = {"title": "Web", "description": "old", "autostart": True}
    assert answer.json() | words == answer.json()


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({}, "$"),
        ({"name": "b"}, "$.name"),
        ({"title": "two\nlines"}, "$.title"),
        ({"title": None}, "$.title"),
        ({"description": "\x00"}, "$.description"),
        ({"autostart": "yes"}, "$.autostart"),
    ],
)
def test_an_edit_that_makes_no_sense_is_400(
    api: httpx.Client, rows: Rows, body: object, at: str
) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    answer = api.patch(VM, json=body)

    assert (answer.status_code, answer.json()["at"]) == (400, at)


def test_only_what_was_read_is_changed(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    worker.answers["edit"] = edits(rows)
    tag = {"If-Match": api.get(VM).headers["etag"]}
    rows.run("update vms set observed_at = now()")
    rows.run("update hosts set observed_at = now()")

    first = api.patch(VM, json={"title": "one"}, headers=tag)
    second = api.patch(VM, json={"title": "two"}, headers=tag)

    assert first.status_code == 200
    assert second.status_code == 412
    assert second.json()["type"] == "/api/problems/changed"
    assert api.get(VM).json()["title"] == "one"
    assert len(api.get("/api/tasks").json()) == 1
    assert api.patch(VM, json={"title": "3"}, headers={"If-Match": "*"}).is_success


def test_of_two_that_read_the_same_one_changes_it(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    worker.answers["edit"] = edits(rows)
    tag = {"If-Match": api.get(VM).headers["etag"]}
    statuses: list[int] = []

    def edit(title: str) -> None:
        answer = api.patch(VM, json={"title": title}, headers=tag)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=edit, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}


def test_a_host_is_removed_only_as_it_was_read(api: httpx.Client, rows: Rows) -> None:
    rows.host("kvm-1")
    tag = {"If-Match": api.get(HOST).headers["etag"]}
    rows.run("update hosts set uri = 'qemu:///system'")

    assert api.delete(HOST, headers=tag).status_code == 412
    tag = {"If-Match": api.get(HOST).headers["etag"]}
    assert api.delete(HOST, headers=tag).status_code == 204


def test_a_host_moves(api: httpx.Client, rows: Rows, worker: ScriptedWorker) -> None:
    rows.host("kvm-1", "unreachable")
    worker.answers["move"] = moves(rows)

    answer = api.patch(HOST, json=MOVED)

    assert answer.status_code == 200
    assert answer.json()["uri"] == MOVED["uri"]
    assert answer.json()["state"] == "connected"
    assert api.get(HOST).json() == answer.json()


def test_a_host_that_cannot_be_reached_at_its_new_address_stays(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    def fail(task: dict[str, Any]) -> None:
        raise ConnectionFailed("No way.", step="tcp")

    rows.host("kvm-1")
    worker.answers["move"] = fail
    before = api.get(HOST).json()

    answer = api.patch(HOST, json=MOVED)

    assert (answer.status_code, answer.json()["step"]) == (500, "tcp")
    assert api.get(HOST).json() == before
    assert api.patch(HOST, json={"uri": "qemu+ext:///system"}).status_code == 422
    assert api.patch("/api/hosts/nobody", json=MOVED).status_code == 404


def test_a_disconnected_host_is_left_alone_until_it_is_connected(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    off = api.post(f"{HOST}/disconnect").json()
    again = api.post(f"{HOST}/disconnect").json()
    [vm] = api.get(f"{HOST}/vms").json()
    action = api.post(f"{VM}/action", json={"action": "start"})
    sync = api.post(f"{HOST}/sync")
    on = api.post(f"{HOST}/connect").json()

    assert off["state"] == "disabled"
    assert again == off
    assert vm["stale"] is True
    assert (action.status_code, sync.status_code) == (503, 503)
    assert "/connect" in action.json()["detail"]
    assert on["state"] == "connecting"
    assert api.post("/api/hosts/nobody/connect").status_code == 404


def test_a_host_is_synced(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.host("kvm-1")
    looked: list[object] = []
    worker.answers["sync_host"] = looked.append

    answer = api.post(f"{HOST}/sync")

    assert (answer.status_code, len(looked)) == (204, 1)


def test_every_change_knows_its_key(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    worker.answers |= {
        "connect": connects(rows),
        "move": moves(rows),
        "edit": edits(rows),
        "sync_host": lambda task: None,
    }
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/api/hosts", NEW),
        ("PATCH", HOST, MOVED),
        ("PATCH", VM, {"title": "x"}),
        ("POST", f"{HOST}/sync", None),
        ("POST", f"{HOST}/disconnect", None),
        ("POST", f"{HOST}/connect", None),
        ("DELETE", HOST, None),
    ]
    for method, path, body in asked:
        if method == "POST" and path == "/api/hosts":
            pass
        elif not rows.run("select from vms"):
            [host] = rows.run("select db_id from hosts")
            rows.vm(host["db_id"], "a")
        headers = {"Idempotency-Key": "one"}

        first, second = (
            api.request(method, path, json=body, headers=headers) for _ in range(2)
        )

        assert first.is_success, first.text
        assert (second.status_code, second.content) == (
            first.status_code,
            first.content,
        ), path


def test_a_host_is_checked_and_not_saved(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    step = {"name": "dns", "ok": False, "detail": "No such name.", "fix": "Correct it."}
    check = {"uri": NEW["uri"], "ok": False, "steps": [step]}
    worker.answers["check"] = lambda task: check

    answer = api.post("/api/hosts/check", json={"uri": NEW["uri"]})

    assert (answer.status_code, answer.json()) == (200, check)
    assert api.get("/api/hosts").json() == []
    wrong = api.post("/api/hosts/check", json={"uri": "qemu+ext:///system"})
    assert wrong.status_code == 422
    taken = api.post("/api/hosts", json=NEW | {"id": "check"})
    assert (taken.status_code, taken.json()["at"]) == (400, "$.id")
