"""A host's URI: read, checked against tables of what is allowed, and written anew.

No URI of a user's ever reaches libvirt: its parameters can run commands, read files
and switch checks off. What is not in these tables does not exist.
"""

import ipaddress
import os.path
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, unquote_to_bytes

from common.errors import UriNotAllowed

PATHS = {"qemu": ("system", "session"), "test": ("default",)}
"""Drivers, and the paths each one has."""

PORTS = {"tcp": 16509, "ssh": 22}
"""Transports that cross a network, and the port each one takes by default."""

LOCAL_SOCKETS = (
    "/run/libvirt/libvirt-sock",
    "/run/libvirt/virtqemud-sock",
    "/var/run/libvirt/libvirt-sock",
    "/var/run/libvirt/virtqemud-sock",
)
"""libvirt's own sockets on this machine; the first that exists is the default."""

REMOTE_SOCKET = "/var/run/libvirt/libvirt-sock"
"""Where libvirtd listens on the far side of ssh, unless ``socket=`` says otherwise."""

EXAMPLES = (
    "qemu+ssh://user@host/system, qemu+tcp://host/system, qemu:///system or "
    "qemu+unix:///system?socket=/path/libvirt-sock"
)

# sockaddr_un holds 108 bytes, the last of them zero.
_LONGEST_SOCKET = 107
_LONGEST_URI = 1024

_URI = re.compile(
    r"(?P<driver>[A-Za-z][A-Za-z0-9]*)(?:\+(?P<transport>[A-Za-z0-9]+))?"
    r"://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
    r"(?P<fragment>#.*)?"
)
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_REMOTE_SOCKET = re.compile(r"/[A-Za-z0-9._/-]+")


@dataclass(frozen=True, slots=True)
class HostUri:
    """A host's address, every part of it checked.

    ``transport`` is ``unix``, ``tcp`` or ``ssh``; ``path`` is without its slash
    (``system``, ``session``, ``default``); ``port`` is None where it is the transport's
    own. ``socket`` is on this machine for unix (None
    is libvirt's own), on the far side for ssh (never None), and None for tcp.
    """

    driver: str
    transport: str
    path: str
    user: str | None = None
    host: str | None = None
    port: int | None = None
    socket: str | None = None

    def __str__(self) -> str:
        """The canonical text, which parses to the same address."""
        scheme = self.driver
        socket = self.socket
        if self.transport != "unix" or socket is not None:
            scheme += f"+{self.transport}"
        if self.transport == "ssh" and self.path != "session":
            socket = None if socket == REMOTE_SOCKET else socket
        text = f"{scheme}://{self._authority()}/{self.path}"
        return f"{text}?socket={quote(socket)}" if socket is not None else text

    def _authority(self) -> str:
        host = self.host or ""
        if ":" in host:
            host = f"[{host}]"
        user = f"{self.user}@" if self.user is not None else ""
        port = f":{self.port}" if self.port is not None else ""
        return f"{user}{host}{port}"


@dataclass(frozen=True, slots=True)
class UriPolicy:
    """What this installation allows beyond the tables above.

    ``socket_folders`` are the folders of this machine whose sockets may be named.
    """

    socket_folders: tuple[Path, ...] = ()


def parse(text: str, policy: UriPolicy) -> HostUri:
    """Read and check, or raise UriNotAllowed saying what to write in its place.

    A local socket's links are followed on this machine, now: whoever opens the
    connection parses again.
    """
    match = _split(text)
    driver, transport = _scheme(match)
    path = _path(driver, match)
    socket = _parameters(match["query"])
    if transport == "unix":
        return _local(driver, path, match["authority"], socket, policy)
    user, host, port = _authority(match["authority"], transport)
    if transport == "ssh":
        socket = _remote_socket(path, socket)
    elif socket is not None:
        _refuse("the parameter socket has no meaning over tcp; leave it out")
    return HostUri(driver, transport, path, user, host, port, socket)


def _refuse(reason: str) -> NoReturn:
    raise UriNotAllowed(f"The URI is not allowed: {reason}.")


