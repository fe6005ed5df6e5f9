"""Clients of HTTP, many in one process, each with one request under way."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import cast

import uvloop

from bench.scripts import serve
from bench.wire import length_of

# For whatever is being read: it is looked at before the next client's turn.
BUFFER = bytearray(1024 * 1024)


class Client(asyncio.BufferedProtocol):
    """Sends its requests in turn, each when the one before is answered."""

    def __init__(self, requests: list[bytes], until: float) -> None:
        self._requests: Iterator[bytes] = cycle(requests)
        self._until = until
        self._head = b""
        self._missing: int | None = None
        self._began = 0.0
        self._transport: asyncio.Transport
        self.statuses: Counter[int] = Counter()
        self.took_ms: list[float] = []
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has a class of its own.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(next(self._requests))

    def get_buffer(self, sizehint: int) -> bytearray:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._missing is None:
            begun = len(self._head)
            self._head += BUFFER[: min(nbytes, 4096)]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, self._head = self._head[: end + 2], b""
            self.statuses[int(head[9:12])] += 1
            self._missing = length_of(head) - (begun + nbytes - end - 4)
        else:
            self._missing -= nbytes
        if self._missing <= 0:
            self._missing = None
            self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        self.took_ms.append((now - self._began) * 1000)
        if time.monotonic() < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _load(
    port: int, requests: list[list[str]], seconds: float
) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    clients = []
    for own in requests:
        encoded = [text.encode() for text in own]
        make = partial(Client, encoded, began + seconds)
        _, client = await loop.create_connection(make, "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    took_s = time.monotonic() - began
    statuses: Counter[int] = Counter()
    for client in clients:
        statuses += client.statuses
    times = sorted(ms for client in clients for ms in client.took_ms)
    return {
        "a_second": sum(statuses.values()) / took_s,
        "statuses": {str(status): count for status, count in statuses.items()},
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
    }


def load(port: int, requests: list[list[str]], seconds: float) -> dict[str, object]:
    """One client for each list of requests, for so long."""
    return uvloop.run(_load(port, requests, seconds))


if __name__ == "__main__":
    serve(load=load)
