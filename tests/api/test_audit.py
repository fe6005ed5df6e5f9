"""Who did what to which VM, from where, and how it ended, also refused attempts."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from api.attempts import MOST_WHOS, ONE_BY_ONE, Budget
from api.audit import Entry
from common.errors import WrongState
from embedded.servers import Postgres
from tests.api.conftest import Rows, ScriptedWorker, WebProcess
from tests.lab import admission

Eventually = Callable[..., None]
ACTION = "/api/hosts/kvm-1/vms/web/action"


Admitted = Callable[..., httpx.Client]


@pytest.fixture
def admitted(
    environment: dict[str, str], locked: WebProcess, rows: Rows
) -> Iterator[Admitted]:
    """``admitted("operator")``: a client with a new token."""
    clients: list[httpx.Client] = []

    def make(role: str, **limits: Any) -> httpx.Client:
        shown = admission.admit(environment["DATABASE_URL"], role, **limits)
        clients.append(httpx.Client(base_url=locked.url, headers=shown, timeout=15))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def admin(admitted: Admitted) -> httpx.Client:
    return admitted("admin")


def entries(admin: httpx.Client, **filters: Any) -> list[dict[str, Any]]:
    """The audit, the oldest first."""
    answer = admin.get("/api/audit", params=filters)
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()))


def name() -> str:
    return f"t{uuid.uuid4().hex}"


def test_an_action_is_asked_for_and_ends(
    admitted: Admitted, admin: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    worker.answers["start"] = lambda task: None
    vm = rows.vm(rows.host("kvm-1"), "web")
    who = name()

    answer = admitted("operator", name=who).post(
        ACTION, json={"action": "start"}, headers={"X-Request-ID": who}
    )

    assert answer.status_code == 204
    asked, ended = entries(admin, token=who)
    for entry in (asked, ended):
        assert entry["address"] == "127.0.0.1"
        assert entry["request_id"] == who
        assert entry["method"] == "POST"
        assert entry["route"] == "/api/hosts/{host_id}/vms/{vm}/action"
        assert entry["action"] == "start"
        assert (entry["host_id"], entry["vm_name"]) == ("kvm-1", "web")
        assert entry["vm_uuid"] == str(vm)
        assert entry["task_id"]
    assert (asked["event"], asked["outcome"]) == ("asked", None)
    assert (ended["event"], ended["outcome"]) == ("ended", "done")
    assert entries(admin, task=asked["task_id"]) == [asked, ended]


def test_a_task_that_fails_says_how(
    admitted: Admitted, admin: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    def refuse(task: dict[str, Any]) -> None:
        raise WrongState("It is off.")

    worker.answers["reset"] = refuse
    rows.vm(rows.host("kvm-1"), "web")
    who = name()

    answer = admitted("operator", name=who).post(ACTION, json={"action": "reset"})

    assert answer.status_code == 409
    _, ended = entries(admin, token=who)
    assert (ended["event"], ended["outcome"]) == ("ended", "failed")
    assert ended["problem"] == "wrong-state"


def test_an_action_on_many_says_what_became_of_each(
    admitted: Admitted,
    admin: httpx.Client,
    rows: Rows,
    worker: ScriptedWorker,
    eventually: Eventually,
) -> None:
    worker.answers["start"] = lambda task: None
    rows.vm(rows.host("kvm-1"), "a")
    rows.vm(rows.host("kvm-2", "unreachable"), "b")
    who = name()

    act = {"action": "start", "filter": {"name": "*"}}
    at_once = {"Prefer": "respond-async"}
    admitted("operator", name=who).post("/api/actions", json=act, headers=at_once)
    eventually(lambda: len(entries(admin, token=who)) == 4)

    asked, *ended = entries(admin, token=who)
    assert (asked["event"], asked["action"]) == ("asked", "start")
    assert asked["host_id"] == "*"
    assert '"filter"' in asked["detail"]
    found = {(e["host_id"], e["vm_name"], e["outcome"], e["problem"]) for e in ended}
    assert found == {
        ("kvm-1", "a", "done", None),
        ("kvm-2", "b", "failed", "host-unreachable"),
        ("*", None, "failed", "host-unreachable"),
    }


def test_what_needs_no_task_is_done(
    admitted: Admitted, admin: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1"), "web")
    who = name()
    boss = admitted("admin", name=who)
    new = {"name": name(), "role": "viewer"}

    boss.post("/api/hosts/kvm-1/disconnect")
    boss.post("/api/hosts/kvm-1/connect")
    boss.delete("/api/hosts/kvm-1")
    boss.post("/api/tokens", json=new)
    boss.delete(f"/api/tokens/{new['name']}")

    found = entries(admin, token=who)
    assert {entry["event"] for entry in found} == {"done"}
    assert [(e["action"], e["host_id"], e["status"]) for e in found] == [
        ("host-disconnect", "kvm-1", 200),
        ("host-connect", "kvm-1", 200),
        ("host-remove", "kvm-1", 204),
        ("token-create", None, 200),
        ("token-revoke", None, 204),
    ]
    assert new["name"] in found[-1]["detail"]


def test_what_is_only_read_leaves_nothing(
    admitted: Admitted, admin: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1"), "web")
    who = name()
    viewer = admitted("viewer", name=who)

    for path in ("/api/hosts", "/api/hosts/kvm-1/vms/web", "/api/hosts/none"):
        viewer.get(path)

    assert entries(admin, token=who) == []


def test_refused_attempts_are_told_with_their_reason(
    admitted: Admitted, admin: httpx.Client, rows: Rows
) -> None:
    rows.vm(rows.host("kvm-1"), "web")
    rows.vm(rows.host("lab-1"), "db")
    who = name()
    limited = admitted("operator", name=who, hosts=["kvm-*"])

    limited.delete("/api/hosts/kvm-1")
    limited.get("/api/hosts/lab-1")
    limited.get("/api/events?vm-stats=lab-1/db")
    limited.post("/api/hosts/lab-1/vms/db/action", json={"action": "start"})
    limited.post(ACTION, json={"action": "explode"})
    limited.post("/api/hosts/kvm-1/vms/none/action", json={"action": "destroy"})
    limited.get("/api/tokens")

    found = entries(admin, token=who)
    assert {entry["event"] for entry in found} == {"refused"}
    assert [(e["status"], e["problem"], e["host_id"], e["vm_name"]) for e in found] == [
        (403, "role-too-low", "kvm-1", None),
        (404, "unknown-host", "lab-1", None),
        (404, "unknown-host", "lab-1", "db"),
        (404, "unknown-host", "lab-1", "db"),
        (400, "invalid-request", "kvm-1", "web"),
        (404, "unknown-vm", "kvm-1", "none"),
        (403, "role-too-low", None, None),
    ]
    assert found[5]["action"] == "destroy"


def test_strangers_are_told_of_by_their_address(
    locked: WebProcess, admin: httpx.Client, rows: Rows, eventually: Eventually
) -> None:
    elsewhere = f"127.3.{uuid.uuid4().int % 250}.9"
    transport = httpx.HTTPTransport(local_address=elsewhere)
    with httpx.Client(base_url=locked.url, transport=transport) as stranger:
        stranger.get("/api/hosts")
        stranger.post(ACTION, headers={"Authorization": "Bearer wrong"})

    def found() -> list[tuple[Any, ...]]:
        return [
            (e["status"], e["problem"], e["route"])
            for e in entries(admin, event="refused", limit=1000)
            if e["address"] == elsewhere
        ]

    eventually(lambda: len(found()) == 2)
    assert found() == [
        (401, "token-required", "/api/hosts"),
        (401, "invalid-token", "/api/hosts/{host_id}/vms/{vm}/action"),
    ]


def test_a_socket_that_is_refused_is_told_of(
    locked: WebProcess, admitted: Admitted, admin: httpx.Client, rows: Rows
) -> None:
    rows.host("lab-1")
    who = name()
    limited = admitted("viewer", name=who, hosts=["kvm-*"])
    shown = {"Authorization": limited.headers["Authorization"]}

    with connect(locked.ws_url, additional_headers=shown) as socket:
        subscribe = '{"type":"subscribe-vm-stats","payload":'
        socket.send(subscribe + '{"hostId":"lab-1","vmName":"db"}}')
        socket.recv(10)
    with pytest.raises(InvalidStatus):
        connect(locked.ws_url, additional_headers=shown | {"Origin": "http://evil"})

    [unseen] = entries(admin, token=who)
    assert (unseen["status"], unseen["host_id"]) == (404, "lab-1")
    assert unseen["route"] == "/ws"


def test_the_audit_is_read_page_by_page_and_filtered(
    admitted: Admitted, admin: httpx.Client, rows: Rows
) -> None:
    rows.host("kvm-1")
    who = name()
    boss = admitted("admin", name=who)
    for _ in range(3):
        boss.post("/api/hosts/kvm-1/disconnect")
        boss.post("/api/hosts/kvm-1/connect")

    first = admin.get("/api/audit", params={"token": who, "limit": 4})
    second = admin.get(first.links["next"]["url"])

    assert [len(page.json()) for page in (first, second)] == [4, 2]
    assert "next" not in second.links
    ids = [entry["id"] for entry in first.json() + second.json()]
    assert ids == sorted(ids, reverse=True)
    chosen = entries(admin, token=who, action="host-connect", host="kvm-1")
    assert len(chosen) == 3
    assert entries(admin, token=who, until=chosen[0]["at"], limit=1000)
    assert entries(admin, token=who, since="2999-01-01T00:00:00Z") == []
    assert admin.get("/api/audit?since=yesterday").status_code == 400


def test_refusals_outlast_a_database_that_is_away(
    admitted: Admitted,
    admin: httpx.Client,
    rows: Rows,
    postgres: Postgres,
    eventually: Eventually,
) -> None:
    rows.host("kvm-1")
    who = name()
    boss = admitted("admin", name=who)
    boss.get("/api/hosts")
    postgres.pause()
    try:
        answer = boss.post("/api/hosts/kvm-1/sync")
    finally:
        postgres.resume()

    assert answer.status_code == 503
    eventually(lambda: answered(admin, who), 20)
    assert {(e["event"], e["status"]) for e in entries(admin, token=who)} == {
        ("refused", 503)
    }


def answered(admin: httpx.Client, who: str) -> bool:
    answer = admin.get("/api/audit", params={"token": who})
    return answer.status_code == 200 and answer.json() != []


def test_nothing_changes_the_audit(rows: Rows, admin: httpx.Client) -> None:
    rows.host("kvm-1")
    admin.post("/api/hosts/kvm-1/disconnect")

    for statement in (
        "update audit set token = 'somebody else'",
        "delete from audit",
        "truncate audit",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="only added to"):
            rows.run(statement)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert admin.request(method, "/api/audit").status_code == 405


def test_a_flood_of_refusals_is_a_few_rows() -> None:
    now = [0.0]
    budget = Budget(lambda: now[0])

    def refusal(number: int) -> Entry:
        address = f"10.0.{number % 2}.1"
        return Entry(event="refused", address=address, status=401, problem="x")

    written = sum(budget.allows(refusal(number)) for number in range(10_000))
    early = budget.told()
    now[0] = 61
    told = budget.told()

    assert written == 2 * ONE_BY_ONE
    assert early == []
    assert [entry.times for entry in told] == [5000 - ONE_BY_ONE] * 2
    assert budget.told() == []


def test_ever_new_strangers_are_remembered_within_bounds() -> None:
    budget = Budget(lambda: 0.0)

    for number in range(MOST_WHOS + 5000):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        budget.allows(Entry(event="refused", address=address, status=401))

    assert len(budget._windows) <= MOST_WHOS + 1
    told = budget.told(all_=True)
    assert sum(entry.times for entry in told) == 5000 - ONE_BY_ONE
