"""The doorbell: Dramatiq on Redis, with a consumer that is woken instead of polling.

A message names the lane of a host in which a task waits and nothing else; what to do
stands in the task's row. So a message may be lost (a monitor rings again) or doubled
(the row is claimed once).
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from uuid import UUID

import dramatiq
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from msgspec import Struct

from common import bus

QUEUE: Final = "tasks"
ACTOR: Final = "ring"
# Dramatiq translates lost connections, but not timeouts (its issue 894).
_PROBLEMS = (*bus.PROBLEMS, ConnectionClosed)


class Bell(Struct, frozen=True):
    """A task that is queued, and the lane of its host that it waits in."""

    id: UUID
    host_id: str
    lane: str


class WakeConsumer(_RedisConsumer):
    """Dramatiq's consumer, waiting for a bell where the stock one sleeps."""

    def __init__(self, broker: "WakeBroker", *args: Any) -> None:
        super().__init__(broker, *args)
        self._bell = broker.bells.of(self.queue_name)
        self._bell.set()

    def ack(self, message: Any) -> None:
        self._answer(super().ack, message)

    def nack(self, message: Any) -> None:
        self._answer(super().nack, message)

    def _answer(self, send: Callable[[Any], None], message: Any) -> None:
        was_full = not self._room()
        try:
            send(message)
        except _PROBLEMS as error:
            # A bell that Redis thinks unheard is rung again, which does no harm.
            bus.outage.began(error)
        if was_full:
            self._bell.set()

    def __next__(self) -> Any:
        if not self.message_cache:
            self._bell.wait(self.timeout / 1000)
            # Stilled before the look, or one rung in between would be lost.
            self._bell.clear()
            self._fetch()
        return super().__next__() if self.message_cache else None

    def _fetch(self) -> None:
        room = self._room()
        if not room:
            return
        try:
            self.message_cache = self.broker.do_fetch(self.queue_name, room)
        except _PROBLEMS as error:
            # Dramatiq would make a new consumer, and tell of every try.
            bus.outage.began(error)
            return
        bus.outage.ended()
        if len(self.message_cache) == room:
            self._bell.set()  # There may be more.

    def _room(self) -> int:
        return int(self.prefetch - self.outstanding_message_count)


class Bells:
    """One event a queue, set by a thread that listens to Redis."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def of(self, queue_name: str) -> threading.Event:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._listen, name="bells", daemon=True
                )
                self._thread.start()
            return self._events.setdefault(queue_name, threading.Event())

    def _ring_all(self) -> None:
        for event in list(self._events.values()):
            event.set()

    def _listen(self) -> None:
        pause = threading.Event()
        while True:
            try:
                for queue_name in self._rung():
                    if event := self._events.get(queue_name):
                        event.set()
            except _PROBLEMS as error:
                bus.outage.began(error)
                pause.wait(1)

    def _rung(self) -> Iterator[str]:
        client = bus.connect(self._url)
        with client, bus.listen_for(client, bus.WAKE) as pubsub:
            self._ring_all()
            bus.outage.ended()
            while True:
                if message := pubsub.get_message(timeout=1):
                    yield message["data"].decode()


class WakeBroker(RedisBroker):
    """Dramatiq's Redis broker without retries or delays, ringing a bell per message."""

    def __init__(self, url: str) -> None:
        super().__init__(
            client=bus.connect(url),
            namespace=bus.QUEUE_NAMESPACE,
            middleware=[],
            # Messages of a worker that died are rung again by a monitor anyway;
            # maintenance only keeps the keys of dead workers from piling up.
            heartbeat_timeout=15_000,
            maintenance_chance=20_000,
            dead_message_ttl=3_600_000,
        )
        self.bells = Bells(url)

    @property
    def consumer_class(self) -> type[WakeConsumer]:
        return WakeConsumer

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        enqueued = super().enqueue(message, delay=delay)
        self.client.publish(bus.WAKE, enqueued.queue_name)
        return enqueued


class Queue:
    """Rings workers from any thread. Redis is tried once, for two seconds at most."""

    def __init__(self, broker: WakeBroker) -> None:
        self._broker = broker

    def ring(self, bells: Iterable[Bell]) -> None:
        """Tell the workers of these tasks; a bell that fails is rung by a monitor."""
        try:
            for bell in bells:
                self._broker.enqueue(_message(bell))
        except _PROBLEMS as error:
            bus.outage.began(error)
        else:
            bus.outage.ended()


def _message(bell: Bell) -> "dramatiq.Message[None]":
    lane = (bell.host_id, bell.lane)
    return dramatiq.Message(
        queue_name=QUEUE, actor_name=ACTOR, args=lane, kwargs={}, options={}
    )
