"""Clients of a WebSocket, thousands in one process, that only note when bytes came.

Frames are taken apart after everything has come, so that this process is cheap.
"""

import asyncio
import base64
import json
import os
import threading
import time
from functools import partial
from typing import Any, cast

import uvloop

from bench.scripts import serve

loop = uvloop.new_event_loop()


class Client(asyncio.Protocol):
    """Shakes hands, asks for its topics, then collects."""

    def __init__(self, path: str, asks: list[str], crowd: "Crowd") -> None:
        self._path = path
        self._asks = asks
        self._crowd = crowd
        self._head: bytearray | None = bytearray()
        self.pieces: list[tuple[float, bytes]] = []
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
        if self._head is None:
            self.pieces.append((time.monotonic(), data))
            self._crowd.came(len(data))
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            assert self._head.startswith(b"HTTP/1.1 101"), bytes(self._head)
            self._head = None
            self.transport.writelines([_masked(text) for text in self._asks])
            self.inside.set()


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

    def came(self, count: int) -> None:
        with self._changed:
            self._missing -= count
            if self._missing <= 0:
                self._changed.notify_all()

    def expect(self, count: int) -> int:
        """So many bytes are about to come."""
        for client in self._clients:
            client.pieces.clear()
        with self._changed:
            self._missing = count
        return count

    def wait(self, timeout_s: float) -> dict[str, float]:
        """When the last client had each message: by a mark of the message's own."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._missing <= 0, timeout_s), (
                f"{self._missing} bytes did not come"
            )
        last: dict[str, float] = {}
        for client in self._clients:
            for at, mark in _marks(client.pieces):
                last[mark] = max(at, last.get(mark, 0.0))
        return last

    def leave(self) -> int:
        """Hang up."""
        clients, self._clients = self._clients, []

        async def close() -> None:
            for client in clients:
                client.transport.abort()
            await asyncio.sleep(0.1)

        asyncio.run_coroutine_threadsafe(close(), loop).result(30)
        return len(clients)


def _same(client: Client) -> Client:
    return client


def _masked(text: str) -> bytes:
    """A client's frame; a mask of zeros leaves the text as it is."""
    content = text.encode()
    size = len(content)
    head = (
        bytes([0x81, 0x80 | size])
        if size < 126
        else (bytes([0x81, 0xFE]) + size.to_bytes(2, "big"))
    )
    return head + bytes(4) + content


def _marks(pieces: list[tuple[float, bytes]]) -> list[tuple[float, str]]:
    """When each frame was complete, and its "vmName"."""
    found = []
    stream = bytearray()
    for at, piece in pieces:
        stream += piece
        while (frame := _frame(stream)) is not None:
            payload: Any = json.loads(frame)["payload"]
            found.append((at, payload["vmName"]))
    return found


def _frame(stream: bytearray) -> bytes | None:
    """Take one whole frame from the beginning."""
    if len(stream) < 4:
        return None
    size, begin = stream[1], 2
    if size == 126:
        size, begin = int.from_bytes(stream[2:4], "big"), 4
    if len(stream) < begin + size:
        return None
    content = bytes(stream[begin : begin + size])
    del stream[: begin + size]
    return content


def main() -> None:
    crowd = Crowd()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    serve(enter=crowd.enter, expect=crowd.expect, wait=crowd.wait, leave=crowd.leave)


if __name__ == "__main__":
    main()
