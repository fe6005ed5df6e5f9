"""/api/tasks: what was asked of the hosts."""

import time
import uuid

import httpx

from common.errors import Interrupted, problem_of
from tests.api.conftest import Rows, ScriptedWorker

LATER = {"Prefer": "respond-async"}


def ask(api: httpx.Client, vm: str, action: str = "start") -> str:
    url = f"/api/hosts/kvm-1/vms/{vm}/action"
    answer = api.post(url, json={"action": action}, headers=LATER)
    assert answer.headers["preference-applied"] == "respond-async"
    return str(answer.json()["id"])


def test_tasks_are_listed_newest_first_and_filtered(
    api: httpx.Client, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    vm_uuid = rows.vm(host, "a")
    rows.vm(host, "b")
    first, second = ask(api, "a"), ask(api, "b", "destroy")

    def ids(**filters: str) -> list[str]:
        return [task["id"] for task in api.get("/api/tasks", params=filters).json()]

    assert ids() == [second, first]
    assert ids(vm="a") == ids(vm=str(vm_uuid)) == [first]
    assert ids(kind="destroy") == [second]
    assert ids(state="queued", host="kvm-1") == [second, first]
    assert ids(state="done") == ids(host="nobody") == []


def test_tasks_come_in_pages(api: httpx.Client, rows: Rows) -> None:
    host = rows.host("kvm-1")
    for name in "abc":
        rows.vm(host, name)
    asked = [ask(api, name) for name in "abc"]

    first = api.get("/api/tasks?limit=2")
    second = api.get(first.links["next"]["url"])

    assert [task["id"] for task in first.json() + second.json()] == asked[::-1]


def test_a_wait_ends_with_the_task(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    task_id = ask(api, "a")

    waited = api.get(f"/api/tasks/{task_id}", params={"wait": 0.2}).json()
    worker.answers["start"] = lambda task: None
    began_s = time.monotonic()
    ended = api.get(f"/api/tasks/{task_id}", params={"wait": 10}).json()

    assert waited["state"] == "queued"
    assert ended["state"] == "done"
    assert time.monotonic() - began_s < 5


def test_an_interrupted_task_is_answered_with_its_problem(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    def interrupt(task: dict[str, uuid.UUID]) -> None:
        problem = problem_of(Interrupted("The worker ended; look at the VM."))
        worker.end(task["id"], "interrupted", problem=problem)

    worker.answers["reset"] = interrupt

    answer = api.post("/api/hosts/kvm-1/vms/a/action", json={"action": "reset"})

    assert answer.status_code == 500
    assert answer.json()["type"] == "/api/problems/interrupted"
    assert "task" in answer.json()


def test_the_request_id_goes_into_the_task(api: httpx.Client, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    answer = api.post(
        "/api/hosts/kvm-1/vms/a/action",
        json={"action": "start"},
        headers=LATER | {"X-Request-ID": "my-id.7"},
    )

    assert answer.headers["x-request-id"] == "my-id.7"
    assert answer.json()["request_id"] == "my-id.7"
    assert answer.json()["requested_by"] == "anonymous"


def test_unknown_tasks_are_404(api: httpx.Client) -> None:
    for name in (str(uuid.uuid4()), "nonsense"):
        answer = api.get(f"/api/tasks/{name}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "/api/problems/unknown-task"


def test_wrong_waits_are_400(api: httpx.Client) -> None:
    for wait in ("x", "-1", "301", "nan"):
        answer = api.get(f"/api/tasks/{uuid.uuid4()}", params={"wait": wait})
        assert (answer.status_code, answer.json()["at"]) == (400, "?wait"), wait
