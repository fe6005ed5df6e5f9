"""A bare server of ``websockets`` that broadcasts: the floor of a fan-out.

A client says which topics it is for; a line of ``serve`` names the file with the
messages, one a topic, and each goes to its topic's clients.
"""

import json
import threading
from pathlib import Path

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as listen

from bench.scripts import serve


def main() -> None:
    topics: dict[int, set[ServerConnection]] = {}
    ports: list[int] = []
    ready = threading.Event()
    loop = uvloop.new_event_loop()

    async def client(connection: ServerConnection) -> None:
        async for text in connection:
            for topic in json.loads(text):
                topics.setdefault(topic, set()).add(connection)

    async def run() -> None:
        server = await listen(
            client, "127.0.0.1", 0, compression=None, ping_interval=None
        )
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True).start()
    ready.wait()

    def tell(path: str) -> int:
        messages = json.loads(Path(path).read_text())
        loop.call_soon_threadsafe(_tell_all, messages)
        return len(messages)

    def _tell_all(messages: list[str]) -> None:
        for topic, message in enumerate(messages):
            broadcast(topics.get(topic, ()), message)

    def subscribed() -> int:
        return sum(len(clients) for clients in list(topics.values()))

    serve(ports[0], tell=tell, subscribed=subscribed)


if __name__ == "__main__":
    main()
