"""Redis and Postgres go and come back, and the process itself ends."""

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from common import bus
from embedded.servers import Postgres, Redis
from tests.api.conftest import Rows, ScriptedWorker, WebProcess, Webs
from tests.api.test_live import CHANNEL, SAMPLE, frame, subscribe, until

ACTION = "/api/hosts/kvm-1/vms/a/action"


async def test_sockets_are_told_to_look_again_after_redis_was_away(
    server: WebProcess, rows: Rows, redis: Redis
) -> None:
    rows.vm(rows.host("kvm-1"), "a b/c")
    rows.host("kvm-2")
    # An earlier test may have taken the database away, which this is not about.
    await until(lambda: httpx.get(f"{server.url}/api/hosts").status_code == 200)
    async with connect(server.ws_url) as ws:
        await ws.send(subscribe())
        await until(lambda: rows.listeners(CHANNEL) == 1)

        redis.stop()
        redis.start()

        frames = [await frame(ws) for _ in range(3)]
        assert frames == [
            {"type": "hosts-changed", "payload": None},
            {"type": "vms-changed", "payload": {"hostId": "kvm-1"}},
            {"type": "vms-changed", "payload": {"hostId": "kvm-2"}},
        ]
        await until(lambda: rows.listeners(CHANNEL) == 1)
        rows.publish((CHANNEL, SAMPLE))
        # Whoever had to link up twice was told twice, which does no harm.
        while (text := await ws.recv()) != SAMPLE.decode():
            assert json.loads(text) in frames
        async with httpx.AsyncClient(base_url=server.url) as api:
            await api.delete("/api/hosts/kvm-2")
        while (told := await frame(ws))["type"] != "hosts-changed":
            assert told in frames


async def test_a_silent_redis_is_noticed(
    server: WebProcess, rows: Rows, redis: Redis
) -> None:
    rows.host("kvm-1")
    async with connect(server.ws_url) as ws:
        redis.stop()
        redis.start()
        assert (await frame(ws, 10))["type"] == "hosts-changed"
        assert (await frame(ws, 10))["type"] == "vms-changed"
        redis.pause()
        try:
            health = await asyncio.to_thread(httpx.get, f"{server.url}/api/health")
            # So long that the next try to reach it meets silence, too.
            await asyncio.sleep(10)
        finally:
            redis.resume()

        assert health.json()["redis"] is False
        assert (await frame(ws, 10))["type"] == "hosts-changed"


async def test_a_lost_bell_is_covered_by_a_look_at_the_row(
    server: WebProcess, rows: Rows, worker: ScriptedWorker, redis: Redis
) -> None:
    ended = threading.Event()

    def end_in_silence(task: dict[str, Any]) -> None:
        redis.kill()
        worker.end(task["id"], "done")
        ended.set()

    rows.vm(rows.host("kvm-1"), "a")
    worker.answers["start"] = end_in_silence

    async with httpx.AsyncClient(base_url=server.url, timeout=20) as api:
        wait = {"Prefer": "wait=20"}
        acting = asyncio.create_task(
            api.post(ACTION, json={"action": "start"}, headers=wait)
        )
        await until(ended.is_set)
        redis.start()
        answer = await acting

    assert answer.status_code == 204
    assert answer.elapsed.total_seconds() < 10


def test_a_silent_postgres_is_503_within_three_seconds(
    server: WebProcess, rows: Rows, postgres: Postgres
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    postgres.pause()
    try:
        began_s = time.monotonic()
        answers = asyncio.run(
            gets(server, "/api/hosts", "/api/hosts/kvm-1/vms", "/api/vms", "/api/tasks")
        )
        took_s = time.monotonic() - began_s
        health = httpx.get(f"{server.url}/api/health", timeout=3)
    finally:
        postgres.resume()

    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json()["type"] == "/api/problems/store-unavailable"
    assert answers[0].headers["retry-after"] == "2"
    assert took_s < 3.5
    assert health.status_code == 200
    assert health.json()["postgres"] is False


async def gets(server: WebProcess, *paths: str) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as client:
        return list(await asyncio.gather(*(client.get(path) for path in paths)))


def test_reads_work_again_when_postgres_is_back(
    api: httpx.Client,
    rows: Rows,
    postgres: Postgres,
    environment: dict[str, str],
    eventually: Callable[..., None],
) -> None:
    rows.host("kvm-1")
    rows.close()
    postgres.stop()
    gone = api.get("/api/hosts")
    postgres.start()

    assert gone.status_code == 503
    eventually(lambda: api.get("/api/hosts").status_code == 200, 10)


async def test_sigterm_ends_in_order(
    web: Webs, rows: Rows, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    server = web(VIRTUMANCER_WAIT_S="30")
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=20) as api,
        connect(server.ws_url) as ws,
        api.stream("GET", "/api/events") as events,
    ):
        action = asyncio.create_task(api.post(ACTION, json={"action": "start"}))
        await until(lambda: rows.run("select id from tasks"))

        code, took_s = await asyncio.to_thread(server.terminate)
        answer = await action
        rest = [line async for line in events.aiter_lines()]

        assert answer.status_code == 202
        assert answer.headers["location"] == f"/api/tasks/{answer.json()['id']}"
        try:
            await ws.recv()
        except ConnectionClosed:
            assert ws.close_code == 1001
        assert rest == []
    assert code == 0
    assert took_s < 5


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
STREAM = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_A_BODY = (
    b"POST /api/hosts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{"
)


def test_sigterm_ends_also_with_clients_that_are_stuck(
    web: Webs, rows: Rows, eventually: Callable[..., None]
) -> None:
    server = web()
    with contextlib.ExitStack() as clients:
        for request in (UPGRADE, STREAM, HALF_A_BODY):
            client = socket.create_connection(("127.0.0.1", server.port))
            clients.enter_context(client)
            client.sendall(request)
        eventually(lambda: "/api/events" in server.log.read_text())
        large = json.dumps({"type": "vms-changed", "payload": "x" * 100_000})
        for _ in range(300):
            rows.publish((bus.frames_channel("kvm-1"), large.encode()))

        code, took_s = server.terminate()

    assert code == 0
    assert took_s < 10


def test_who_has_just_connected_is_answered_before_the_end(web: Webs) -> None:
    server = web()
    assert httpx.get(f"{server.url}/api/problems").status_code == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        client.sendall(b"GET /api/problems HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

        assert client.recv(12) == b"HTTP/1.1 200"
    assert server.process.wait(15) == 0


def test_two_processes_share_a_port(web: Webs, eventually: Callable[..., None]) -> None:
    first = web(VIRTUMANCER_REUSE_PORT="1")
    second = web(VIRTUMANCER_REUSE_PORT="1", PORT=str(first.port))
    assert second.port == first.port

    first.terminate()

    assert httpx.get(f"{second.url}/api/hosts").status_code == 200


def test_a_taken_port_is_said_in_one_line(server: WebProcess, web: Webs) -> None:
    other = web(PORT=str(server.port))

    assert other.process.wait(10) == 1
    assert other.log.read_text() == (
        f"Cannot listen on 127.0.0.1:{server.port}: Address already in use\n"
    )
