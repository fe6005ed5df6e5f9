"""Each host has lanes of its own, and a share of them."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from workers.lanes import LaneKey, Lanes

ONE = LaneKey("one", "power")
TWO = LaneKey("two", "power")

Eventually = Callable[..., None]


class Backlog:
    """Queued tasks by lane; each task is a function."""

    def __init__(self) -> None:
        self.queued: dict[LaneKey, SimpleQueue[Callable[[], object]]] = {
            ONE: SimpleQueue(),
            TWO: SimpleQueue(),
        }
        self.done = 0

    def work(self, key: LaneKey) -> bool:
        if self.queued[key].empty():
            return False
        self.queued[key].get()()
        self.done += 1
        return True


def test_a_host_that_hangs_fills_its_share_and_no_more(eventually: Eventually) -> None:
    backlog = Backlog()
    hangs = threading.Event()
    began = threading.Semaphore(0)
    lanes = Lanes(share=2, work=backlog.work)

    def hang() -> None:
        began.release()
        hangs.wait(10)

    for _ in range(5):
        backlog.queued[ONE].put(hang)
        lanes.ring(ONE)
    assert began.acquire(timeout=5)
    assert began.acquire(timeout=5)
    backlog.queued[TWO].put(lambda: None)
    lanes.ring(TWO)

    eventually(lambda: backlog.done == 1)
    assert not began.acquire(timeout=0.05)
    hangs.set()
    eventually(lambda: backlog.done == 6)


def test_no_bell_is_lost_while_a_lane_is_at_work(eventually: Eventually) -> None:
    backlog = Backlog()
    lanes = Lanes(share=1, work=backlog.work)

    for count in range(1, 500):
        backlog.queued[ONE].put(lambda: None)
        lanes.ring(ONE)
        if count % 50 == 0:
            eventually(lambda count=count: backlog.done == count)


def test_two_bells_run_side_by_side(eventually: Eventually) -> None:
    backlog = Backlog()
    together = threading.Barrier(2, timeout=5)
    lanes = Lanes(share=2, work=backlog.work)

    for _ in range(2):
        backlog.queued[ONE].put(together.wait)
    lanes.ring(ONE)
    lanes.ring(ONE)

    eventually(lambda: backlog.done == 2)


def test_stop_waits_for_what_is_under_way_and_takes_nothing_new() -> None:
    backlog = Backlog()
    began, go_on = threading.Event(), threading.Event()
    lanes = Lanes(share=1, work=backlog.work)

    def pause() -> None:
        began.set()
        go_on.wait(10)

    backlog.queued[ONE].put(pause)
    backlog.queued[ONE].put(lambda: None)
    lanes.ring(ONE)
    assert began.wait(5)

    assert not lanes.stop(timeout_s=0.05)
    go_on.set()
    assert lanes.stop(timeout_s=5)

    assert backlog.done == 1


def test_a_lane_outlives_a_task_that_raises(eventually: Eventually) -> None:
    backlog = Backlog()
    lanes = Lanes(share=1, work=backlog.work)
    threading.excepthook, kept = lambda _: None, threading.excepthook
    try:
        backlog.queued[ONE].put(lambda: 1 / 0)
        lanes.ring(ONE)
        eventually(backlog.queued[ONE].empty)
        backlog.queued[ONE].put(lambda: None)

        lanes.ring(ONE)
        eventually(lambda: backlog.done == 1)
    finally:
        threading.excepthook = kept
