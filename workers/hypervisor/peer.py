"""The first contact with a host: a connected socket within a deadline, or a sentence
saying which step failed and what to do about it."""

import getpass
import ipaddress
import math
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from common.errors import ConnectionFailed
from common.refusals import (
    HostNameUnknown,
    HostRefuses,
    HostSilent,
    LibvirtSilent,
    NoAccessToLibvirt,
    NoLibvirt,
)

# A peer that vanishes without a word is given up after about 20 s.
_TCP_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)
_QUEUE_FULL_PAUSE_S = 0.02


def left(until: float) -> float:
    """Seconds until this instant of the monotonic clock, at least a millisecond."""
    return max(until - time.monotonic(), 0.001)


def connect_unix(paths: Sequence[str], until: float) -> socket.socket:
    """Connect to the first of these sockets of this machine that is there."""
    path = _first_there(paths)
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A blocking connect() to a stopped daemon whose queue is full never returns.
        peer.settimeout(0)
        _connect_when_there_is_room(peer, path, until)
        peer.settimeout(None)
    except BaseException:
        peer.close()
        raise
    return peer


def _first_there(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    for path in paths:
        if Path(path).exists():
            return path
    raise NoLibvirt(
        f"There is no libvirt socket on this machine at {paths[0]}. Is "
        "libvirtd installed and running? Otherwise name its socket with ?socket=.",
        step="socket",
    )


def _connect_when_there_is_room(peer: socket.socket, path: str, until: float) -> None:
    while True:
        try:
            return peer.connect(path)
        except BlockingIOError:
            if time.monotonic() > until:
                raise LibvirtSilent(
                    f"The queue of the socket {path} is full: its libvirtd has "
                    "stopped accepting connections. Look whether it hangs.",
                    step="socket",
                ) from None
            time.sleep(_QUEUE_FULL_PAUSE_S)
        except OSError as error:
            _refuse_socket(path, error)


def _refuse_socket(path: str, error: OSError) -> NoReturn:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            reason = f"There is no socket at {path}. Is libvirtd running there?"
        case PermissionError():
            raise NoAccessToLibvirt(
                f"{_whoami()} may not open the socket {path}. Add this user to the "
                "group that owns the socket (often libvirt) and restart.",
                step="permission",
            ) from error
        case ConnectionRefusedError():
            reason = f"Nobody listens on the socket {path}. Start libvirtd again."
        case _:
            reason = f"The socket {path} cannot be used: {error.strerror}."
    raise NoLibvirt(reason, step="socket") from error


def _whoami() -> str:
    try:
        return f"The user {getpass.getuser()}"
    except KeyError:
        return f"The user {os.geteuid()}"


def connect_tcp(host: str, port: int, until: float) -> socket.socket:
    """Connect to the first of the host's addresses that accepts."""
    addresses = resolve(host, until)
    failure: Exception | None = None
    for number, address in enumerate(addresses):
        share = left(until) / (len(addresses) - number)
        try:
            peer = socket.create_connection((address, port), timeout=share)
        except OSError as error:
            failure = error
            continue
        peer.settimeout(None)
        for level, option, value in _TCP_OPTIONS:
            peer.setsockopt(level, option, value)
        return peer
    raise _tcp_failed(host, port, failure) from failure


def _tcp_failed(host: str, port: int, failure: Exception | None) -> ConnectionFailed:
    match failure:
        case ConnectionRefusedError():
            return HostRefuses(
                f"{host} refuses connections to port {port}. Does libvirtd listen "
                "there (libvirtd-tcp.socket or libvirtd-tls.socket)?",
                step="tcp",
            )
        case TimeoutError():
            return HostSilent(
                f"{host} did not answer on port {port}. Is the host up, and does a "
                "firewall let this port through?",
                step="tcp",
            )
        case _:
            reason = f"{host} cannot be reached on port {port}: {failure}."
            return ConnectionFailed(reason, step="tcp")


def resolve(host: str, until: float) -> list[str]:
    """The addresses of a name, asked in a process of its own that can be stopped."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [host]
    try:
        answer = subprocess.run(
            ["getent", "ahosts", "--", host],
            capture_output=True,
            text=True,
            timeout=left(until),
        )
    except subprocess.TimeoutExpired:
        raise HostNameUnknown(
            f"No name server answered for {host} in time. Check this machine's DNS, or "
            "write the host's IP address.",
            step="dns",
        ) from None
    # One line per address and kind of socket.
    addresses = [line.split()[0] for line in answer.stdout.splitlines() if line]
    if not addresses:
        raise HostNameUnknown(
            f"The name {host} is not known. Check its spelling and this machine's DNS.",
            step="dns",
        )
    return list(dict.fromkeys(addresses))


def whole_seconds(seconds: float) -> int:
    """For programs that take no fractions; never zero, which means for ever."""
    return max(1, math.floor(seconds))
