"""Clients and web processes that go, or do not take what they asked for."""

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator

import libvirt
import redis as redis_client

from embedded.servers import Redis
from tests.faults.conftest import Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.proxy import STATS
from tests.lab.system import System, Web, eventually

SUBSCRIBERS = 500
GROWTH_KIB = 64 * 1024


def subscription(name: str) -> bytes:
    """The frame of a client (RFC 6455, 5.2), masked with zeros."""
    address = {"hostId": "one", "vmName": name}
    text = json.dumps({"type": "subscribe-vm-stats", "payload": address}).encode()
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


@contextlib.contextmanager
def sockets(web: Web, count: int, name: str) -> Iterator[None]:
    """So many sockets that have subscribed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(raw_socket(web)).sendall(subscription(name))
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def watchers(redis: Redis, name: str) -> int:
    """Web processes that listen to the stats of a VM."""
    with redis_client.Redis.from_url(redis.url) as client:
        [(_, count)] = client.pubsub_numsub(f"virtumancer:stats:one/{name}")
        return int(count)


def test_a_killed_webs_500_subscribers_cost_nothing_and_nobody_else_notices(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, redis: Redis
) -> None:
    for name in ("watched", "crowd"):
        behind.lookupByUUIDString(define(behind, name)).create()
    lab.start(webs=2)
    [host] = hosts(1)
    lab.add_host("one", uri(host))
    stays, victim = lab.webs
    listener = lab.listen(stays)
    listener.subscribe("one", "watched")
    listener.wait(5, "vm-stats-updated", vmName="watched")

    with sockets(victim, SUBSCRIBERS, "crowd"):
        eventually(lambda: watchers(redis, "crowd") == 1, 20)
        polled = host.calls[STATS]
        eventually(lambda: host.calls[STATS] > polled + 1, 10)
        victim.kill()
        killed = time.monotonic()
        eventually(lambda: watchers(redis, "crowd") == 0, 10)

    for _ in range(3):
        listener.wait(4, "vm-stats-updated", since=time.monotonic(), vmName="watched")
    listener.unsubscribe("one", "watched")
    eventually(lambda: watchers(redis, "watched") == 0, 5)
    # The tick that is under way may still ask; then nobody does.
    time.sleep(2.5)
    polled = host.calls[STATS]
    time.sleep(5)
    assert host.calls[STATS] == polled
    assert listener.open
    assert not listener.since(killed, "error")


def test_a_client_that_never_reads_is_closed_and_harms_nobody(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, redis: Redis
) -> None:
    define(behind, "vm")
    lab.start()
    lab.add_host("one", uri(hosts(1)[0]))
    [web] = lab.webs
    neighbour = lab.listen()
    channel, frame = (
        "virtumancer:frames:one",
        json.dumps({"type": "vms-changed", "payload": {"hostId": "x" * 60_000}}),
    )
    with raw_socket(web) as deaf, redis_client.Redis.from_url(redis.url) as bus:
        before = web.resident_kib()
        for _ in range(400):
            began = time.monotonic()
            bus.publish(channel, frame)
            neighbour.wait(2, "vms-changed", since=began)
        eventually(lambda: web.said("socket closed", code=1013), 30)
        assert web.resident_kib() - before < GROWTH_KIB
        assert deaf
    assert neighbour.open


@contextlib.contextmanager
def raw_socket(web: Web) -> Iterator[socket.socket]:
    """A WebSocket whose client asked for it and then reads no more."""
    host, _, port = web.url.removeprefix("http://").partition(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: " + f"{host}:{port}".encode() + b"\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" in client.recv(64)
        yield client
