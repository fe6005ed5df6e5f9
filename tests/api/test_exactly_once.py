"""Idempotency-Key: the same request again gives the same answer and acts once."""

import threading
import uuid
from typing import Any

import httpx
import pytest

from common.errors import ConnectionFailed
from tests.api.conftest import Rows, ScriptedWorker, Webs
from tests.api.test_hosts import NEW, connects

START = {"action": "start"}
ACTION = "/api/hosts/kvm-1/vms/a/action"
LATER = {"Prefer": "respond-async"}


def key(value: str = "k-1", **more: str) -> dict[str, str]:
    return {"Idempotency-Key": value} | more


@pytest.fixture
def acted(rows: Rows, worker: ScriptedWorker) -> list[dict[str, Any]]:
    """Every start that was done of the VM ``a`` on ``kvm-1``."""
    rows.vm(rows.host("kvm-1"), "a")
    seen: list[dict[str, Any]] = []
    worker.answers["start"] = seen.append
    return seen


def test_the_same_key_acts_once(api: httpx.Client, acted: list[dict[str, Any]]) -> None:
    answers = [api.post(ACTION, json=START, headers=key()) for _ in range(3)]

    assert [a.status_code for a in answers] == [204, 204, 204]
    assert len(acted) == 1


def test_keys_are_apart(api: httpx.Client, acted: list[dict[str, Any]]) -> None:
    for name in ("k-1", "k-2"):
        api.post(ACTION, json=START, headers=key(name))
    api.post(ACTION, json=START)

    assert len(acted) == 3


def test_a_key_is_the_same_with_quotes_and_a_body_however_it_is_spelled(
    api: httpx.Client, acted: list[dict[str, Any]]
) -> None:
    json = {"Content-Type": "application/json"}
    api.post(ACTION, json=START, headers=key())
    again = api.post(
        ACTION, content='{ "action":\n"start" }', headers=key('"k-1"') | json
    )

    assert again.status_code == 204
    assert len(acted) == 1


def test_another_body_is_422(api: httpx.Client, acted: list[dict[str, Any]]) -> None:
    api.post(ACTION, json=START, headers=key())

    answer = api.post(ACTION, json={"action": "reset"}, headers=key())

    assert answer.status_code == 422
    assert answer.json()["type"] == "/api/problems/key-reused"


def test_a_key_is_known_for_a_day(
    api: httpx.Client, rows: Rows, acted: list[dict[str, Any]]
) -> None:
    api.post(ACTION, json=START, headers=key())
    rows.run("update idempotency_keys set created_at = now() - interval '25 hours'")

    again = api.post(ACTION, json=START, headers=key())

    assert again.status_code == 204
    assert len(acted) == 2


def test_a_key_in_flight_is_409_with_the_task(api: httpx.Client, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    first = api.post(ACTION, json=START, headers=key(**LATER))

    second = api.post(ACTION, json=START, headers=key())

    assert first.status_code == 202
    assert second.status_code == 409
    assert second.json()["type"] == "/api/problems/key-in-flight"
    assert second.json()["task"] == first.json()["id"]


def test_what_failed_fails_in_the_same_way(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    tries: list[int] = []

    def refuse(task: dict[str, Any]) -> None:
        tries.append(1)
        raise ConnectionFailed("ssh: Permission denied.", step="ssh")

    worker.answers["connect"] = refuse

    first, second = (api.post("/api/hosts", json=NEW, headers=key()) for _ in "12")

    assert first.status_code == 500
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert len(tries) == 1


def test_an_added_host_is_answered_the_same_even_when_it_is_gone(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    worker.answers["connect"] = connects(rows)

    first = api.post("/api/hosts", json=NEW, headers=key())
    removed = [api.delete("/api/hosts/kvm-1", headers=key()) for _ in range(2)]
    again = api.post("/api/hosts", json=NEW, headers=key())

    assert first.status_code == 200
    assert (again.status_code, again.content) == (200, first.content)
    assert [r.status_code for r in removed] == [204, 204]
    assert api.delete("/api/hosts/kvm-1").status_code == 404


def test_what_was_refused_is_looked_at_afresh(
    api: httpx.Client, rows: Rows, worker: ScriptedWorker
) -> None:
    host = rows.host("kvm-1", "unreachable")
    rows.vm(host, "a")
    worker.answers["start"] = lambda task: None

    refused = api.post(ACTION, json=START, headers=key())
    rows.run("update hosts set state = 'connected'")
    again = api.post(ACTION, json=START, headers=key())

    assert (refused.status_code, again.status_code) == (503, 204)


def test_a_web_that_dies_has_asked_and_another_answers(
    api: httpx.Client, web: Webs, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    doomed = web()

    def ask() -> None:
        with pytest.raises(httpx.HTTPError):
            httpx.post(f"{doomed.url}{ACTION}", json=START, headers=key(), timeout=10)

    waiting = threading.Thread(target=ask)
    waiting.start()
    while not (asked := api.get("/api/tasks").json()):
        pass
    doomed.process.kill()
    waiting.join(5)
    acted: list[dict[str, Any]] = []
    worker.answers["start"] = acted.append
    api.get(f"/api/tasks/{asked[0]['id']}", params={"wait": 5})

    answer = api.post(ACTION, json=START, headers=key())

    assert answer.status_code == 204
    assert len(acted) == 1


def test_twenty_at_once_act_once(
    server: Any, acted: list[dict[str, Any]], api: httpx.Client
) -> None:
    name = uuid.uuid4().hex
    statuses: list[int] = []

    def ask() -> None:
        url = f"{server.url}{ACTION}"
        answer = httpx.post(url, json=START, headers=key(name), timeout=10)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)

    assert len(acted) == 1
    assert set(statuses) <= {204, 409}
    assert api.post(ACTION, json=START, headers=key(name)).status_code == 204


@pytest.mark.parametrize("value", ["", "x" * 256, "a b", "ü"])
def test_a_key_that_is_none_is_400(api: httpx.Client, rows: Rows, value: str) -> None:
    rows.vm(rows.host("kvm-1"), "a")

    headers = httpx.Headers({"Idempotency-Key": value}, encoding="latin-1")
    answer = api.post(ACTION, json=START, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["at"] == "Idempotency-Key"
