"""A unix socket in front of a libvirtd, from which bytes come later.

``slow_link TARGET LISTEN DELAY_S all`` holds all bytes up in both directions; with
``actions`` only the replies to starting and destroying. What is on its way does not
hold up what comes behind it, as on a long line.
"""

import asyncio
import os
import sys
from typing import cast

import uvloop

from bench.scripts import say

HEAD_BYTES = 28
"""Length, program, version, procedure, type, serial, status: virnetprotocol.x."""
SLOW_CALLS = (9, 12)
"""REMOTE_PROC_DOMAIN_CREATE and REMOTE_PROC_DOMAIN_DESTROY."""
REPLY = 1


class End(asyncio.Protocol):
    """One end of a connection; the near one opens the far one."""

    def __init__(self, delay_s: float, target: str | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay_s = delay_s
        self._target = target
        self.transport: asyncio.Transport
        self.other: asyncio.Future[End] = self._loop.create_future()
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has a class of its own.
        self.transport = cast(asyncio.Transport, transport)
        if self._target is not None:
            self._opening = self._loop.create_task(self._open(self._target))

    async def _open(self, target: str) -> None:
        far = type(self)(self._delay_s)
        far.other.set_result(self)
        await self._loop.create_unix_connection(lambda: far, target)
        self.other.set_result(far)

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay_s, self._pass, data)

    def _pass(self, data: bytes) -> None:
        if not self.other.done():
            self._loop.call_later(0.001, self._pass, data)
            return
        transport = self.other.result().transport
        if not transport.is_closing():
            transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other.done():
            transport = self.other.result().transport
            self._loop.call_later(self._delay_s, transport.close)


class SlowActions(End):
    """Passes libvirt's messages on one by one; some replies are late."""

    _stream = b""

    def data_received(self, data: bytes) -> None:
        self._stream += data
        while len(self._stream) >= HEAD_BYTES:
            length = int.from_bytes(self._stream[:4], "big")
            if len(self._stream) < length:
                return
            message, self._stream = self._stream[:length], self._stream[length:]
            procedure = int.from_bytes(message[12:16], "big")
            kind = int.from_bytes(message[16:20], "big")
            if kind == REPLY and procedure in SLOW_CALLS:
                self._loop.call_later(self._delay_s, self._pass, message)
            else:
                self._pass(message)


async def main() -> None:
    target, listen, delay_s, what = sys.argv[1:]
    end = {"all": End, "actions": SlowActions}[what]
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: end(float(delay_s), target), listen
    )
    say(listen)
    await server.serve_forever()


if __name__ == "__main__":
    os.umask(0)  # Ours to reach, whoever runs the processes.
    uvloop.run(main())
