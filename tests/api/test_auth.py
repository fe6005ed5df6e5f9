"""Who gets in, and as far as their token reaches."""

import functools
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from api.openapi import operations
from api.roles import NEEDS, RANKS
from common.db import sql
from tests.api.conftest import Rows, WebProcess, start
from tests.lab import admission
from tests.lab.web import routes

Admit = Callable[..., dict[str, str]]

PLACES = {
    "host_id": "none",
    "vm": "none",
    "task_id": "019a9f1e-3c52-7a41-8b0e-5d3f2c6a7b10",
    "kind": "vm-busy",
    "file": "start.js",
    "token": "none",
}


def from_elsewhere() -> httpx.HTTPTransport:
    """An address of its own, with no failures to its name."""
    return httpx.HTTPTransport(local_address=f"127.{secrets.randbelow(250) + 1}.7.7")


@pytest.fixture
def door(locked: WebProcess, rows: Rows) -> Iterator[httpx.Client]:
    """A client of a web process that asks for tokens, without one."""
    transport = from_elsewhere()
    with httpx.Client(base_url=locked.url, timeout=15, transport=transport) as client:
        yield client


@pytest.fixture
def admit(environment: dict[str, str], rows: Rows) -> Admit:
    """``admit("operator", hosts=["kvm-*"])``: the headers of a new token."""

    return functools.partial(admission.admit, environment["DATABASE_URL"])


def test_the_table_names_every_route_and_nothing_else() -> None:
    found: dict[str, set[str]] = {}
    for one in operations(routes()):
        found.setdefault(one.path, set()).add(one.method.upper())

    assert found == {path: set(needs) for path, needs in NEEDS.items()}


@pytest.mark.parametrize(
    ("path", "method"), [(path, m) for path, needs in NEEDS.items() for m in needs]
)
def test_every_route_is_open_to_its_role_and_above_alone(
    door: httpx.Client, admit: Admit, path: str, method: str
) -> None:
    need = NEEDS[path][method]
    place = path.format(**PLACES)

    def status(headers: dict[str, str]) -> int:
        with door.stream(method, place, headers=headers) as answer:
            return answer.status_code

    wrong = {"Authorization": "Bearer virtumancer_wrong"}
    refused = (401, 403)
    if need.role is None:
        assert status({}) not in refused
    else:
        assert status({}) == 401
    assert status(wrong) == 401
    for role, rank in RANKS.items():
        enough = need.role is None or rank >= RANKS[need.role]
        seen = status(admit(role))
        assert (seen not in refused) if enough else seen == 403, role
    if need.everywhere:
        assert status(admit("admin", hosts=["*"])) == 403


def test_a_refusal_says_what_is_missing(door: httpx.Client, admit: Admit) -> None:
    nobody = door.get("/api/hosts")
    viewer = door.delete("/api/hosts/x", headers=admit("viewer"))
    basic = door.get("/api/hosts", headers={"Authorization": "Basic YTpi"})

    assert nobody.json()["type"] == "/api/problems/token-required"
    assert nobody.headers["www-authenticate"] == 'Bearer realm="virtumancer"'
    assert viewer.json()["type"] == "/api/problems/role-too-low"
    assert "needs the role admin" in viewer.json()["detail"]
    assert basic.status_code == 401


def test_a_token_that_was_revoked_or_has_expired_opens_nothing(
    door: httpx.Client, admit: Admit, rows: Rows, eventually: Callable[..., None]
) -> None:
    revoked = admit("viewer", name="leaver")
    expired = admit("viewer", expires_in_s=1)
    for headers in (revoked, expired):
        assert door.get("/api/hosts", headers=headers).status_code == 200

    rows.run(sql.tokens.revoke, id=None, name="leaver")

    def told(headers: dict[str, str]) -> Any:
        answer = door.get("/api/hosts", headers=headers)
        return answer.status_code == 401 and answer.json()["detail"]

    eventually(lambda: "revoked" in (told(revoked) or ""), 10)
    eventually(lambda: "expired" in (told(expired) or ""), 10)


