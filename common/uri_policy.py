"""What a host's URI may say at all, and what of it this installation allows.

The tables are allow-lists: what is not in them does not exist. ``REFUSED`` only gives
reasons, for the parameters that libvirt's client has from 9.0 to 12: see
https://libvirt.org/uri.html and doRemoteOpen() in libvirt's remote_driver.c.
"""

import os.path
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from common.errors import UriNotAllowed
from common.settings import Settings

PATHS: Final = {
    "qemu": ("system", "session"),
    "test": ("default",),
    "xen": ("system",),
    "lxc": ("system",),
    "ch": ("system", "session"),
    "vz": ("system",),
    "bhyve": ("system",),
}
"""Drivers that libvirtd serves, and the paths each one has."""

CARRIERS: Final = {
    "unix": "unix",
    "ssh": "ssh",
    "libssh": "ssh",
    "libssh2": "ssh",
    "tcp": "tcp",
    "tls": "tls",
}
"""Transports, and what carries them here: every kind of ssh is OpenSSH."""

PORTS: Final = {"tcp": 16509, "tls": 16514, "ssh": 22}
"""Carriers that cross a network, and the port each one takes by default."""

REMOTE_SOCKET: Final = "/var/run/libvirt/libvirt-sock"
"""Where libvirtd listens on the far side of ssh, unless ``socket=`` says otherwise."""

EXAMPLES: Final = (
    "qemu+ssh://user@host/system, qemu+tls://host/system, qemu:///system or "
    "qemu+unix:///system?socket=/path/libvirt-sock"
)

PARAMETERS: Final = {
    "unix": ("socket",),
    "ssh": ("socket", "keyfile", "known_hosts", "known_hosts_verify"),
    "tcp": (),
    "tls": (),
}
"""Carriers, and the parameters each one may have; all have checked values."""

_LOGIN = "logins are by key alone, and nobody is asked for anything; leave it out"
_CHECKS = "it switches checks off, and the host is always checked"
REFUSED: Final = {
    "auth": _LOGIN,
    "authfile": "it reads a file with passwords",
    "auto_answer": _CHECKS,
    "command": "it runs a program",
    "keyfile": "it belongs to ssh",
    "known_hosts": "it belongs to ssh",
    "known_hosts_verify": "it belongs to ssh",
    "mode": "it chooses a daemon; name the daemon's socket with socket=",
    "name": "it opens another address than the one that is written",
    "netcat": "it runs a program on the host",
    "no_sanity": _CHECKS,
    "no_tty": _LOGIN,
    "no_verify": _CHECKS,
    "pkipath": "it reads files; certificates lie in VIRTUMANCER_TLS_DIR",
    "proxy": "it chooses a program to run on the host",
    "root": "it runs a hypervisor inside this process",
    "socket": "it has no meaning over a network without ssh",
    "sshauth": _LOGIN,
    "tls_priority": "it can weaken the encryption",
}

# sockaddr_un holds 108 bytes, the last of them zero.
_LONGEST_SOCKET = 107
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]+")
_DAEMONS = {driver: f"virt{driver}d" for driver in PATHS}


def refuse(reason: str) -> NoReturn:
    raise UriNotAllowed(f"The URI is not allowed: {reason}.")


def local_sockets(driver: str) -> tuple[str, ...]:
    """libvirt's own sockets on this machine; the first that exists is the default."""
    names = ("libvirt-sock", f"{_DAEMONS[driver]}-sock")
    return tuple(
        f"{run}/libvirt/{name}" for run in ("/run", "/var/run") for name in names
    )


def check_far_socket(socket: str) -> None:
    """A path that no shell, and neither end of ssh, reads anything into."""
    _check_shape(socket)
    if not _PLAIN_PATH.fullmatch(socket):
        refuse("a socket on the far side is made of A-Z a-z 0-9 . _ - and / alone")


@dataclass(frozen=True, slots=True)
class UriPolicy:
    """What this installation allows of what the tables above hold.

    ``socket_folders`` are the folders of this machine whose sockets may be named, and
    ``ssh_folder`` the one whose keys and known hosts may be.
    """

    socket_folders: tuple[Path, ...] = ()
    drivers: tuple[str, ...] = ("qemu", "test")
    ssh_folder: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.uri_socket_dirs, settings.uri_drivers, settings.ssh_dir)

    def check_driver(self, driver: str) -> None:
        allowed = " and ".join(self.drivers)
        if driver not in PATHS:
            refuse(
                f"the driver {driver} is not supported; the drivers are {allowed}: "
                f"{EXAMPLES}"
            )
        if driver not in self.drivers:
            refuse(
                f"the driver {driver} is not allowed here, but {allowed}; "
                "VIRTUMANCER_URI_DRIVERS says which"
            )

    def check_local_socket(self, socket: str) -> None:
        _check_shape(socket)
        if not any(_inside(socket, folder) for folder in self.socket_folders):
            refuse(
                f"the socket {socket} does not lie in a folder that this installation "
                "allows; add its folder to VIRTUMANCER_URI_SOCKET_DIRS"
            )

    def check_ssh_file(self, parameter: str, path: str) -> None:
        """A key or known_hosts: in one folder, wherever its links lead."""
        if not path.startswith("/") or os.path.normpath(path) != path:
            refuse(f"the parameter {parameter} is an absolute path without '..'")
        if not _PLAIN_PATH.fullmatch(path):
            refuse(f"the parameter {parameter} is made of A-Z a-z 0-9 . _ - and /")
        if self.ssh_folder is None or not _inside(path, self.ssh_folder):
            refuse(
                f"the parameter {parameter} names no file in the folder of ssh keys, "
                "which VIRTUMANCER_SSH_DIR says"
            )


def _check_shape(socket: str) -> None:
    if len(os.fsencode(socket)) > _LONGEST_SOCKET:
        refuse(f"the socket's path is longer than {_LONGEST_SOCKET} bytes")
    if not socket.startswith("/") or os.path.normpath(socket) != socket:
        refuse("the socket must be an absolute path without '..', '.' or '//'")
    if socket.startswith("//"):
        refuse("the socket must begin with a single '/'")


def _inside(path: str, folder: Path) -> bool:
    """Whether a path leads into a folder, links followed; the folder / is none."""
    real_folder = os.path.realpath(folder)
    written = (f"{folder}/", f"{real_folder}/")
    # Nothing of the file system is looked at for a path that names another folder.
    if real_folder == "/" or not path.startswith(written):
        return False
    return os.path.realpath(path).startswith(f"{real_folder}/")
