"""A program: TLS to libvirtd on one side, plain bytes on a unix socket on the other.

``python -I -S tls_relay.py DESCRIPTOR HOST SOCKET FOLDER``. The descriptor is a
connected TCP socket. What goes wrong is said in one line on standard error, a word and
a reason: ``untrusted`` (their certificate), ``refused`` (ours), ``unusable`` (our
files), ``failed``.

libvirtd first checks our certificate and then sends a byte of one, ahead of the
protocol: see virNetClientSetTLSSession() in libvirt's virnetclient.c. socat and stunnel
would hand that byte on, and libvirt would take it for a message. They would also put
two messages into one record of TLS: libvirtd reads the first of them, and finds the
second only when something more arrives, which may be never.
"""

import select
import socket
import ssl
import sys
from pathlib import Path
from typing import NoReturn

_CHUNK = 65536
# So much may wait for the slower side.
_ENOUGH = 16 * _CHUNK
_CONFIRMED = b"\1"
# A message of libvirt's begins with its length, which counts itself: virnetprotocol.x.
_LENGTH = 4


def main() -> None:
    descriptor, host, path, folder = sys.argv[1:]
    tls = _secure(socket.socket(fileno=int(descriptor)), host, Path(folder))
    plain = _accept(path)
    tls.setblocking(False)  # noqa: FBT003
    plain.setblocking(False)  # noqa: FBT003
    _carry(tls, plain)


def _secure(peer: socket.socket, host: str, folder: Path) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(folder / "cacert.pem")
        context.load_cert_chain(folder / "clientcert.pem", folder / "clientkey.pem", "")
    except OSError as error:
        _fail("unusable", error)
    peer.settimeout(None)
    try:
        tls = context.wrap_socket(peer, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        _fail("untrusted", error.verify_message)
    except (OSError, ValueError) as error:
        _fail("failed", error)
    try:
        if tls.recv(1) != _CONFIRMED:
            _fail("refused", "it closed the connection")
    except OSError as error:
        _fail("refused", error)
    return tls


def _accept(path: str) -> socket.socket:
    """The one connection that libvirt makes; nobody else can reach the folder."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        return server.accept()[0]


def _carry(tls: ssl.SSLSocket, plain: socket.socket) -> None:
    """Bytes both ways, in one thread, until one side ends."""
    up, down = _Messages(), bytearray()
    tls_ended = False
    while not (tls_ended and not down):
        readers: list[socket.socket] = [plain] if len(up.waiting) < _ENOUGH else []
        if not tls_ended and len(down) < _ENOUGH:
            readers.append(tls)
        writers = [s for s, waiting in ((tls, up.next()), (plain, down)) if waiting]
        # What TLS has decoded already no longer shows on its socket.
        decoded = tls in readers and tls.pending() > 0
        ready = select.select(readers, writers, [], 0 if decoded else None)[0]
        if plain in ready:
            read = _read(plain)
            if read == b"":
                return
            up.waiting += read or b""
        if tls in readers and (decoded or tls in ready):
            read = _read(tls)
            tls_ended = read == b""
            down += read or b""
        while (sent := _write(tls, up.next())) > 0:
            up.sent(sent)
        del down[: _write(plain, down[:_CHUNK])]


class _Messages:
    """Bytes for libvirtd, handed out so that no record holds two messages."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        self._left = 0

    def next(self) -> bytearray:
        """What may go into the next record; none while a length is incomplete."""
        if not self._left and len(self.waiting) >= _LENGTH:
            self._left = max(int.from_bytes(self.waiting[:_LENGTH]), _LENGTH)
        return self.waiting[: min(self._left, _CHUNK)]

    def sent(self, count: int) -> None:
        del self.waiting[:count]
        self._left -= count


def _read(source: socket.socket) -> bytes | None:
    """What is there: nothing at its end, None if it is too early."""
    try:
        return source.recv(_CHUNK)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except OSError:
        return b""


def _write(target: socket.socket, waiting: bytearray) -> int:
    """How much it took: none if it cannot take any now."""
    if not waiting:
        return 0
    try:
        return target.send(waiting)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return 0
    except OSError:
        raise SystemExit from None


def _fail(word: str, reason: object) -> NoReturn:
    print(f"{word}: {reason}", file=sys.stderr)  # noqa: T201
    raise SystemExit(1)


if __name__ == "__main__":
    main()
