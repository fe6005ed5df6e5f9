"""A host's URI: read, checked against a table of what is allowed, and written anew.

No URI of a user's ever reaches libvirt: its parameters can run commands.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostUri:
    """A host's address, every part of it checked.

    ``transport`` is ``unix``, ``tcp`` or ``ssh``; ``path`` is without its slash
    (``system``, ``session``, ``default``); ``socket`` is local for unix, on the far
    side for ssh, None for tcp.
    """

    driver: str
    transport: str
    path: str
    user: str | None = None
    host: str | None = None
    port: int | None = None
    socket: str | None = None


@dataclass(frozen=True, slots=True)
class UriPolicy:
    """What may be named: ``socket_folders`` hold the local sockets allowed."""

    socket_folders: tuple[str, ...] = ()


def parse(text: str, policy: UriPolicy) -> HostUri:
    """Read and check, or raise UriNotAllowed saying what to write in its place."""
    raise NotImplementedError
