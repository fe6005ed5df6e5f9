"""A proxy in front of a server, which misbehaves as networks and servers do.

Hides an event loop in a thread of its own, in which the bytes of all proxies flow.
"""

import asyncio
import contextlib
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

Address = Path | tuple[str, int]
"""A unix socket, or a host and a port."""


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="proxies", daemon=True).start()
    return loop


def _in_loop(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(10)


class Proxy:
    """Forwards between a unix socket or port of its own and a server.

    Without a path it listens on a free ``port`` of loopback.
    """

    def __init__(self, target: Address, listen: Path | None = None) -> None:
        self.port = 0
        self.listen = listen
        self.accepted = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._delay_s = 0.0
        self._flowing = _in_loop(_set_event())

    def __enter__(self) -> Self:
        self.forward()
        return self

    def __exit__(self, *exc: object) -> None:
        self.refuse()

    def forward(self) -> None:
        """Listen, and let everything flow; what was held back flows on."""
        _in_loop(self._forward())

    def refuse(self) -> None:
        """Cut every connection and listen no more."""
        _in_loop(self._refuse())

    def go_silent(self) -> None:
        """Accept and never answer; connections stay open and carry nothing more."""
        _loop().call_soon_threadsafe(self._flowing.clear)

    def delay(self, seconds: float) -> None:
        """Hold every piece up for so long, in both directions."""
        self._delay_s = seconds

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        _in_loop(self._cut())

    async def _forward(self) -> None:
        self._flowing.set()
        if self._server is not None:
            return
        if self.listen is None:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port
            )
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            self.listen.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self.listen)
            self.listen.chmod(0o666)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self.listen is not None:
            self.listen.unlink(missing_ok=True)
        await self._cut()

    async def _cut(self) -> None:
        for link in list(self._links):
            link.cut()

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.accepted += 1
        link = _Link(reader, writer)
        self._links.add(link)
        try:
            await self._flowing.wait()
            await link.reach(self._target)
            await asyncio.wait(
                [
                    link.run(self._pump(link.near[0], link.far[1], self._upstream)),
                    link.run(self._pump(link.far[0], link.near[1], self._downstream)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except OSError:
            pass
        finally:
            link.cut()
            self._links.discard(link)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        forward: Callable[[bytes, asyncio.StreamWriter], None],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while piece := await self._read(reader):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._flowing.wait()
                forward(piece, writer)
                await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.read(65536)

    def _upstream(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(piece)

    def _downstream(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(piece)


async def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection and its counterpart."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.near: Stream = (reader, writer)
        self.far: Stream
        self._pumps: list[asyncio.Task[None]] = []
        self._accepting = asyncio.current_task()

    async def reach(self, target: Address) -> None:
        if isinstance(target, Path):
            self.far = await asyncio.open_unix_connection(target)
        else:
            self.far = await asyncio.open_connection(*target)

    def run(self, pump: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._pumps.append(asyncio.create_task(pump))
        return self._pumps[-1]

    def cut(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        for _, writer in filter(None, (self.near, getattr(self, "far", None))):
            writer.transport.abort()
        if not self._pumps and self._accepting is not asyncio.current_task():
            # It still waits for the silence to end.
            assert self._accepting
            self._accepting.cancel()


CALL: Final = 0
REPLY: Final = 1
REMOTE_PROGRAM: Final = 0x20008086
HEADER: Final = struct.Struct(">IIIIIII")
"""Length, program, version, procedure, type, serial, status: virnetprotocol.x."""

LOOK_UP = 24
XML = 14
SUSPEND = 34
STATE = 212
STATS = 344
PRESSES = {
    9: "start",
    12: "destroy",
    27: "reboot",
    28: "resume",
    33: "shutdown",
    SUSPEND: "suspend",
    245: "reset",
}
"""The numbers of remote_protocol.x, and our verbs that lead to them."""


class Hold:
    """Calls or replies of some procedures, held up on their way."""

    def __init__(self, procedures: frozenset[int], kind: int) -> None:
        self.reached = 0
        self._procedures = procedures
        self._kind = kind
        self.released = _in_loop(_clear_event())

    def takes(self, procedure: int, kind: int) -> bool:
        held = procedure in self._procedures and kind == self._kind
        return held and not self.released.is_set()

    def release(self) -> None:
        _loop().call_soon_threadsafe(self.released.set)


async def _clear_event() -> asyncio.Event:
    return asyncio.Event()


class LibvirtProxy(Proxy):
    """A proxy that understands libvirt: it counts calls, and holds single ones up.

    ``calls`` counts procedures that reached libvirtd, ``pressed`` the power verbs
    among them, by VM: ``pressed["reset", "one"]``.
    """

    def __init__(self, target: Address, listen: Path | None = None) -> None:
        super().__init__(target, listen)
        self.calls: Counter[int] = Counter()
        self.pressed: Counter[tuple[str, str]] = Counter()
        self._holds: list[Hold] = []
        self._late: set[asyncio.Task[None]] = set()

    def hold_calls(self, *procedures: int) -> Hold:
        """Do not let these calls through to libvirtd."""
        return self._hold(Hold(frozenset(procedures), CALL))

    def hold_replies(self, *procedures: int) -> Hold:
        """Let libvirtd do what these calls ask for, and keep its answers."""
        return self._hold(Hold(frozenset(procedures), REPLY))

    def _hold(self, hold: Hold) -> Hold:
        self._holds.append(hold)
        return hold

    async def _cut(self) -> None:
        for late in self._late:
            late.cancel()
        await super()._cut()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            length = await reader.readexactly(4)
        except asyncio.IncompleteReadError:
            return b""
        return length + await reader.readexactly(int.from_bytes(length, "big") - 4)

    def _upstream(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        self._pass(piece, writer, self._count)

    def _downstream(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        self._pass(piece, writer, lambda _piece: None)

    def _pass(
        self,
        piece: bytes,
        writer: asyncio.StreamWriter,
        count: Callable[[bytes], None],
    ) -> None:
        _, program, _, procedure, kind, _, _ = HEADER.unpack_from(piece)
        for hold in self._holds:
            if program == REMOTE_PROGRAM and hold.takes(procedure, kind):
                hold.reached += 1
                late = asyncio.create_task(self._pass_late(piece, writer, hold, count))
                self._late.add(late)
                late.add_done_callback(self._late.discard)
                return
        count(piece)
        writer.write(piece)

    async def _pass_late(
        self,
        piece: bytes,
        writer: asyncio.StreamWriter,
        hold: Hold,
        count: Callable[[bytes], None],
    ) -> None:
        await hold.released.wait()
        if not writer.transport.is_closing():
            count(piece)
            writer.write(piece)

    def _count(self, piece: bytes) -> None:
        _, program, _, procedure, kind, _, _ = HEADER.unpack_from(piece)
        if program != REMOTE_PROGRAM or kind != CALL:
            return
        self.calls[procedure] += 1
        if verb := PRESSES.get(procedure):
            self.pressed[verb, _name(piece[HEADER.size :])] += 1


def _name(arguments: bytes) -> str:
    """The name in a remote_nonnull_domain, the first argument of every power verb."""
    length = int.from_bytes(arguments[:4], "big")
    return arguments[4 : 4 + length].decode()


Lie = Callable[[int, bytes], bytes]
"""Procedure and body of a message, and what is to be read in its place."""


class LyingProxy(LibvirtProxy):
    """A libvirtd that answers with a ``lie``, and hears each call as ``heard``."""

    def __init__(self, target: Address, lie: Lie, heard: Lie) -> None:
        super().__init__(target)
        self._lie = lie
        self._heard = heard

    def _upstream(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(_rewritten(piece, self._heard))

    def _downstream(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(_rewritten(piece, self._lie))


def _rewritten(piece: bytes, rewrite: Lie) -> bytes:
    _, program, version, procedure, kind, serial, status = HEADER.unpack_from(piece)
    body = piece[HEADER.size :]
    if program == REMOTE_PROGRAM:
        body = rewrite(procedure, body)
    head = (program, version, procedure, kind, serial, status)
    return HEADER.pack(HEADER.size + len(body), *head) + body
