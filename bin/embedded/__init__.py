"""Private servers and a private hypervisor, run from a folder by an ordinary user."""

from embedded.folders import FolderError, scratch
from embedded.libvirtd import Libvirtd
from embedded.server import Server, ServerError
from embedded.servers import Postgres, Redis

__all__ = [
    "FolderError",
    "Libvirtd",
    "Postgres",
    "Redis",
    "Server",
    "ServerError",
    "scratch",
]
