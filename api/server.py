"""uvicorn as this product needs it: its sockets, its words, its end."""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.errors import InvalidRequest, problem_of
from common.settings import Settings

UNACKNOWLEDGED_MS = 10_000
"""A client that takes nothing for so long is dropped by the kernel."""
SEND_BUFFER_BYTES = 256 * 1024
FRAME_BYTES = 64 * 1024
BACKLOG = 2048
FINISH_S = 4
"""Requests get so long to finish when the process ends."""


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
    """Answers what is no HTTP with a problem like all others."""

    def send_400_response(self, msg: str) -> None:
        body = msgspec.json.encode(problem_of(InvalidRequest(msg)))
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


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
        await self._drain()
        await super().shutdown(sockets)


def serve(
    app: Callable[..., Awaitable[None]],
    drain: Callable[[], Awaitable[None]],
    listener: socket.socket,
) -> None:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="websockets-sansio",
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
    with closing(listener):
        Server(config, drain).run(sockets=[listener])
