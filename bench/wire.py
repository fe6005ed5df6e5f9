"""A client of HTTP that costs next to nothing: whole requests in, whole answers out."""

import json
import socket
import time
from typing import Any, Self


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """The bytes of a request on a connection that is kept."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def length_of(head: bytes) -> int:
    """How long the answer's body is, from its head."""
    if head[9:12] in (b"204", b"304"):
        return 0
    lower = head.lower()
    at = lower.index(b"content-length:") + 15
    return int(lower[at : lower.index(b"\r", at)])


class Wire:
    """One connection that is kept; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self.head = b""
        self.body = b""

    def ask(self, asked: bytes) -> int:
        """Send a request and read the whole answer; its status."""
        if self._socket is None:
            # Not earlier: who connects and does not ask is sent away soon.
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(asked)
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._more()
        head, _, begun = read.partition(b"\r\n\r\n")
        self.head = head + b"\r\n"
        parts, missing = [begun], length_of(self.head) - len(begun)
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        self.body = b"".join(parts)
        return int(head[9:12])

    def timed(self, asked: bytes, status: int) -> float:
        """The milliseconds of a request that is answered with this status."""
        began = time.perf_counter()
        got = self.ask(asked)
        took_ms = (time.perf_counter() - began) * 1000
        assert got == status, f"{got} for {asked!r}: {self.body[:500]!r}"
        return took_ms

    def header(self, name: str) -> str:
        for line in self.head.decode().split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        raise KeyError(name)

    def _more(self) -> bytes:
        assert self._socket
        piece = self._socket.recv(256 * 1024)
        assert piece, "the server closed the connection"
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._socket:
            self._socket.close()
