"""Frames on their way to one client: bounded, and never silently skipped."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from api.bell import Bell
from api.framed import Framed, Write
from api.principal import Principal

MOST_FRAMES: Final = 256
MOST_CHARACTERS: Final = 1024 * 1024

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013
"""Close codes (RFC 6455, 7.4 and its registry)."""


class Outbox:
    """What one client has yet to be sent; iterating takes frames until it is closed.

    A client that falls too far behind loses its connection, not some of its frames:
    it reconnects and reads again.
    """

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        """Whose it is: what they may not see does not come in."""
        self.channels: set[str] = set()
        """The stats channels this client listens to."""
        self.close_code: int | None = None
        self.write: Write | None = None
        """How to reach the client while nothing is in the way."""
        self._at_once: list[Framed] = []
        self._idle = False
        """Whoever takes frames has sent the last one and waits for the next."""
        self._frames: list[str] = []
        self._characters = 0
        self._ready = Bell()
        self._taken = Bell()
        self._closed = Bell()

    def put_shared(self, frame: Framed) -> None:
        """Put a frame that many get; a client that keeps up is written to at once."""
        if self.write is None or not self._idle or self._frames:
            self.put(frame.text)
            return
        if not self._at_once:
            # What comes in the same moment goes out together.
            asyncio.get_running_loop().call_soon(self._write_at_once)
        self._at_once.append(frame)

    def _write_at_once(self) -> None:
        frames, self._at_once = self._at_once, []
        if not frames or self.close_code is not None:
            return
        if self.write is None or not self.write(frames):
            for frame in frames:
                self.put(frame.text)

    def put(self, frame: str) -> None:
        before, self._at_once = self._at_once, []
        for earlier in before:
            self._append(earlier.text)
        self._append(frame)

    def _append(self, frame: str) -> None:
        if self.close_code is not None:
            return
        self._frames.append(frame)
        self._characters += len(frame)
        if len(self._frames) > MOST_FRAMES or self._characters > MOST_CHARACTERS:
            self.close(TRY_AGAIN_LATER)
        self._ready.ring()

    @property
    def is_crowded(self) -> bool:
        """Whether whoever can wait should wait before putting more in."""
        return (
            len(self._frames) > MOST_FRAMES // 2
            or self._characters > MOST_CHARACTERS // 2
        )

    async def room(self) -> None:
        """Wait until the client has taken enough, or is gone."""
        while self.is_crowded:
            await self._taken.wait()

    def close(self, code: int) -> None:
        """Drop what is left and end; the first code given stays."""
        if self.close_code is None:
            self.close_code = code
            self._frames.clear()
            self._characters = 0
            self._ready.ring()
            self._taken.ring()
            self._closed.ring()

    async def closed(self) -> None:
        if self.close_code is None:
            await self._closed.wait()

    async def frames(self) -> AsyncIterator[str]:
        while (frame := await self.next()) is not None:
            yield frame

    async def next(self) -> str | None:
        """The next frame; None when the outbox is closed."""
        while not self._frames:
            if self.close_code is not None:
                return None
            self._idle = True
            await self._ready.wait()
            self._idle = False
        frame = self._frames.pop(0)
        self._characters -= len(frame)
        self._taken.ring()
        return frame
