"""Frames on their way to one client: bounded, and never silently skipped."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

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
        self._frames: deque[str] = deque()
        self._characters = 0
        self._ready = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = asyncio.Event()

    def put(self, frame: str) -> None:
        if self.close_code is not None:
            return
        self._frames.append(frame)
        self._characters += len(frame)
        if len(self._frames) > MOST_FRAMES or self._characters > MOST_CHARACTERS:
            self.close(TRY_AGAIN_LATER)
        self._ready.set()

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
            self._taken.clear()
            await self._taken.wait()

    def close(self, code: int) -> None:
        """Drop what is left and end; the first code given stays."""
        if self.close_code is None:
            self.close_code = code
            self._frames.clear()
            self._characters = 0
            self._ready.set()
            self._taken.set()
            self._closed.set()

    async def closed(self) -> None:
        await self._closed.wait()

    async def frames(self) -> AsyncIterator[str]:
        while (frame := await self.next()) is not None:
            yield frame

    async def next(self) -> str | None:
        """The next frame; None when the outbox is closed."""
        while not self._frames:
            if self.close_code is not None:
                return None
            self._ready.clear()
            await self._ready.wait()
        frame = self._frames.popleft()
        self._characters -= len(frame)
        self._taken.set()
        return frame
