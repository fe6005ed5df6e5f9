"""Peers that take a connection and then do not do what one expects."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def silent_tcp() -> Iterator[int]:
    """Accepts on loopback and never says a word; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server, _accepting(server):
        yield server.getsockname()[1]


@contextmanager
def silent_unix(path: Path) -> Iterator[Path]:
    """Accepts on a unix socket and never says a word."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with _accepting(server):
            yield path


@contextmanager
def full_queue(path: Path) -> Iterator[Path]:
    """Listens and never accepts, and its queue has no room left."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        waiting = []
        try:
            while True:
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.setblocking(False)  # noqa: FBT003
                try:
                    client.connect(str(path))
                except BlockingIOError:
                    break
            yield path
        finally:
            for client in waiting:
                client.close()


@contextmanager
def _accepting(server: socket.socket) -> Iterator[None]:
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in taken:
            connection.close()
