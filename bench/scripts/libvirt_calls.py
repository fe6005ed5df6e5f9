"""Bare libvirt calls on open connections, and the callback of a lifecycle event."""

import os
import sys
import threading
import time
from queue import SimpleQueue
from typing import Any

import libvirt

from bench.scripts import cpu_s, serve

OFF = libvirt.VIR_DOMAIN_SHUTOFF


class Calls:
    """One connection a URI; all belong to this process."""

    def __init__(self, uris: list[str]) -> None:
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self._connections = [libvirt.open(uri) for uri in uris]

    def act(self, name: str, action: str) -> float:
        """Look and act, as every action does; the milliseconds."""
        domain = self._connections[0].lookupByName(name)
        began = time.perf_counter()
        _act(domain, action)
        return (time.perf_counter() - began) * 1000

    def off(self, names: list[list[str]]) -> None:
        """Destroy those that run; names stand by connection."""
        for connection, of_host in zip(self._connections, names, strict=True):
            for name in of_host:
                domain = connection.lookupByName(name)
                if domain.state()[0] != OFF:
                    domain.destroy()

    def busy(self, names: list[list[str]], seconds: float) -> float:
        """Actions a second, of one thread a name; names stand by connection."""
        until = time.monotonic() + seconds
        counts: list[int] = []

        def work(domain: Any) -> None:
            done = 0
            while time.monotonic() < until:
                _act(domain, "destroy" if done % 2 else "start")
                done += 1
            if done % 2:
                domain.destroy()
            counts.append(done)

        threads = [
            threading.Thread(target=work, args=(connection.lookupByName(name),))
            for connection, of_host in zip(self._connections, names, strict=True)
            for name in of_host
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / seconds

    def sync(self) -> float:
        """List all, then one XML after another; the milliseconds."""
        began = time.perf_counter()
        for domain in self._connections[0].listAllDomains():
            domain.XMLDesc()
        return (time.perf_counter() - began) * 1000

    def stats(self, calls: int) -> float:
        """CPU milliseconds of this process for one bulk call about all domains."""
        connection = self._connections[0]
        began = cpu_s(os.getpid())
        for _ in range(calls):
            connection.getAllDomainStats(
                0, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            )
        return (cpu_s(os.getpid()) - began) * 1000 / calls


class Callback:
    """Notes when lifecycle events are heard, on a connection of its own."""

    def __init__(self) -> None:
        self._heard: SimpleQueue[float] = SimpleQueue()
        self._connection: Any = None

    def listen(self, uri: str) -> None:
        """Before any other connection is opened, as libvirt wants it."""
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=self._turn, daemon=True).start()
        self._connection = libvirt.open(uri)
        lifecycle = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        self._connection.domainEventRegisterAny(None, lifecycle, self._hear, None)

    def _turn(self) -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    def _hear(self, *_: Any) -> None:
        self._heard.put(time.monotonic())

    def next_event(self) -> float:
        return self._heard.get(timeout=10)

    def forget(self) -> int:
        """What was heard besides; the number."""
        count = self._heard.qsize()
        for _ in range(count):
            self._heard.get()
        return count


def _act(domain: Any, action: str) -> None:
    domain.state()
    if action == "start":
        domain.create()
    else:
        domain.destroy()


def main() -> None:
    calls = Calls(sys.argv[1:])
    callback = Callback()
    serve(
        act=calls.act,
        off=calls.off,
        busy=calls.busy,
        sync=calls.sync,
        stats=calls.stats,
        listen=callback.listen,
        next_event=callback.next_event,
        forget=callback.forget,
    )


if __name__ == "__main__":
    main()
