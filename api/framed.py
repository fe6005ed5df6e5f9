"""Frames for many sockets at once, put into bytes once and written past the app.

The server offers it to the app as an extension of its own: to write a frame that is
whole already, if nothing is in its way.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Final, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.http11 import Request

from api.bell import Bell

EXTENSION: Final = "virtumancer.frames"

Write = Callable[[Iterable["Framed"]], bool]
"""Writes frames at once, or says that they have to wait."""

_WHOLE_TEXT: Final = b"\x81"
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127


class Framed:
    """A text for many, and the bytes that each of them gets (RFC 6455, 5.2)."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def text(self) -> str:
        return self._content.decode()

    @cached_property
    def wire(self) -> bytes:
        size = len(self._content)
        if size < _TWO_BYTES:
            length = bytes([size])
        elif size < 1 << 16:
            length = bytes([_TWO_BYTES]) + size.to_bytes(2, "big")
        else:
            length = bytes([_EIGHT_BYTES]) + size.to_bytes(8, "big")
        return _WHOLE_TEXT + length + self._content


def writer_of(scope: Mapping[str, Any]) -> Write | None:
    """How to write past the app, where the server offers it."""
    write: Write | None = scope.get("extensions", {}).get(EXTENSION)
    return write


class _Received:
    """What a client sent, in place of an asyncio.Queue, which weighs 3 KB a socket."""

    __slots__ = ("_came", "_events")

    def __init__(self) -> None:
        self._events: list[Any] = []
        self._came = Bell()

    def put_nowait(self, event: Any) -> None:
        self._events.append(event)
        self._came.ring()

    async def get(self) -> Any:
        while not self._events:
            await self._came.wait()
        return self._events.pop(0)

    def empty(self) -> bool:
        return not self._events


class WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, lighter, and letting the app write frames as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # These three methods are all that uvicorn calls.
        self.queue = cast("asyncio.Queue[Any]", _Received())

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            # The app has not begun to run yet.
            extensions: dict[Any, Any] = self.scope["extensions"] or {}
            extensions[EXTENSION] = self._write

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            # With thousands of sockets, what only the handshake needs is a burden.
            del self.request, self.response

    def _write(self, frames: Iterable[Framed]) -> bool:
        open_ = self.handshake_complete and not self.close_sent
        if not open_ or self.transport.is_closing() or not self.writable.is_set():
            return False
        self.transport.write(b"".join([frame.wire for frame in frames]))
        return True