def test_what_a_token_was_used_for_last_is_known(
    door: httpx.Client, admit: Admit, rows: Rows
) -> None:
    headers = admit("viewer", name="watcher")
    used = "select last_used_at from tokens where name = 'watcher'"
    assert rows.run(used) == [{"last_used_at": None}]

    door.get("/api/hosts", headers=headers)

    assert rows.run(used)[0]["last_used_at"] is not None


def test_health_says_one_word_to_strangers(door: httpx.Client, admit: Admit) -> None:
    assert door.get("/api/health").json() == {"status": "degraded"}
    assert "problems" in door.get("/api/health", headers=admit("viewer")).json()


def test_a_socket_is_refused_with_a_problem(locked: WebProcess, admit: Admit) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(locked.ws_url)
    response = refused.value.response

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"]
    assert b"/api/problems/token-required" in response.body
    with connect(locked.ws_url, additional_headers=admit("viewer")) as socket:
        socket.send("{}")
        assert "invalid-request" in socket.recv(10)


def test_guesses_are_looked_at_slowly(locked: WebProcess, admit: Admit) -> None:
    known = admit("viewer")
    with httpx.Client(base_url=locked.url, transport=from_elsewhere()) as guesser:
        assert guesser.get("/api/hosts", headers=known).status_code == 200
        guesses = [
            guesser.get("/api/hosts", headers={"Authorization": f"Bearer {n}"})
            for n in range(40)
        ]

        assert guesses[0].status_code == 401
        assert guesses[-1].status_code == 429
        assert int(guesses[-1].headers["retry-after"]) > 0
        for right in (known, admit("viewer")):
            assert guesser.get("/api/hosts", headers=right).status_code == 200


def test_without_tokens_it_listens_on_loopback_alone(
    environment: dict[str, str],
) -> None:
    told = {"VIRTUMANCER_AUTH": "off", "BIND": "0.0.0.0", "PORT": "0"}

    ended = subprocess.run(
        [sys.executable, "-m", "api"],
        env=os.environ | environment | told,
        capture_output=True,
        timeout=30,
        text=True,
    )

    assert ended.returncode == 1
    assert "VIRTUMANCER_AUTH=tokens, or BIND=127.0.0.1" in ended.stderr


def test_an_admin_makes_and_revokes_tokens(door: httpx.Client, admit: Admit) -> None:
    admin = admit("admin", name="boss")
    new = {"name": "ci", "role": "operator", "hosts": ["kvm-*"], "expires_in_s": 3600}

    made = door.post("/api/tokens", json=new, headers=admin)

    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    token = made.json()
    assert token["created_by"] == "boss"
    assert token["hosts"] == ["kvm-*"]
    shown = {"Authorization": f"Bearer {token['secret']}"}
    assert door.get("/api/hosts", headers=shown).status_code == 200
    listed = door.get("/api/tokens", headers=admin)
    assert token["secret"] not in listed.text
    [seen] = [one for one in listed.json() if one["name"] == "ci"]
    assert seen["last_used_at"]
    assert door.post("/api/tokens", json=new, headers=admin).status_code == 409
    assert door.delete("/api/tokens/ci", headers=admin).status_code == 204
    assert door.delete("/api/tokens/ci", headers=admin).status_code == 404
    again = door.delete(f"/api/tokens/{token['id']}", headers=admin)
    assert again.status_code == 204
    assert door.post("/api/tokens", json=new, headers=admin).status_code == 200


def test_a_secret_is_told_once(door: httpx.Client, admit: Admit, rows: Rows) -> None:
    admin = admit("admin") | {"Idempotency-Key": "make-it-once"}
    new = {"name": "once", "role": "viewer"}

    first = door.post("/api/tokens", json=new, headers=admin).json()
    second = door.post("/api/tokens", json=new, headers=admin).json()

    assert second == first | {"secret": None}
    kept = rows.run("select answer::text from idempotency_keys")
    assert first["secret"] not in str(kept)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": "monitor"},
        {"role": "root"},
        {"hosts": []},
        {"hosts": ["kvm 1"]},
        {"hosts": ["[z-a]"]},
        {"expires_in_s": 0},
        {"secret": "mine"},
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    door: httpx.Client, admit: Admit, wrong: dict[str, Any]
) -> None:
    new = {"name": "n", "role": "viewer"} | wrong
    answer = door.post("/api/tokens", json=new, headers=admit("admin"))
    assert answer.status_code == 400


