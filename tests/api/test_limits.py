"""How much one client can make the web process hold, and that others are served."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from api.server import HEAD_BYTES, REQUEST_S, URL_BYTES
from tests.api.conftest import Rows, WebProcess, Webs
from tests.api.test_http import is_problem

HEAD = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def connected(server: WebProcess) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", server.port), 60)) as client:
        yield client


def answered(client: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    told = b""
    try:
        while chunk := client.recv(65536):
            told += chunk
    except ConnectionResetError:
        pass
    return told


def memory_bytes(server: WebProcess) -> int:
    statm = Path(f"/proc/{server.process.pid}/statm").read_text()
    return int(statm.split()[1]) * 4096


def test_a_long_uri_is_414(server: WebProcess) -> None:
    answer = httpx.get(f"{server.url}/api/vms", params={"name": "x" * URL_BYTES})
    assert is_problem(answer, 414)


@pytest.mark.parametrize("number", [1, 1000])
def test_large_headers_are_431(server: WebProcess, number: int) -> None:
    headers = {f"X-{n}": "x" * (HEAD_BYTES // number) for n in range(number)}
    assert is_problem(httpx.get(f"{server.url}/api/health", headers=headers), 431)


def test_a_header_without_an_end_is_cut(server: WebProcess) -> None:
    before = memory_bytes(server)
    with connected(server) as client:
        client.sendall(HEAD + b"X: ")
        with pytest.raises(OSError):
            for _ in range(2000):
                client.sendall(b"x" * 65536)
    assert memory_bytes(server) - before < 32 * 1024 * 1024


def test_who_never_finishes_asking_is_not_waited_for(
    server: WebProcess, rows: Rows
) -> None:
    post = b"POST /api/hosts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    json_post = post + b"Content-Type: application/json\r\n\r\n{"
    began_s = time.monotonic()
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(4)]
        for client, drip in zip(clients, (b"", HEAD, post, json_post), strict=True):
            client.sendall(drip)
        told = [answered(client) for client in clients]
    assert time.monotonic() - began_s < 3 * REQUEST_S
    # Who has not begun to ask would take a 408 for the answer to what it asks then.
    assert told[0] == b""
    assert [t.partition(b"\r")[0][:12] for t in told[1:3]] == [b"HTTP/1.1 408"] * 2
    assert told[3].startswith((b"HTTP/1.1 400", b"HTTP/1.1 408"))


def test_the_idlest_make_room_for_who_asks(web: Webs, rows: Rows) -> None:
    server = web(VIRTUMANCER_MAX_CONNECTIONS="50")
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(server)) for _ in range(200)]
        for client in idle[::2]:
            client.sendall(HEAD)
        for _ in range(20):
            assert httpx.get(f"{server.url}/api/hosts").status_code == 200
        assert answered(idle[0]) == b""


def test_more_open_sockets_than_allowed_are_refused_in_words(
    web: Webs, rows: Rows
) -> None:
    server = web(VIRTUMANCER_MAX_CONNECTIONS="10")
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(server.ws_url))
        with connected(server) as client:
            told = answered(client)
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"too-busy" in told


def test_one_token_has_so_many_sockets_and_no_more(web: Webs, rows: Rows) -> None:
    server = web(VIRTUMANCER_MAX_SOCKETS="2")
    with connect(server.ws_url):
        with connect(server.ws_url), pytest.raises(InvalidStatus) as refusal:
            connect(server.ws_url)
        assert refusal.value.response.status_code == 429
        with httpx.stream("GET", f"{server.url}/api/events") as stream:
            assert stream.status_code == 200
            answer = httpx.get(f"{server.url}/api/events")
            assert is_problem(answer, 429)
            assert answer.headers["retry-after"]


def test_requests_beyond_the_limit_are_503_at_once(web: Webs, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    server = web(VIRTUMANCER_MAX_REQUESTS="1", VIRTUMANCER_WAIT_S="60")
    with connected(server) as waiting:
        body = json.dumps({"action": "start"}).encode()
        waiting.sendall(
            b"POST /api/hosts/kvm-1/vms/a/action HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        deadline_s = time.monotonic() + 20
        while not rows.run("select id from tasks"):
            assert time.monotonic() < deadline_s
        answer = httpx.get(f"{server.url}/api/hosts")
        assert is_problem(answer, 503)
        assert answer.headers["retry-after"] == "1"


def test_a_frame_that_is_too_long_closes_its_socket_alone(server: WebProcess) -> None:
    with connect(server.ws_url) as other:
        with connect(server.ws_url, max_size=None) as ws:
            ws.send("x" * 100_000)
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        other.send("{}")
        assert json.loads(other.recv(timeout=20))["type"] == "error"
