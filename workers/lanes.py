"""One lane a host and kind of work: a dead host fills its own lane and no other.

A bell starts a thread of the lane, if its share is not used up; the thread takes the
host's queued tasks from the database until none is left. Nothing is queued in memory.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple


class LaneKey(NamedTuple):
    host_id: str
    lane: str


class _Lane:
    running = 0
    rung = False
    """A bell came while the whole share was busy."""


class Lanes:
    """Runs ``work(key)``, which does one task and says whether there was one."""

    def __init__(self, share: int, work: Callable[[LaneKey], bool]) -> None:
        self._share = share
        self._work = work
        self._lanes: dict[LaneKey, _Lane] = {}
        self._changed = threading.Condition()
        self._stopping = False

    def ring(self, key: LaneKey) -> None:
        """There may be work in this lane. Returns at once."""
        with self._changed:
            if self._stopping:
                return
            lane = self._lanes.setdefault(key, _Lane())
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
                left = self._leave(key, lane)
        finally:
            if not left:
                lane.rung = False
                self._leave(key, lane)

    def _leave(self, key: LaneKey, lane: _Lane) -> bool:
        """Leave the lane, unless a bell came since this thread last looked."""
        with self._changed:
            if lane.rung and not self._stopping:
                lane.rung = False
                return False
            lane.running -= 1
            if not lane.running:
                del self._lanes[key]
            self._changed.notify_all()
            return True

    def stop(self, timeout_s: float) -> bool:
        """Take no new task; wait for those under way. False if some are not done."""
        with self._changed:
            self._stopping = True
            return self._changed.wait_for(lambda: not self._lanes, timeout_s)
