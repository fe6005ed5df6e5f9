"""A host's URI: read, checked against tables of what is allowed, and written anew.

No URI of a user's ever reaches libvirt: its parameters can run commands, read files
and switch checks off. Refusals never repeat what may be a secret.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from common.uri_policy import (
    CARRIERS,
    EXAMPLES,
    PARAMETERS,
    PATHS,
    PORTS,
    REFUSED,
    REMOTE_SOCKET,
    UriPolicy,
    check_far_socket,
    refuse,
)

_LONGEST_URI: Final = 1024

_URI = re.compile(
    r"(?P<driver>[A-Za-z][A-Za-z0-9]*)(?:\+(?P<transport>[A-Za-z0-9]+))?"
    r"://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
    r"(?P<fragment>#.*)?"
)
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NAME = re.compile(r"[A-Za-z0-9_.%-]{0,32}")


@dataclass(frozen=True, slots=True)
class HostUri:
    """A host's address, every part of it checked.

    ``transport`` is ``unix``, ``tcp``, ``tls`` or ``ssh``; ``path`` is without its
    slash (``system``, ``session``, ``default``); ``port`` is None where it is the
    transport's own. ``socket`` is on this machine for unix (None is libvirt's own), on
    the far side for ssh (never None), and else None. ``keyfile`` and ``known_hosts``
    are files of this machine in place of the usual ones, for ssh.
    """

    driver: str
    transport: str
    path: str
    user: str | None = None
    host: str | None = None
    port: int | None = None
    socket: str | None = None
    keyfile: str | None = None
    known_hosts: str | None = None

    def __str__(self) -> str:
        """The canonical text, which parses to the same address."""
        scheme = self.driver
        socket = self.socket
        if self.transport != "unix" or socket is not None:
            scheme += f"+{self.transport}"
        if self.transport == "ssh" and self.path != "session":
            socket = None if socket == REMOTE_SOCKET else socket
        parameters = {
            "socket": socket,
            "keyfile": self.keyfile,
            "known_hosts": self.known_hosts,
        }
        query = "&".join(f"{n}={quote(v)}" for n, v in parameters.items() if v)
        text = f"{scheme}://{self._authority()}/{self.path}"
        return f"{text}?{query}" if query else text

    def _authority(self) -> str:
        host = self.host or ""
        if ":" in host:
            host = f"[{host}]"
        user = f"{self.user}@" if self.user is not None else ""
        port = f":{self.port}" if self.port is not None else ""
        return f"{user}{host}{port}"


def parse(text: str, policy: UriPolicy) -> HostUri:
    """Read and check, or raise UriNotAllowed saying what to write in its place.

    Links of this machine's files are followed now: whoever opens the connection parses
    again.
    """
    match = _split(text)
    driver, transport = _scheme(match, policy)
    path = _path(driver, match)
    given = _parameters(match["query"], transport)
    socket = given.get("socket")
    if transport == "unix":
        return _local(driver, path, match["authority"], socket, policy)
    user, host, port = _authority(match["authority"], transport)
    if transport == "ssh":
        socket = _far_socket(path, socket)
    for name in ("keyfile", "known_hosts"):
        if name in given:
            policy.check_ssh_file(name, given[name])
    files = given.get("keyfile"), given.get("known_hosts")
    return HostUri(driver, transport, path, user, host, port, socket, *files)


def _split(text: str) -> re.Match[str]:
    if len(text) > _LONGEST_URI:
        refuse(f"it is longer than {_LONGEST_URI} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        refuse("it holds a space, a control character or a letter outside ASCII")
    if _holds_password(text):
        refuse("a password does not belong in a URI; use a key")
    match = _URI.fullmatch(text)
    if match is None:
        refuse(f"it is not of the form driver+transport://host/path; write {EXAMPLES}")
    if match["fragment"] is not None:
        refuse("a fragment (#…) has no meaning here; leave it out")
    if "%" in text.partition("?")[0]:
        refuse("percent escapes are not allowed before the parameters")
    return match


def _holds_password(text: str) -> bool:
    """Also one with a "/", "?" or "#" in it, which ends the authority too early."""
    rest = text.partition("://")[2]
    if rest.startswith("/"):
        rest = rest.partition("?")[0]
    before, at, _ = rest.rpartition("@")
    return bool(at) and ":" in before


def _scheme(match: re.Match[str], policy: UriPolicy) -> tuple[str, str]:
    driver = match["driver"].lower()
    policy.check_driver(driver)
    if match["transport"] is None:
        return driver, _implied_transport(driver, match["authority"])
    transport = match["transport"].lower()
    if transport not in CARRIERS:
        refuse(
            f"the transport {transport} is not supported; "
            f"the transports are {', '.join(CARRIERS)}: {EXAMPLES}"
        )
    return driver, CARRIERS[transport]


def _implied_transport(driver: str, authority: str) -> str:
    if authority:
        return "tls"
    if driver == "test":
        refuse(
            "test:/// lives inside one process and cannot be shared; serve it from a "
            "libvirtd and write test+unix:///default?socket=/path/libvirt-sock"
        )
    return "unix"


def _path(driver: str, match: re.Match[str]) -> str:
    path = (match["path"] or "").removeprefix("/")
    if path not in PATHS[driver]:
        allowed = " or ".join(f"/{name}" for name in PATHS[driver])
        refuse(f"the path of {driver} is {allowed}, not /{path}")
    return path


def _parameters(query: str | None, transport: str) -> dict[str, str]:
    given: dict[str, str] = {}
    # libvirt takes ";" for "&" too, and names in any case: so must we.
    for parameter in re.split("[&;]", query) if query is not None else ():
        written, _, value = parameter.partition("=")
        name = written.lower()
        if name not in PARAMETERS[transport]:
            _refuse_parameter(written, transport)
        if name in given:
            refuse(f"the parameter {name} is given twice")
        given[name] = _unescaped(name, value)
    if given.pop("known_hosts_verify", "normal") != "normal":
        refuse(
            "the parameter 'known_hosts_verify' is refused unless it is normal: a host "
            "is always checked"
        )
    return given


def _refuse_parameter(written: str, transport: str) -> None:
    allowed = ", ".join(PARAMETERS[transport]) or "none"
    named = f"parameter {written!r}" if _NAME.fullmatch(written) else "parameter"
    why = REFUSED.get(written.lower(), "it is not known")
    refuse(f"the {named} is refused: {why}; {transport} takes {allowed}")


def _unescaped(name: str, value: str) -> str:
    try:
        path = unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        refuse(f"the parameter {name} is not UTF-8")
    if not path.isprintable():
        refuse(f"the parameter {name} holds a control character")
    return path


def _local(
    driver: str, path: str, authority: str, socket: str | None, policy: UriPolicy
) -> HostUri:
    if authority:
        refuse(
            f"unix means this machine and takes no host; "
            f"write {driver}+unix:///{path} or {driver}+ssh://host/{path}"
        )
    if socket is not None:
        policy.check_local_socket(socket)
    elif path != "system":
        refuse(
            f"/{path} has no socket of its own on this machine that others can find; "
            f"write {driver}+unix:///{path}?socket=/path/libvirt-sock"
        )
    return HostUri(driver, "unix", path, socket=socket)


def _far_socket(path: str, socket: str | None) -> str:
    if socket is not None:
        check_far_socket(socket)
        return socket
    if path == "session":
        refuse(
            "over ssh /session needs the socket of that user's libvirtd; "
            "add ?socket=/run/user/1000/libvirt/libvirt-sock"
        )
    return REMOTE_SOCKET


def _authority(authority: str, transport: str) -> tuple[str | None, str, int | None]:
    userinfo, at, host_and_port = authority.rpartition("@")
    user = userinfo if at else None
    if user is not None and transport != "ssh":
        refuse("only ssh takes a user; leave out what stands before the @")
    if user is not None and not _USER.fullmatch(user):
        refuse("what stands before the @ is not the name of a user (a-z 0-9 _ . -)")
    host, port = _host_and_port(host_and_port)
    return user, host, None if port == PORTS[transport] else port


def _host_and_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ip(host, 6):
            refuse("what stands between [ and ] is not an IPv6 address")
    else:
        host, colon, rest = text.partition(":")
        rest = colon + rest
        if ":" in rest[1:]:
            refuse("an IPv6 address stands in brackets: [2001:db8::1]")
        _check_host(host)
    if not rest:
        return host.lower(), None
    return host.lower(), _port(rest)


def _port(text: str) -> int:
    digits = text.removeprefix(":")
    if text[0] != ":" or not re.fullmatch("[0-9]{1,5}", digits):
        refuse("what follows the host is not a port")
    port = int(digits)
    if not 1 <= port <= 65535:
        refuse("a port lies between 1 and 65535")
    return port


def _check_host(host: str) -> None:
    if not host:
        refuse(f"it names no host; write {EXAMPLES}")
    if _is_ip(host, 4):
        return
    # Read as numbers, 127.1 and 2130706433 would be addresses in disguise.
    labels = host.removesuffix(".").split(".")
    numeric = re.fullmatch("[0-9]+|0[xX][0-9A-Fa-f]*", labels[-1])
    shaped = len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    if numeric or not shaped:
        refuse(f"{host!r} is neither a host's name nor an IP address")


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False