def _split(text: str) -> re.Match[str]:
    if len(text) > _LONGEST_URI:
        _refuse(f"it is longer than {_LONGEST_URI} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        _refuse("it holds a space, a control character or a letter outside ASCII")
    match = _URI.fullmatch(text)
    if match is None:
        _refuse(f"it is not of the form driver+transport://host/path; write {EXAMPLES}")
    if match["fragment"] is not None:
        _refuse("a fragment (#…) has no meaning here; leave it out")
    before_query = text.partition("?")[0]
    if "%" in before_query:
        _refuse("percent escapes are not allowed before the parameters")
    return match


def _scheme(match: re.Match[str]) -> tuple[str, str]:
    driver = match["driver"].lower()
    if driver not in PATHS:
        _refuse(
            f"the driver {driver} is not supported; "
            f"the drivers are {' and '.join(PATHS)}: {EXAMPLES}"
        )
    if match["transport"] is None:
        return driver, _implied_transport(driver, match["authority"])
    transport = match["transport"].lower()
    if transport != "unix" and transport not in PORTS:
        _refuse(
            f"the transport {transport} is not supported; "
            f"the transports are unix, tcp and ssh: {EXAMPLES}"
        )
    return driver, transport


def _implied_transport(driver: str, authority: str) -> str:
    if authority:
        _refuse(
            f"a host without a transport means tls to libvirt, which is not supported; "
            f"write {driver}+ssh:// or {driver}+tcp://"
        )
    if driver == "test":
        _refuse(
            "test:/// lives inside one process and cannot be shared; serve it from a "
            "libvirtd and write test+unix:///default?socket=/path/libvirt-sock"
        )
    return "unix"


def _path(driver: str, match: re.Match[str]) -> str:
    path = (match["path"] or "").removeprefix("/")
    if path not in PATHS[driver]:
        allowed = " or ".join(f"/{name}" for name in PATHS[driver])
        _refuse(f"the path of {driver} is {allowed}, not /{path}")
    return path


def _parameters(query: str | None) -> str | None:
    """The value of ``socket``, the only parameter there is."""
    socket = None
    # libvirt takes ";" for "&" too, and names in any case: so must we.
    for parameter in re.split("[&;]", query) if query is not None else ():
        name, _, value = parameter.partition("=")
        if name.lower() != "socket":
            _refuse(f"the parameter {name!r} is refused; only socket is allowed")
        if socket is not None:
            _refuse("the parameter socket is given twice")
        socket = _unescaped(value)
    return socket


def _unescaped(value: str) -> str:
    try:
        socket = unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        _refuse("the parameter socket is not UTF-8")
    if not socket.isprintable():
        _refuse("the parameter socket holds a control character")
    return socket


def _local(
    driver: str, path: str, authority: str, socket: str | None, policy: UriPolicy
) -> HostUri:
    if authority:
        _refuse(
            f"unix means this machine and takes no host; "
            f"write {driver}+unix:///{path} or {driver}+ssh://{authority}/{path}"
        )
    if socket is not None:
        _check_local_socket(socket, policy)
    elif path != "system":
        _refuse(
            f"/{path} has no socket of its own on this machine that others can find; "
            f"write {driver}+unix:///{path}?socket=/path/libvirt-sock"
        )
    return HostUri(driver, "unix", path, socket=socket)


def _check_local_socket(socket: str, policy: UriPolicy) -> None:
    _check_shape(socket)
    if socket in LOCAL_SOCKETS:
        return
    real = os.path.realpath(socket)
    for folder in policy.socket_folders:
        # A link or a ".." must not lead out of the folder, nor the folder itself be /.
        real_folder = os.path.realpath(folder)
        if real_folder != "/" and real.startswith(real_folder + "/"):
            return
    _refuse(
        f"the socket {socket} does not lie in a folder that this installation allows; "
        f"add its folder to VIRTUMANCER_URI_SOCKET_DIRS"
    )


def _check_shape(socket: str) -> None:
    if len(os.fsencode(socket)) > _LONGEST_SOCKET:
        _refuse(f"the socket's path is longer than {_LONGEST_SOCKET} bytes")
    if not socket.startswith("/") or os.path.normpath(socket) != socket:
        _refuse("the socket must be an absolute path without '..', '.' or '//'")
    if socket.startswith("//"):
        _refuse("the socket must begin with a single '/'")


def _remote_socket(path: str, socket: str | None) -> str:
    if socket is None:
        if path == "session":
            _refuse(
                "over ssh /session needs the socket of that user's libvirtd; "
                "add ?socket=/run/user/1000/libvirt/libvirt-sock"
            )
        return REMOTE_SOCKET
    _check_shape(socket)
    if not _REMOTE_SOCKET.fullmatch(socket):
        _refuse("a socket on the far side is made of A-Z a-z 0-9 . _ - and / alone")
    return socket


def _authority(authority: str, transport: str) -> tuple[str | None, str, int | None]:
    userinfo, at, host_and_port = authority.rpartition("@")
    user = userinfo if at else None
    if user is not None and transport != "ssh":
        _refuse("only ssh takes a user; leave out what stands before the @")
    if user is not None and ":" in user:
        _refuse("a password does not belong in a URI; use a key")
    if user is not None and not _USER.fullmatch(user):
        _refuse(f"{user!r} is not the name of a user")
    host, port = _host_and_port(host_and_port)
    return user, host, None if port == PORTS[transport] else port


def _host_and_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ip(host, 6):
            _refuse("what stands between [ and ] is not an IPv6 address")
    else:
        host, colon, rest = text.partition(":")
        rest = colon + rest
        if ":" in rest[1:]:
            _refuse("an IPv6 address stands in brackets: [2001:db8::1]")
        _check_host(host)
    if not rest:
        return host.lower(), None
    return host.lower(), _port(rest)


def _port(text: str) -> int:
    digits = text.removeprefix(":")
    if text[0] != ":" or not re.fullmatch("[0-9]{1,5}", digits):
        _refuse(f"{digits!r} is not a port")
    port = int(digits)
    if not 1 <= port <= 65535:
        _refuse("a port lies between 1 and 65535")
    return port


def _check_host(host: str) -> None:
    if not host:
        _refuse(f"it names no host; write {EXAMPLES}")
    if _is_ip(host, 4):
        return
    # Read as numbers, 127.1 and 2130706433 would be addresses in disguise.
    labels = host.removesuffix(".").split(".")
    if re.fullmatch("[0-9]+|0[xX][0-9A-Fa-f]*", labels[-1]):
        _refuse(f"{host!r} is neither a host's name nor an IP address")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse(f"{host!r} is neither a host's name nor an IP address")


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False
