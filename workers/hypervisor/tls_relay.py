"""A program: TLS to libvirtd on one side, plain bytes on a unix socket on the other.

``python -I -S tls_relay.py DESCRIPTOR HOST SOCKET FOLDER``. The descriptor is a
connected TCP socket. What goes wrong is said in one line on standard error, a word and
a reason: ``untrusted`` (their certificate), ``refused`` (ours), ``unusable`` (our
files), ``failed``.

libvirtd first checks our certificate and then sends a byte of one, ahead of the
protocol: see virNetClientSetTLSSession() in libvirt's virnetclient.c. socat and stunnel
would hand that byte on, and libvirt would take it for a message.
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
    up, down = bytearray(), bytearray()
    tls_ended = False
    while not (tls_ended and not down):
        readers: list[socket.socket] = [plain] if len(up) < _ENOUGH else []
        if not tls_ended and len(down) < _ENOUGH:
            readers.append(tls)
        writers = [s for s, waiting in ((tls, up), (plain, down)) if waiting]
        # What TLS has decoded already no longer shows on its socket.
        decoded = tls in readers and tls.pending() > 0
        ready = select.select(readers, writers, [], 0 if decoded else None)[0]
        if plain in ready:
            read = _read(plain)
            if read == b"":
                return
            up += read or b""
        if tls in readers and (decoded or tls in ready):
            read = _read(tls)
            tls_ended = read == b""
            down += read or b""
        _write(tls, up)
        _write(plain, down)


def _read(source: socket.socket) -> bytes | None:
    """What is there: nothing at its end, None if it is too early."""
    try:
        return source.recv(_CHUNK)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except OSError:
        return b""


def _write(target: socket.socket, waiting: bytearray) -> None:
    if not waiting:
        return
    try:
        del waiting[: target.send(waiting[:_CHUNK])]
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return
    except OSError:
        raise SystemExit from None


def _fail(word: str, reason: object) -> NoReturn:
    print(f"{word}: {reason}", file=sys.stderr)  # noqa: T201
    raise SystemExit(1)


if __name__ == "__main__":
    main()
