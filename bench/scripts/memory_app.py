"""A bare ASGI app on our own server, which answers the same bytes from memory.

``GET /`` answers them, ``GET /304`` that nothing changed. Says its port.
"""

import sys
from pathlib import Path
from typing import Any

from api.server import listening_socket, serve
from bench.scripts import say
from common.settings import Settings


def main() -> None:
    body = Path(sys.argv[1]).read_bytes()
    ok = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
        elif scope["path"] == "/304":
            await send({"type": "http.response.start", "status": 304, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": ok})
            await send({"type": "http.response.body", "body": body})

    async def nothing() -> None:
        return None

    settings = Settings(database_url="", redis_url="", port=0)
    listener = listening_socket(settings)
    say(listener.getsockname()[1])
    serve(app, nothing, listener)


if __name__ == "__main__":
    main()
