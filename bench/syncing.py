"""Syncs of a host: the first one, one without news, one over a slow link."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.figures import Figure, Target, at_most_times, median
from bench.rig import Benchmark, Rig, Size, domains, port_of, settled, test_uri
from bench.scripts import Script
from bench.wire import Wire, request
from embedded.libvirtd import Libvirtd
from tests.lab.system import System, eventually

LINK_S = 0.010


@contextmanager
def laboratory(rig: Rig, size: Size) -> Iterator[tuple[Libvirtd, System, ExitStack]]:
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        stack.enter_context(domains(server, size.vms))
        lab = stack.enter_context(rig.system())
        lab.start()
        yield server, lab, stack


def first_sync(lab: System, wire: Wire, uri: str) -> float:
    """POST a host that was never seen, and remove it again; the milliseconds."""
    body = {"id": "one", "uri": uri}
    took_ms = wire.timed(request("POST", "/api/hosts", body), 200)
    # Its monitor takes it up and looks at it too: that must not run into the next turn.
    eventually(lambda: lab.host("one")["state"] == "connected", 20)
    time.sleep(0.5)
    settled(lab)
    wire.timed(request("DELETE", "/api/hosts/one"), 204)
    time.sleep(0.3)
    settled(lab)
    return took_ms


def cold(rig: Rig, size: Size) -> list[Figure]:
    ours: list[float] = []
    floor: list[float] = []
    with laboratory(rig, size) as (server, lab, stack):
        bare = server.uri("test", "default")
        calls = stack.enter_context(Script("libvirt_calls", bare))
        wire = stack.enter_context(Wire(port_of(lab.webs[0])))
        first_sync(lab, wire, test_uri(server.socket))
        calls.ask("sync")
        for _ in range(size.rounds):
            floor.append(calls.ask("sync"))
            ours.append(first_sync(lab, wire, test_uri(server.socket)))
            rows = lab.rows("select count(*) as n from vms")
            assert rows[0]["n"] == 0
    return [_figure("sync-cold", ours, floor, at_most_times(1.5))]


def same(rig: Rig, size: Size) -> list[Figure]:
    """``POST …/sync`` of a host on which nothing changed."""
    ours: list[float] = []
    floor: list[float] = []
    with laboratory(rig, size) as (server, lab, stack):
        bare = server.uri("test", "default")
        calls = stack.enter_context(Script("libvirt_calls", bare))
        lab.add_host("one", test_uri(server.socket))
        settled(lab)
        wire = stack.enter_context(Wire(port_of(lab.webs[0])))
        again = request("POST", "/api/hosts/one/sync")
        for number in range(size.rounds + 1):
            bare_ms = calls.ask("sync")
            wire.ask(again)
            assert wire.head[9:12] in (b"200", b"204"), wire.body
            took_ms = wire.timed(again, int(wire.head[9:12]))
            settled(lab)
            if number:
                floor.append(bare_ms)
                ours.append(took_ms)
    return [_figure("sync-same", ours, floor, at_most_times(1.1))]


def far(rig: Rig, size: Size) -> list[Figure]:
    """Cold, with every byte 5 ms on its way there and 5 ms on its way back."""
    ours: list[float] = []
    floor: list[float] = []
    with laboratory(rig, size) as (server, lab, stack):
        link = rig.socket()
        way_s = LINK_S / 2
        stack.enter_context(Script("slow_link", server.socket, link, way_s, "all"))
        calls = stack.enter_context(Script("libvirt_calls", test_uri(link)))
        for _ in range(size.rounds):
            floor.append(calls.ask("sync"))
            # A connection that is silent for as long as the floor takes is closed.
            with Wire(port_of(lab.webs[0])) as wire:
                ours.append(first_sync(lab, wire, test_uri(link)))
    return [_figure("sync-far", ours, floor, at_most_times(0.4))]


def _figure(name: str, ours: list[float], floor: list[float], target: Target) -> Figure:
    return Figure(name, "ms", median(ours), median(floor), target)


COLD = Benchmark(cold, full=Size(rounds=11, vms=1000), toy=Size(rounds=1, vms=20))
SAME = Benchmark(same, full=Size(rounds=21, vms=1000), toy=Size(rounds=1, vms=20))
FAR = Benchmark(far, full=Size(rounds=3, vms=1000), toy=Size(rounds=1, vms=20))
