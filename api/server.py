"""uvicorn as this product needs it: its sockets, its words, its end."""

import asyncio
import ipaddress
import resource
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from http import HTTPStatus
from typing import ClassVar, Final

import msgspec
import uvicorn
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.framed import WebSockets
from common.errors import InvalidRequest, VirtumancerError, problem_of
from common.limits import HeadersTooLarge, RequestTooSlow, TooBusy, UriTooLong
from common.settings import Settings

UNACKNOWLEDGED_MS = 10_000
"""A client that takes nothing for so long is dropped by the kernel."""
SEND_BUFFER_BYTES = 256 * 1024
FRAME_BYTES = 64 * 1024
BACKLOG = 2048
FINISH_S = 4
"""Requests get so long to finish when the process ends."""
HEARD_S = 0.5
"""When the process ends, whoever is connected is heard for so long."""
REQUEST_S = 10
"""A request that takes longer to come whole is not waited for."""
URL_BYTES = 8 * 1024
HEAD_BYTES = 32 * 1024
OTHER_FILES = 100
"""Files that are no client's: pools, Redis, libraries."""

_HEAD_TOO_LARGE: Final = f"The headers have more than {HEAD_BYTES} bytes."


def listening_socket(settings: Settings) -> socket.socket:
    """A socket whose connections inherit what keeps slow clients from piling up."""
    family, _, _, _, address = socket.getaddrinfo(
        settings.bind, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.virtumancer_reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS
        )
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def is_loopback(bind: str) -> bool:
    """Whether nobody can come in from another machine."""
    if not bind:
        return False
    try:
        found = socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM)
    except OSError:
        # Nobody can listen there at all, which is said in a moment.
        return True
    addresses = [ipaddress.ip_address(str(a[0]).partition("%")[0]) for *_, a in found]
    return all(address.is_loopback for address in addresses)


class Protocol(HttpToolsProtocol):
    """Bounds what a client can make this process hold, and for how long.

    What breaks a bound, or is no HTTP, is answered with a problem like all others.
    """

    _waiting: ClassVar[dict["Protocol", None]] = {}
    """Connections whose request has not come whole, the oldest first."""
    most_connections: ClassVar[int] = 10_000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._refusal: VirtumancerError | None = None
        super().connection_made(transport)
        if len(self.connections) > self.most_connections and not self._make_room():
            self._refuse(TooBusy("This process has as many connections as it may."))
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._deadline is None and (not self.cycle or self.cycle.response_complete):
            self._wait()
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(HeadersTooLarge(_HEAD_TOO_LARGE))

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.url) > URL_BYTES:
            self._refusal = UriTooLong(f"The URI has more than {URL_BYTES} bytes.")
        elif sum(len(n) + len(v) + 4 for n, v in self.headers) > HEAD_BYTES:
            self._refusal = HeadersTooLarge(_HEAD_TOO_LARGE)
        if self._refusal:
            # The parser stops, and its caller answers.
            raise self._refusal
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._came()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or InvalidRequest(msg))

    def _wait(self) -> None:
        """From here on, a whole request has so long to come."""
        self._waiting[self] = None
        self._deadline = self.loop.call_later(REQUEST_S, self._too_slow)

    def _came(self) -> None:
        self._waiting.pop(self, None)
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if self._in_head or (self.cycle and not self.cycle.response_complete):
            self._refuse(RequestTooSlow(f"No whole request came in {REQUEST_S} s."))
        else:
            # Who connects ahead and has not asked would take it for its answer.
            self._came()
            self.transport.close()

    def _make_room(self) -> bool:
        """Drop whoever has waited longest to say what it wants, if anybody has."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        oldest._came()
        oldest.transport.abort()
        return True

    def _refuse(self, error: VirtumancerError) -> None:
        """Hang up, and say why unless an answer is under way or was given."""
        self._came()
        if self._may_answer():
            problem = problem_of(error)
            body = msgspec.json.encode(problem)
            head = (
                f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
                "content-type: application/problem+json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _may_answer(self) -> bool:
        if not self.cycle:
            return True
        if self.cycle.response_complete:
            return self._in_head
        return not (self._in_head or self.cycle.response_started)


class SocketProtocol(WebSockets):
    """Takes a handshake that was refused for what it is, and not for a fault."""

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True


def allow_files() -> int:
    """Raise this process's limit of open files as far as it may; the new limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Server(uvicorn.Server):
    """Sends everybody away in order before it ends."""

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        # Who was let in last is just asking.
        await asyncio.sleep(HEARD_S)
        await self._drain()
        await super().shutdown(sockets)


def serve(
    app: Callable[..., Awaitable[None]],
    drain: Callable[[], Awaitable[None]],
    listener: socket.socket,
    most_connections: int = 10_000,
) -> None:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws=SocketProtocol,
        ws_max_size=FRAME_BYTES,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=FINISH_S,
    )
    Protocol.most_connections = min(most_connections, allow_files() - OTHER_FILES)
    with closing(listener):
        Server(config, drain).run(sockets=[listener])
