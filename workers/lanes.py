"""One lane a host and kind of work: a dead host fills its own lane and no other.

A bell starts a thread of the lane, if its share is not used up; the thread takes the
host's queued tasks from the database until none is left, and lingers for a moment.
Nothing is queued in memory.
"""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple


class LaneKey(NamedTuple):
    host_id: str
    lane: str


LINGER_S: Final = 0.5
"""A burst has pauses, and a new thread costs more than one that waits."""


class _Lane:
    def __init__(self, lock: threading.Lock) -> None:
        self.running = 0
        self.rung = False
        """A bell came while the whole share was busy."""
        self.idle = 0
        self.woken = 0
        """So many of the idle are called back to work."""
        self.bell = threading.Condition(lock)


class Lanes:
    """Runs ``work(key)``, which does one task and says whether there was one."""

    def __init__(self, share: int, work: Callable[[LaneKey], bool]) -> None:
        self._share = share
        self._work = work
        self._lanes: dict[LaneKey, _Lane] = {}
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._stopping = False

    def ring(self, key: LaneKey) -> None:
        """There may be work in this lane. Returns at once."""
        with self._lock:
            if self._stopping:
                return
            lane = self._lanes.setdefault(key, _Lane(self._lock))
            if lane.woken < lane.idle:
                lane.woken += 1
                lane.bell.notify()
                return
            if lane.running == self._share:
                lane.rung = True
                return
            lane.running += 1
        threading.Thread(
            target=self._run,
            args=(key, lane),
            name=f"{key.lane} {key.host_id}",
            daemon=True,
        ).start()

    def _run(self, key: LaneKey, lane: _Lane) -> None:
        left = False
        try:
            while not left:
                while not self._stopping and self._work(key):
                    pass
                left = self._leave_unless_wanted(key, lane)
        finally:
            if not left:
                with self._lock:
                    self._leave(key, lane)

    def _leave_unless_wanted(self, key: LaneKey, lane: _Lane) -> bool:
        """Leave the lane, unless a bell came since this thread last looked or comes
        soon."""
        with self._lock:
            if lane.rung and not self._stopping:
                lane.rung = False
                return False
            lane.idle += 1
            lane.bell.wait_for(lambda: lane.woken or self._stopping, LINGER_S)
            lane.idle -= 1
            if lane.woken and not self._stopping:
                lane.woken -= 1
                return False
            self._leave(key, lane)
            return True

    def _leave(self, key: LaneKey, lane: _Lane) -> None:
        lane.running -= 1
        if not lane.running:
            del self._lanes[key]
        self._left.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """Take no new task; wait for those under way. False if some are not done."""
        with self._lock:
            self._stopping = True
            for lane in self._lanes.values():
                lane.bell.notify_all()
            return self._left.wait_for(lambda: not self._lanes, timeout_s)
