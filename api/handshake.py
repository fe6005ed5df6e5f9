"""A WebSocket that is refused gets the answer that any other request would get.

Falcon knows only how to close one, which is a 403 without a word. The server knows an
extension for more: https://asgi.readthedocs.io/en/latest/extensions.html
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[..., Awaitable[None]]

EXTENSION = "websocket.http.response"
REFUSAL = "virtumancer.refusal"


def refuse(
    scope: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Say what is to be answered if the socket is closed before it was opened."""
    raw = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    if (refusal := scope.get(REFUSAL)) is not None:
        refusal.update(status=status, headers=raw, body=body)


class Handshake:
    """Stands between the server and the app."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Send
    ) -> None:
        if scope["type"] != "websocket" or EXTENSION not in scope.get("extensions", {}):
            await self._app(scope, receive, send)
            return
        refusal: Message = {}
        opened = False

        async def send_or_refuse(message: Message) -> None:
            nonlocal opened
            opened = opened or message["type"] == "websocket.accept"
            if opened or not refusal or message["type"] != "websocket.close":
                await send(message)
                return
            start = {k: refusal[k] for k in ("status", "headers")}
            await send({"type": f"{EXTENSION}.start", **start})
            await send({"type": f"{EXTENSION}.body", "body": refusal["body"]})

        scope[REFUSAL] = refusal
        await self._app(scope, receive, send_or_refuse)
