"""Deadlines for calls that cannot be cancelled.

Hides the one thread of this process that waits for all of them. A deadline that
passes calls its ``cut``, and a call that lasts unusually long its ``slow``, once; both
must be quick and must not raise.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Final

SLOW_S: Final = 0.1
"""Most calls end in a millisecond."""
_AWAKE_S: Final = 1.0
"""Calls come in bursts."""


class Limit:
    """A deadline that is running, has passed, or was lifted in time."""

    __slots__ = ("cut", "expired", "lifted", "slow", "slow_at", "until")

    def __init__(
        self, seconds: float, cut: Callable[[], None], slow: Callable[[], None] | None
    ) -> None:
        self.cut = cut
        self.slow = slow
        self.expired = False
        self.lifted = False
        self.renew(seconds)

    def renew(self, seconds: float) -> None:
        """Begin anew, for the next call of many; never with less time than before."""
        now = time.monotonic()
        self.until = now + seconds
        self.slow_at = now + SLOW_S


class Watchdog:
    """Deadlines in the order in which they pass, and the thread that keeps them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Limit]] = []
        self._numbers = itertools.count()
        self._wakes_at = inf
        self._awake_until = 0.0
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(
        self,
        seconds: float,
        cut: Callable[[], None],
        slow: Callable[[], None] | None = None,
    ) -> Iterator[Limit]:
        """Call ``cut`` once if the block lasts longer than so many seconds.

        ``slow`` is called once for each call in it that lasts longer than SLOW_S.
        """
        limit = Limit(seconds, cut, slow)
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
            looked_at = self._push(limit)
            self._awake_until = time.monotonic() + _AWAKE_S
            # Mostly the thread looks earlier already, and a call that ends in time
            # never wakes it.
            if looked_at < self._wakes_at:
                self._changed.notify()

    def _push(self, limit: Limit) -> float:
        """Have it looked at in time, and no sooner: when that is."""
        look_at = limit.until
        if limit.slow is not None:
            # A call that was told of may end, and the next one be slow again.
            told = limit.slow_at == inf
            look_at = min(look_at, time.monotonic() + SLOW_S if told else limit.slow_at)
        heapq.heappush(self._waiting, (look_at, next(self._numbers), limit))
        return look_at

    def _lift(self, limit: Limit) -> None:
        with self._changed:
            limit.lifted = True
            while self._waiting and self._waiting[0][2].lifted:
                heapq.heappop(self._waiting)

    def _watch(self) -> None:
        while True:
            self._next()()

    def _next(self) -> Callable[[], None]:
        """Wait for the next that is to be told."""
        with self._changed:
            while True:
                now = time.monotonic()
                self._wakes_at = self._waiting[0][0] if self._waiting else inf
                if now < self._awake_until:
                    # To be woken by each call would cost more than to look by itself.
                    self._wakes_at = min(self._wakes_at, now + SLOW_S)
                if self._wakes_at > now:
                    forever = self._wakes_at == inf
                    self._changed.wait(None if forever else self._wakes_at - now)
                    continue
                limit = heapq.heappop(self._waiting)[2]
                if limit.lifted:
                    continue
                if limit.until <= now:
                    limit.expired = True
                    return limit.cut
                is_slow = limit.slow_at <= now
                if is_slow:
                    limit.slow_at = inf
                self._push(limit)
                if is_slow and limit.slow is not None:
                    return limit.slow


WATCHDOG = Watchdog()
