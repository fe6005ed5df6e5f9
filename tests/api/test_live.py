"""/ws and /api/events: frames as they happen."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import redis as redis_client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from common import bus
from common.shapes import HostsChanged
from tests.api.conftest import Rows, WebProcess

SAMPLE = b'{"type":"vm-stats-updated","payload":{"hostId":"kvm-1","vmName":"a b/c"}}'
CHANNEL = bus.stats_channel("kvm-1", "a b/c")
WATCHED = {"hostId": "kvm-1", "vmName": "a b/c"}


def subscribe(payload: object = WATCHED) -> str:
    return json.dumps({"type": "subscribe-vm-stats", "payload": payload})


def unsubscribe(payload: object = WATCHED) -> str:
    return json.dumps({"type": "unsubscribe-vm-stats", "payload": payload})


async def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        await asyncio.sleep(0.01)


async def frame(ws: ClientConnection, timeout_s: float = 20) -> dict[str, Any]:
    received = json.loads(await asyncio.wait_for(ws.recv(), timeout_s))
    assert isinstance(received, dict)
    return received


async def refused(ws: ClientConnection, message: str | bytes) -> dict[str, Any]:
    await ws.send(message)
    answer = await frame(ws)
    assert answer["type"] == "error"
    payload = answer["payload"]
    assert isinstance(payload, dict)
    assert payload["message"]
    return payload


@pytest.fixture
def watched_vm(rows: Rows) -> str:
    """The UUID of the VM that the tests watch."""
    return str(rows.vm(rows.host("kvm-1"), "a b/c"))


@pytest.fixture
async def ws(server: WebProcess, rows: Rows) -> AsyncIterator[ClientConnection]:
    await until(lambda: rows.listeners(bus.NEWS) == 1)
    async with connect(server.ws_url) as ws:
        yield ws


async def test_changes_reach_every_socket_as_they_were_published(
    server: WebProcess, ws: ClientConnection, rows: Rows
) -> None:
    async with connect(server.ws_url) as other:
        rows.publish(bus.vms_changed("kvm-1"), bus.frame("kvm-1", HostsChanged()))

        for client in (ws, other):
            assert await client.recv() == (
                '{"type":"vms-changed","payload":{"hostId":"kvm-1"}}'
            )
            assert await client.recv() == '{"type":"hosts-changed","payload":null}'


async def test_a_burst_reaches_a_client_that_reads(
    ws: ClientConnection, rows: Rows
) -> None:
    rows.publish(*[bus.vms_changed(f"kvm-{number}") for number in range(2000)])

    hosts = [(await frame(ws))["payload"]["hostId"] for _ in range(2000)]

    assert hosts == [f"kvm-{number}" for number in range(2000)]


async def test_a_removed_host_is_announced(
    server: WebProcess, ws: ClientConnection, rows: Rows
) -> None:
    rows.host("kvm-1")

    async with httpx.AsyncClient(base_url=server.url) as api:
        await api.delete("/api/hosts/kvm-1")

    assert await frame(ws) == {"type": "hosts-changed", "payload": None}


async def test_stats_reach_only_who_asked_and_only_while_wanted(
    server: WebProcess, ws: ClientConnection, rows: Rows, watched_vm: str
) -> None:
    async with connect(server.ws_url) as other:
        await ws.send(subscribe())
        await until(lambda: rows.listeners(CHANNEL) == 1)
        rows.publish((CHANNEL, SAMPLE), bus.frame("kvm-1", HostsChanged()))

        assert await ws.recv() == SAMPLE.decode()
        assert (await frame(ws))["type"] == "hosts-changed"
        assert (await frame(other))["type"] == "hosts-changed"

    await ws.send(unsubscribe())
    await until(lambda: rows.listeners(CHANNEL) == 0)


async def test_the_subscription_ends_with_the_socket(
    server: WebProcess, rows: Rows, watched_vm: str
) -> None:
    async with connect(server.ws_url) as ws:
        await ws.send(subscribe())
        await until(lambda: rows.listeners(CHANNEL) == 1)

    await until(lambda: rows.listeners(CHANNEL) == 0)


async def test_each_subscription_asks_for_a_sample_at_once(
    server: WebProcess,
    ws: ClientConnection,
    rows: Rows,
    redis_url: str,
    watched_vm: str,
) -> None:
    with (
        redis_client.Redis.from_url(redis_url) as client,
        bus.listen_for(client, bus.STATS_WANTED) as wanted,
    ):
        wanted.get_message(timeout=1)

        def asked() -> bool:
            message = wanted.get_message(timeout=0.05)
            if message is None:
                return False
            assert message["data"] == b"kvm-1"
            return rows.listeners(CHANNEL) == 1

        await ws.send(subscribe())
        await until(asked)
        await ws.send(subscribe())
        await until(asked)
        async with connect(server.ws_url) as other:
            await other.send(subscribe())
            await until(asked)


async def test_subscribed_twice_is_sent_once(
    ws: ClientConnection, rows: Rows, watched_vm: str
) -> None:
    await ws.send(subscribe())
    await ws.send(subscribe())
    await ws.send(subscribe({"hostId": "kvm-1", "vmName": watched_vm}))
    # An answer to this means that what was sent before has been dealt with.
    await refused(ws, "{}")
    await until(lambda: rows.listeners(CHANNEL) == 1)
    rows.publish((CHANNEL, SAMPLE), bus.frame("kvm-1", HostsChanged()))

    assert (await frame(ws))["type"] == "vm-stats-updated"
    assert (await frame(ws))["type"] == "hosts-changed"


@pytest.mark.parametrize(
    "message",
    [
        "",
        "hello",
        "[]",
        "null",
        '{"type":"subscribe-vm-stats"}',
        '{"type":"dance","payload":{}}',
        '{"payload":{}}',
        subscribe(None),
        subscribe({"hostId": "kvm-1"}),
        subscribe({"hostId": 7, "vmName": "a"}),
        subscribe({"hostId": "kvm-1", "vmName": ""}),
        subscribe(WATCHED | {"colour": "red"}),
        '{"type":' + "[" * 30000,
        '{"type":"dance","payload":' + "[" * 20000 + "]" * 20000 + "}",
        b"binary",
    ],
    ids=lambda message: str(message)[:30],
)
async def test_a_bad_frame_is_refused_and_the_socket_stays(
    ws: ClientConnection, rows: Rows, message: str | bytes
) -> None:
    payload = await refused(ws, message)

    assert payload["code"] == "invalid-request"
    assert "request" in payload
    rows.publish(bus.frame("kvm-1", HostsChanged()))
    assert (await frame(ws))["type"] == "hosts-changed"


async def test_unknown_addresses_are_refused(
    ws: ClientConnection, watched_vm: str
) -> None:
    for payload, code in (
        ({"hostId": "nobody", "vmName": "a"}, "unknown-host"),
        ({"hostId": "kvm-1", "vmName": "nobody"}, "unknown-vm"),
        ({"hostId": "kvm-1", "vmName": "\0"}, "unknown-vm"),
        ({"hostId": "\0", "vmName": "a"}, "unknown-host"),
    ):
        answer = await refused(ws, subscribe(payload))
        assert answer["code"] == code
        assert answer["request"]["payload"] == payload


async def test_a_frame_over_64_kib_closes_with_1009(ws: ClientConnection) -> None:
    await ws.send("x" * 70_000)

    with pytest.raises(ConnectionClosed):
        await ws.recv()
    assert ws.close_code == 1009


async def test_an_unknown_path_is_no_websocket(server: WebProcess) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(server.ws_url + "/other")

    assert refusal.value.response.status_code in (403, 404)


async def test_a_client_that_does_not_read_is_closed_and_others_are_not_delayed(
    server: WebProcess, ws: ClientConnection, rows: Rows
) -> None:
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", server.port))
    async with connect(server.ws_url, sock=narrow, max_queue=1) as slow:
        text = b'{"type":"vms-changed","payload":{"hostId":"' + b"x" * 20_000 + b'"}}'
        for number in range(200):
            rows.publish((bus.frames_channel("kvm-1"), text))
            assert len(await asyncio.wait_for(ws.recv(), 5)) == len(text), number

        with pytest.raises(ConnectionClosed):
            while True:
                await asyncio.wait_for(slow.recv(), 5)
        assert slow.close_code == 1013


async def test_events_are_the_same_frames(
    server: WebProcess, rows: Rows, watched_vm: str
) -> None:
    url = f"{server.url}/api/events"
    params = {"vm-stats": "kvm-1/a b/c"}
    async with (
        httpx.AsyncClient() as api,
        api.stream("GET", url, params=params) as stream,
    ):
        await until(lambda: rows.listeners(CHANNEL) == 1)
        rows.publish((CHANNEL, SAMPLE), bus.vms_changed("kvm-1"))
        lines = stream.aiter_lines()
        received = [await asyncio.wait_for(anext(lines), 5) for _ in range(5)]

        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-cache"
        assert received == [
            "event: vm-stats-updated",
            f"data: {SAMPLE.decode()}",
            "",
            "event: vms-changed",
            'data: {"type":"vms-changed","payload":{"hostId":"kvm-1"}}',
        ]

    def unheard() -> bool:
        # The server notices at its next frame that the client is gone.
        rows.publish((CHANNEL, SAMPLE))
        return rows.listeners(CHANNEL) == 0

    await until(unheard)


async def test_a_burst_of_events_reaches_a_client_that_reads(
    server: WebProcess, rows: Rows
) -> None:
    url = f"{server.url}/api/events"
    async with httpx.AsyncClient() as api, api.stream("GET", url) as stream:
        rows.publish(*[bus.vms_changed(f"kvm-{number}") for number in range(2000)])
        lines = stream.aiter_lines()
        for number in range(2000):
            _, data, _ = [await anext(lines) for _ in range(3)]
            assert f'"kvm-{number}"' in data


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"vm-stats": "kvm-1/nobody"}, 404),
        ({"vm-stats": ["kvm-1/a b/c", "nobody/a"]}, 404),
        ({"vm-stats": "kvm-1"}, 400),
        ({"vm_stats": "kvm-1/a"}, 400),
    ],
)
async def test_events_of_something_unknown_do_not_begin(
    server: WebProcess, watched_vm: str, params: dict[str, Any], status: int
) -> None:
    async with httpx.AsyncClient() as api:
        answer = await api.get(f"{server.url}/api/events", params=params)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_many_subscriptions_of_one_socket_are_refused_in_the_end(
    ws: ClientConnection, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    for number in range(1001):
        rows.vm(host, f"vm {number}")
    for number in range(1001):
        await ws.send(subscribe({"hostId": "kvm-1", "vmName": f"vm {number}"}))

    assert (await frame(ws, 20))["payload"]["code"] == "too-many-subscriptions"
