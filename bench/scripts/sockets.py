"""Clients of a WebSocket, thousands in one process, that note when each frame came."""

import asyncio
import base64
import json
import os
import threading
import time
from functools import partial
from typing import cast

import uvloop

from bench.scripts import serve

TEXT = 0x81
PING = 0x89
PONG = 0x8A
LONGER = 126
"""Opcodes with the bit of a whole frame, and the size that says two bytes follow."""

loop = uvloop.new_event_loop()


class Client(asyncio.Protocol):
    """Shakes hands, asks for its topics, then collects."""

    def __init__(self, path: str, asks: list[str], crowd: "Crowd") -> None:
        self._path = path
        self._asks = asks
        self._crowd = crowd
        self._shaken = False
        self._rest = b""
        self.frames: list[tuple[float, bytes]] = []
        self.inside = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has a class of its own.
        self.transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        stream = self._rest + data
        if not self._shaken:
            head, end, stream = stream.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._shaken = True
            self.transport.writelines(
                [_masked(TEXT, text.encode()) for text in self._asks]
            )
            self.inside.set()
        self._rest = self._take(stream, at)

    def _take(self, stream: bytes, at: float) -> bytes:
        """Take whole frames from the beginning; what is left."""
        before, here, length = len(self.frames), 0, len(stream)
        while length - here >= 4:
            opcode, size, begin = stream[here], stream[here + 1], here + 2
            if size == LONGER:
                size, begin = int.from_bytes(stream[begin : begin + 2], "big"), here + 4
            if begin + size > length:
                break
            here = begin + size
            if opcode == PING:
                self.transport.write(_masked(PONG, stream[begin:here]))
            else:
                self.frames.append((at, stream[begin:here]))
        self._crowd.came(len(self.frames) - before)
        return stream[here:]


class Crowd:
    """All clients of one server."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._missing = 0
        self._changed = threading.Condition()

    def enter(self, port: int, path: str, asks: list[list[str]]) -> int:
        """Connect one client for each list of messages to send."""

        async def connect() -> None:
            for own in asks:
                client = Client(path, own, self)
                self._clients.append(client)
                make = partial(_same, client)
                await loop.create_connection(make, "127.0.0.1", port)
                await client.inside.wait()

        asyncio.run_coroutine_threadsafe(connect(), loop).result(120)
        return len(self._clients)

    def heard(self) -> int:
        """How many clients have been sent anything yet."""
        return sum(bool(client.frames) for client in self._clients)

    def came(self, count: int) -> None:
        with self._changed:
            self._missing -= count
            if self._missing <= 0:
                self._changed.notify_all()

    def expect(self, count: int) -> int:
        """So many frames are about to come."""
        for client in self._clients:
            client.frames.clear()
        with self._changed:
            self._missing = count
        return count

    def wait(self, timeout_s: float) -> dict[str, float]:
        """When the last client had the frames about each VM, by its name."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._missing <= 0, timeout_s), (
                f"{self._missing} frames did not come"
            )
        last: dict[str, float] = {}
        for client in self._clients:
            for at, frame in client.frames:
                name = json.loads(frame)["payload"]["vmName"]
                last[name] = max(at, last.get(name, 0.0))
        return last


def _same(client: Client) -> Client:
    return client


def _masked(opcode: int, content: bytes) -> bytes:
    """A client's frame; a mask of zeros leaves its content as it is."""
    size = len(content)
    short = bytes([opcode, 0x80 | size]) if size < LONGER else b""
    head = short or bytes([opcode, 0x80 | LONGER]) + size.to_bytes(2, "big")
    return head + bytes(4) + content


def main() -> None:
    crowd = Crowd()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    serve(enter=crowd.enter, heard=crowd.heard, expect=crowd.expect, wait=crowd.wait)


if __name__ == "__main__":
    main()
