"""Whatever comes in: no 500, no hang, no row written by what was refused."""

import contextlib
import json
import socket
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from tests.api.conftest import Rows, WebProcess

PATIENCE_S = 30
few = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(st.text(max_size=9), part, max_size=4)
    ),
    max_leaves=20,
)
KNOWN = st.sampled_from(
    [
        *("subscribe", "unsubscribe", "subscribe-vm-stats", "unsubscribe-vm-stats"),
        *("hostId", "vmName", "topics", "hosts", "since", "kvm-1", "a", "vms", "tasks"),
        *("type", "payload", "uri", "id", "action", "start", "vms", "filter", "host"),
    ]
)
NEARLY: st.SearchStrategy[Any] = st.recursive(
    KNOWN | st.none() | st.integers() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(KNOWN, part, max_size=4),
    max_leaves=12,
)
MUTATIONS = (
    ("POST", "/api/hosts"),
    ("POST", "/api/hosts/check"),
    ("PATCH", "/api/hosts/kvm-1"),
    ("POST", "/api/hosts/kvm-1/vms/a/action"),
    ("PATCH", "/api/hosts/kvm-1/vms/a"),
    ("POST", "/api/actions"),
)


@pytest.fixture
def fleet(rows: Rows) -> Rows:
    """One host with one VM, for all examples of a test."""
    rows.vm(rows.host("kvm-1"), "a")
    return rows


def frame(kind: str, payload: object) -> str:
    return json.dumps({"type": kind, "payload": payload})


def everything(rows: Rows) -> list[list[dict[str, Any]]]:
    """What no refused request may change."""
    what = ("hosts", "vms", "tasks", "idempotency_keys")
    return [rows.run(f"select * from {table} order by 1") for table in what]


@few
@given(
    texts=st.lists(
        st.text(max_size=40)
        | (JSON | NEARLY).map(json.dumps)
        | st.builds(frame, KNOWN, NEARLY)
        | st.binary(max_size=20),
        min_size=1,
        max_size=8,
    )
)
def test_a_socket_answers_whatever_is_sent(
    server: WebProcess, fleet: Rows, texts: list[str | bytes]
) -> None:
    with connect(server.ws_url) as ws:
        for text in texts:
            ws.send(text)
        ws.send('"the last"')
        while True:
            told = json.loads(ws.recv(timeout=PATIENCE_S))
            if told["type"] != "error":
                continue
            assert told["payload"]["code"] != "internal-error"
            if told["payload"]["request"] == "the last":
                return


@few
@given(place=st.sampled_from(MUTATIONS), body=JSON | NEARLY)
def test_what_is_refused_has_changed_nothing(
    api: httpx.Client, fleet: Rows, place: tuple[str, str], body: object
) -> None:
    before = everything(fleet)

    answer = api.request(
        *place,
        content=json.dumps(body),
        headers={"Content-Type": "application/json", "Prefer": "respond-async"},
        timeout=PATIENCE_S,
    )

    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.json()["detail"]
        assert everything(fleet) == before


WORDS = st.sampled_from(
    [
        *(b"GET", b"POST", b"OPTIONS", b"PRI", b" ", b"\r\n", b"\r\n\r\n", b"\n", b":"),
        *(b"/api/hosts", b"/ws", b"*", b"http://localhost/", b"%00", b"%zz", b"?a=%ff"),
        *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"Host: localhost", b"Host: evil"),
        *(b"Content-Length: 5", b"Content-Length: -1", b"Transfer-Encoding: chunked"),
        *(b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: x", b"0"),
        *(
            b"Expect: 100-continue",
            b"Connection: close",
            b"Upgrade: h2c",
            b"5\r\nabcde",
        ),
    ]
)


@few
@given(parts=st.lists(WORDS | st.binary(max_size=8), max_size=24))
def test_bytes_that_are_no_http_are_answered_or_hung_up_on(
    server: WebProcess, parts: list[bytes]
) -> None:
    told = b""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as client:
        client.sendall(b"".join(parts))
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                told += chunk
    assert b"HTTP/1.1 5" not in told
    assert b"Traceback" not in told
    assert httpx.get(f"{server.url}/api/health", timeout=PATIENCE_S).status_code == 200
    assert "Traceback" not in server.log.read_text()[-100_000:]
