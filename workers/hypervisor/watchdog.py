"""Deadlines for calls that cannot be cancelled.

Hides the one thread of this process that waits for all of them. A deadline that
passes calls its ``cut``, which must be quick and must not raise.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Limit:
    """A deadline that is running, has passed, or was lifted in time."""

    __slots__ = ("cut", "expired", "lifted", "until")

    def __init__(self, seconds: float, cut: Callable[[], None]) -> None:
        self.until = time.monotonic() + seconds
        self.cut = cut
        self.expired = False
        self.lifted = False

    def renew(self, seconds: float) -> None:
        """Begin anew, for the next call of many; never with less time than before."""
        self.until = time.monotonic() + seconds


class Watchdog:
    """Deadlines in the order in which they pass, and the thread that keeps them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Limit]] = []
        self._numbers = itertools.count()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float, cut: Callable[[], None]) -> Iterator[Limit]:
        """Call ``cut`` once if the block lasts longer than so many seconds."""
        limit = Limit(seconds, cut)
        self._add(limit)
        try:
            yield limit
        finally:
            self._lift(limit)

    def _add(self, limit: Limit) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="watchdog", daemon=True
                )
                self._thread.start()
            self._push(limit)
            # Mostly the thread sleeps towards an earlier deadline already, and a call
            # that ends in time never wakes it.
            if limit.until < self._wakes_at:
                self._changed.notify()

    def _push(self, limit: Limit) -> None:
        heapq.heappush(self._waiting, (limit.until, next(self._numbers), limit))

    def _lift(self, limit: Limit) -> None:
        with self._changed:
            limit.lifted = True
            while self._waiting and self._waiting[0][2].lifted:
                heapq.heappop(self._waiting)

    def _watch(self) -> None:
        while True:
            self._next().cut()

    def _next(self) -> Limit:
        """Wait for the next deadline that passes."""
        with self._changed:
            while True:
                self._wakes_at = self._waiting[0][0] if self._waiting else float("inf")
                rest = self._wakes_at - time.monotonic()
                if rest > 0:
                    self._changed.wait(None if rest == float("inf") else rest)
                    continue
                limit = heapq.heappop(self._waiting)[2]
                if limit.lifted:
                    continue
                if limit.until > time.monotonic():
                    self._push(limit)
                    continue
                limit.expired = True
                return limit


WATCHDOG = Watchdog()