def ticket_of(door: httpx.Client, shown: dict[str, str]) -> str:
    answer = door.post("/api/tickets", headers=shown)
    assert answer.status_code == 200
    return str(answer.json()["ticket"])


def test_a_ticket_opens_one_socket_once(
    locked: WebProcess, door: httpx.Client, admit: Admit
) -> None:
    ticket = ticket_of(door, admit("viewer", hosts=["kvm-*"]))

    with connect(f"{locked.ws_url}?ticket={ticket}") as socket:
        address = {"hostId": "lab-1", "vmName": "x"}
        socket.send(json.dumps({"type": "subscribe-vm-stats", "payload": address}))
        assert json.loads(socket.recv(10))["payload"]["code"] == "unknown-host"
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{locked.ws_url}?ticket={ticket}")

    assert refused.value.response.status_code == 401
    assert ticket not in locked.log.read_text()


def test_a_ticket_opens_a_stream_and_nothing_else(
    door: httpx.Client, admit: Admit, rows: Rows
) -> None:
    shown = admit("viewer")
    ticket = ticket_of(door, shown)

    assert door.get(f"/api/hosts?ticket={ticket}").status_code == 401
    with door.stream("GET", f"/api/events?ticket={ticket}") as stream:
        assert stream.status_code == 200
    late = ticket_of(door, shown)
    rows.run("update tickets set expires_at = now()")
    assert door.get(f"/api/events?ticket={late}").status_code == 401


@pytest.mark.parametrize("how", ["told", "found"])
def test_a_revoked_token_is_sent_away_within_five_seconds(
    locked: WebProcess, door: httpx.Client, admit: Admit, rows: Rows, how: str
) -> None:
    shown, other = admit("viewer", name="leaver"), admit("viewer")
    ticket = ticket_of(door, shown)
    with (
        connect(locked.ws_url, additional_headers=shown) as by_token,
        connect(f"{locked.ws_url}?ticket={ticket}") as by_ticket,
        connect(locked.ws_url, additional_headers=other) as neighbour,
        door.stream("GET", "/api/events", headers=shown) as stream,
    ):
        began_s = time.monotonic()
        if how == "told":
            answer = door.delete("/api/tokens/leaver", headers=admit("admin"))
            assert answer.status_code == 204
        else:
            rows.run(sql.tokens.revoke, id=None, name="leaver")

        for socket in (by_token, by_ticket):
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
        assert all(line.startswith(":") or not line for line in stream.iter_lines())
        assert time.monotonic() - began_s < 5
        neighbour.send("{}")
        assert "invalid-request" in neighbour.recv(10)


def test_an_expired_token_is_sent_away(locked: WebProcess, admit: Admit) -> None:
    shown = admit("viewer", expires_in_s=1)
    with connect(locked.ws_url, additional_headers=shown) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_a_browser_may_ask_before_it_shows_its_token(
    environment: dict[str, str], tmp_path: Path
) -> None:
    page = "https://console.example.org"
    told = {"VIRTUMANCER_AUTH": "tokens", "VIRTUMANCER_ORIGINS": page}
    web = start(environment | told, tmp_path / "web.log")
    try:
        asked = {"Access-Control-Request-Method": "GET"}
        asked |= {"Access-Control-Request-Headers": "authorization", "Origin": page}
        answer = httpx.options(f"{web.url}/api/hosts", headers=asked)
    finally:
        web.kill()

    assert answer.is_success
    assert answer.headers["access-control-allow-origin"] == page
    assert "authorization" in answer.headers["access-control-allow-headers"]
