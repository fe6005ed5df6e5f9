"""How bytes get from a socket of ours to a host's libvirtd, and how they are cut off.

libvirt's calls cannot be cancelled, and open() to a silent peer never returns. But
each of them ends at once when its socket does. So libvirt is only ever given a local
socket behind which stands a process of ours, ``ssh``, ``socat`` or ``tls_relay``, and
killing that frees whatever hangs, in every state.

Measured (1,000 XMLDesc of the test driver, 2 busy cores, medians of 15): direct and one
by one 80 ms; over unix through socat one by one 115 ms, five at a time 66 ms; over ssh
on loopback 178 and 216 ms. shutdown() on libvirt's own descriptor would save socat's
share, but has to be found in /proc, and does not free a connect() that waits for room
in a stopped daemon's queue. Opening takes 7 ms by unix and tcp, 200 ms by ssh.
"""

import socket
import time
from pathlib import Path
from typing import Self

from common.errors import ConnectionFailed
from common.uri import HostUri
from common.uri_policy import PORTS, local_sockets
from workers.hypervisor import ssh, tls
from workers.hypervisor.children import Child, socket_path
from workers.hypervisor.peer import connect_tcp, connect_unix, left

NOWHERE = Path("/nonexistent")
_LOOK_AGAIN_S = 0.002


class Transport:
    """A local socket that leads to one host's libvirtd, for one connection."""

    def __init__(
        self, uri: HostUri, ssh_dir: Path, open_s: float, tls_dir: Path
    ) -> None:
        self.uri = uri
        self.socket = socket_path()
        self._ssh_dir = ssh_dir
        self._tls_dir = tls_dir
        self._open_s = open_s
        self._until = time.monotonic() + open_s
        self._child: Child

    @classmethod
    def open(
        cls, uri: HostUri, ssh_dir: Path, open_s: float, tls_dir: Path = NOWHERE
    ) -> Self:
        """Reach the host within so many seconds, or raise ConnectionFailed.

        ``ssh_dir`` holds the keys (``id_*``) and ``known_hosts``, ``tls_dir`` the
        certificates.
        """
        transport = cls(uri, ssh_dir, open_s, tls_dir)
        transport._child = transport._start()
        try:
            transport._wait_for_socket()
        except BaseException:
            transport.close()
            raise
        return transport

    def left_s(self) -> float:
        """What remains of the time for opening."""
        return left(self._until)

    @property
    def running(self) -> bool:
        return self._child.running

    def cut(self) -> None:
        """Free every call that hangs on this transport, now and for good."""
        self._child.kill()

    def close(self) -> None:
        """Cut, and leave no process and no file."""
        self._child.end()
        self.socket.unlink(missing_ok=True)

    def why_refused(self) -> ConnectionFailed | None:
        """Why the host's socket could not be used, as far as the transport knows."""
        if self.uri.transport != "ssh":
            return None
        words = self._child.words()
        if not self._child.running:
            return ssh.complaint(words, self.uri, self._ssh_dir)
        return ssh.refused_socket(words, self.uri, self._ssh_dir, self._until)

    def _start(self) -> Child:
        match self.uri:
            case HostUri(transport="unix", socket=path):
                paths = (path,) if path else local_sockets(self.uri.driver)
                return self._relay(connect_unix(paths, self._until))
            case HostUri(transport="tcp", host=str(host), port=port):
                port = port or PORTS["tcp"]
                return self._relay(connect_tcp(host, port, self._until))
            case HostUri(transport="tls", host=str(host), port=port):
                port = port or PORTS["tls"]
                return self._tls(connect_tcp(host, port, self._until))
            case _:
                command = ssh.forward(
                    self.uri, self._ssh_dir, self.socket, self._open_s
                )
                return Child(command)

    def _relay(self, peer: socket.socket) -> Child:
        """Hand the very socket that was connected to socat."""
        with peer:
            number = peer.fileno()
            command = ["socat", f"UNIX-LISTEN:{self.socket}", f"FD:{number}"]
            return Child(command, pass_fds=[number])

    def _tls(self, peer: socket.socket) -> Child:
        with peer:
            number = peer.fileno()
            command = tls.relay(self.uri, self._tls_dir, self.socket, number)
            return Child(command, pass_fds=[number])

    def _wait_for_socket(self) -> None:
        while not self.socket.exists():
            if not self._child.running:
                raise self._ended()
            if time.monotonic() > self._until:
                raise self._no_answer()
            time.sleep(_LOOK_AGAIN_S)

    def _no_answer(self) -> ConnectionFailed:
        if self.uri.transport == "tls":
            return tls.no_answer(self.uri, self._open_s)
        return ssh.no_answer(self.uri, self._ssh_dir, self._open_s)

    def _ended(self) -> ConnectionFailed:
        words = self._child.words()
        if self.uri.transport == "tls":
            return tls.complaint(words, self.uri, self._tls_dir)
        if self.uri.transport == "ssh":
            return ssh.complaint(words, self.uri, self._ssh_dir)
        return ConnectionFailed(
            f"The relay to the host could not start: {words.strip()}. "
            "Is socat installed?",
            step=self.uri.transport if self.uri.transport == "tcp" else "socket",
        )
