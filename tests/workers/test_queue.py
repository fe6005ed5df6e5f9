"""The doorbell, on a real Redis."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.brokers.redis import _RedisConsumer

from common.queue import ACTOR, QUEUE, Bell, Queue, WakeBroker
from embedded.servers import Redis


class Heard:
    """What an actor was rung for, and when."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._new = threading.Condition()

    def ring(self, host_id: str, _lane: str) -> None:
        with self._new:
            self.at[host_id] = time.monotonic()
            self._new.notify_all()

    def wait_for(self, bell: Bell, timeout_s: float = 10) -> float:
        with self._new:
            assert self._new.wait_for(lambda: bell.host_id in self.at, timeout_s)
            return self.at[bell.host_id]


def new_bell() -> Bell:
    """Of a task on a host of its own."""
    return Bell(uuid4(), uuid4().hex, "power")


@contextmanager
def serving(url: str, heard: Heard) -> Iterator[None]:
    broker = WakeBroker(url)
    dramatiq.Actor(
        heard.ring,
        broker=broker,
        actor_name=ACTOR,
        queue_name=QUEUE,
        priority=0,
        options={},
    )
    worker = dramatiq.Worker(broker, worker_threads=2)
    worker.start()
    try:
        yield
    finally:
        worker.stop(timeout=3000)


def test_an_idle_worker_is_woken_instead_of_polling(redis_url: str) -> None:
    heard = Heard()
    queue = Queue(WakeBroker(redis_url))
    with serving(redis_url, heard):
        queue.ring([first := new_bell()])
        heard.wait_for(first)
        delays = []
        for _ in range(15):
            # Idle for long enough that a polling consumer would have backed off.
            time.sleep(0.15)
            queue.ring([task := new_bell()])
            rung = time.monotonic()
            delays.append(heard.wait_for(task) - rung)

    # A polling consumer has a median of some 250 ms here.
    assert statistics.median(delays) < 0.05


def test_a_thousand_bells_are_all_heard(redis_url: str) -> None:
    heard = Heard()
    tasks = [new_bell() for _ in range(1000)]
    with serving(redis_url, heard):
        Queue(WakeBroker(redis_url)).ring(tasks)
        for task in tasks:
            heard.wait_for(task)

    assert len(heard.at) == 1000


def test_a_worker_hears_again_after_redis_was_restarted(
    redis: Redis, redis_url: str, eventually: Callable[..., None]
) -> None:
    heard = Heard()
    queue = Queue(WakeBroker(redis_url))
    with serving(redis_url, heard):
        queue.ring([before := new_bell()])
        heard.wait_for(before)
        redis.stop()
        queue.ring([new_bell()])
        redis.start()

        queue.ring([after := new_bell()])

        heard.wait_for(after, timeout_s=15)


@pytest.mark.parametrize(
    "name",
    ["message_cache", "queued_message_ids", "outstanding_message_count", "prefetch"],
)
def test_dramatiq_still_has_what_our_consumer_leans_on(
    name: str, redis_url: str
) -> None:
    consumer = WakeBroker(redis_url).consume(QUEUE, prefetch=1)

    assert isinstance(consumer, _RedisConsumer)
    assert hasattr(consumer, name)
