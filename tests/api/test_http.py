"""What HTTP itself can get wrong, and how it is answered."""

import json
import socket
import uuid

import httpx
import pytest

from tests.api.conftest import Rows, WebProcess


def raw(server: WebProcess, request: bytes) -> bytes:
    """What the server answers to these very bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def is_problem(answer: httpx.Response, status: int) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
        and body["status"] == status
        and all(body[name] for name in ("type", "title", "detail"))
    )


def test_unknown_paths_are_404(api: httpx.Client) -> None:
    for path in ("/", "/api", "/api/nothing", "/api/hosts/a/b", "/api//hosts"):
        assert is_problem(api.get(path), 404), path


def test_the_websocket_cannot_be_fetched(api: httpx.Client) -> None:
    assert is_problem(api.get("/ws"), 426)


def test_head_is_get_without_the_body(api: httpx.Client) -> None:
    answer = api.head("/api/hosts")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "2"


def test_a_wrong_method_is_405_and_names_the_right_ones(api: httpx.Client) -> None:
    answer = api.put("/api/hosts")

    assert is_problem(answer, 405)
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("body", ["", "{", "[[", '{"id":"\\ud800"}', "\xff", "nul"])
def test_what_is_no_json_is_400(api: httpx.Client, body: str) -> None:
    headers = {"Content-Type": "application/json"}

    answer = api.post("/api/hosts", content=body.encode("latin-1"), headers=headers)

    assert is_problem(answer, 400)


def test_deep_json_is_400(api: httpx.Client) -> None:
    deep = b'{"id":' + b"[" * 30000 + b"]" * 30000 + b"}"
    headers = {"Content-Type": "application/json"}

    assert is_problem(api.post("/api/hosts", content=deep, headers=headers), 400)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-json", ""])
def test_another_content_type_is_415(api: httpx.Client, media_type: str) -> None:
    headers = {"Content-Type": media_type}

    assert is_problem(api.post("/api/hosts", content=b"{}", headers=headers), 415)


def test_a_content_type_may_name_its_charset(api: httpx.Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}

    assert is_problem(api.post("/api/hosts", content=b"{}", headers=headers), 400)


def test_a_body_over_64_kib_is_413(api: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    large = b" " * (64 * 1024 + 1)

    whole = api.post("/api/hosts", content=large, headers=headers)
    chunked = api.post("/api/hosts", content=iter([large] * 3), headers=headers)
    just = api.post("/api/hosts", content=large[:-1], headers=headers)

    assert is_problem(whole, 413)
    assert is_problem(chunked, 413)
    assert is_problem(just, 400)


def test_a_body_that_claims_to_be_large_is_413_at_once(server: WebProcess) -> None:
    answer = raw(
        server,
        b"POST /api/hosts HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 99999999\r\nConnection: close\r\n\r\n{}",
    )

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_line",
    [b"nonsense", b"GET /\xff HTTP/1.1", b"GET /api/vms?name=\xff\xfe HTTP/1.1"],
)
def test_what_is_no_http_is_a_problem_too(
    server: WebProcess, request_line: bytes
) -> None:
    answer = raw(
        server, request_line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_every_answer_has_a_request_id(api: httpx.Client) -> None:
    given = api.get("/api/hosts", headers={"X-Request-ID": "abc"})
    made = api.get("/api/nothing", headers={"X-Request-ID": "a b"})

    assert given.headers["x-request-id"] == "abc"
    assert uuid.UUID(made.headers["x-request-id"])


def test_an_unforeseen_failure_is_a_500_without_a_traceback(
    api: httpx.Client, rows: Rows
) -> None:
    rows.host("kvm-1")
    rows.run("alter table hosts rename column uri to adress")
    try:
        answer = api.get("/api/hosts")
    finally:
        rows.run("alter table hosts rename column adress to uri")

    assert is_problem(answer, 500)
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["detail"]


def test_an_encoded_letter_is_the_letter(api: httpx.Client) -> None:
    assert api.get("/%61pi/host%73").status_code == 200


def test_no_server_is_named(api: httpx.Client) -> None:
    assert "server" not in api.get("/api/hosts").headers


def test_health_says_what_answers(api: httpx.Client, rows: Rows) -> None:
    before = api.get("/api/health").json()
    for kind in ("worker", "monitor", "monitor"):
        rows.run(
            "insert into processes (id, kind, machine, pid)"
            " values (gen_random_uuid(), %(kind)s, 'test', 1)",
            kind=kind,
        )
    after = api.get("/api/health").json()
    rows.run("update processes set seen_at = now() - interval '9 s'")
    silent = api.get("/api/health").json()

    assert before["status"] == silent["status"] == "degraded"
    assert len(before["problems"]) == len(silent["problems"]) == 2
    assert after == {
        "status": "ok",
        "postgres": True,
        "redis": True,
        "workers": {"alive": 1, "answers": True},
        "monitors": {"alive": 2, "answers": True},
        "problems": [],
    }
