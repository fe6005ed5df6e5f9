"""From Redis to everybody who waits here: sockets, streams, and requests for a task.

One subscription per web process. Frames pass through as they were published. When
Redis was away, everybody is told to look again: what was missed is in Postgres.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
import redis.asyncio
import structlog

from api.framed import Framed
from api.outbox import GOING_AWAY, NORMAL, POLICY_VIOLATION, Outbox
from api.principal import Principal
from common import bus, metrics
from common.db import AsyncReader, sql
from common.errors import StoreUnavailable
from common.shapes import Host, HostsChanged, Task

PATIENCE_S = 3
"""Redis is asked for a sign of life after so long, and given up after twice that."""
PAUSE_S = 0.5
"""Between two tries to reach Redis, or to read what to tell after an outage."""

AT_ONCE = 32
"""So many frames are taken in a row: what they say to one socket is one write."""

BELLS = tuple(name.encode() for name in (bus.TASKS_ENDED, bus.WAKE, bus.NEWS))
"""Whatever arrives here, or as a frame, something was committed."""

Gone = (redis.RedisError, OSError)


class Relay:
    """Hands on what Redis says; ``run`` must run for anything to arrive."""

    def __init__(
        self,
        subscriber: redis.asyncio.Redis,
        publisher: bus.AsyncBus,
        rows: AsyncReader,
    ) -> None:
        self._subscriber = subscriber
        self._publisher = publisher
        self._rows = rows
        self._outboxes: set[Outbox] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._watchers: dict[str, set[Outbox]] = {}
        self._confirmed: set[str] = set()
        """Channels that Redis has said it will send."""
        self._begun: set[str] = set()
        """Host ids: somebody has just begun to watch a VM there."""
        self._wishes = asyncio.Event()
        self._linked = asyncio.Event()
        # Weak: an awaited future lives as long as the requests that wait for it.
        self._ends: WeakValueDictionary[UUID, asyncio.Future[Task | None]] = (
            WeakValueDictionary()
        )
        self.left = 0
        """How many sockets and streams have gone."""
        self.stopping = False
        self.on_revoked: Callable[[UUID], None] = self.dismiss
        """Told of each token that was revoked."""
        self.bell = asyncio.Event()
        """Set whenever something was committed; whoever waits for it clears it."""

    @contextlib.contextmanager
    def listening(self, principal: Principal) -> Iterator[Outbox]:
        """An outbox into which every frame goes that is about a host they may see,
        while the context lasts."""
        metrics.LISTENERS.inc()
        outbox = Outbox(principal)
        self._outboxes.add(outbox)
        self._empty.clear()
        if self.stopping:
            outbox.close(GOING_AWAY)
        try:
            yield outbox
        finally:
            metrics.LISTENERS.dec()
            metrics.LISTENERS_CLOSED.labels(outbox.close_code or NORMAL).inc()
            self._outboxes.discard(outbox)
            self.left += 1
            for channel in list(outbox.channels):
                self.unwatch(outbox, channel)
            if not self._outboxes:
                self._empty.set()

    def watch(self, outbox: Outbox, channel: str) -> None:
        """Send this stats channel to the outbox too; a first sample comes at once."""
        outbox.channels.add(channel)
        self._watchers.setdefault(channel, set()).add(outbox)
        if channel in self._confirmed:
            self._begun.add(bus.watched(channel.encode())[0])
        self._wishes.set()

    def unwatch(self, outbox: Outbox, channel: str) -> None:
        outbox.channels.discard(channel)
        watchers = self._watchers.get(channel, set())
        watchers.discard(outbox)
        if not watchers:
            self._watchers.pop(channel, None)
            self._wishes.set()

    def token_ids(self) -> set[UUID]:
        """The tokens that opened what is open."""
        return {o.principal.id for o in self._outboxes if o.principal.id is not None}

    def dismiss(self, token_id: UUID) -> None:
        """Close what this token opened."""
        for outbox in self._outboxes:
            if outbox.principal.id == token_id:
                outbox.close(POLICY_VIOLATION)

    def end_of(self, task_id: UUID) -> asyncio.Future[Task | None]:
        """Resolves to the task that ended, or None when its row is to be looked at."""
        end = self._ends.get(task_id)
        if end is None:
            end = asyncio.get_running_loop().create_future()
            self._ends[task_id] = end
        return end

    def stop(self) -> None:
        """Send everybody away: the process ends."""
        self.stopping = True
        for outbox in self._outboxes:
            outbox.close(GOING_AWAY)
        self._resolve_all()

    async def gone(self) -> None:
        """Wait until every socket and stream is gone."""
        await self._empty.wait()

    async def linked(self) -> None:
        """Wait until Redis has said that it will send what it hears."""
        await self._linked.wait()

    async def run(self) -> None:
        """Keep the link to Redis, until the process ends."""
        while True:
            try:
                # A task each: before Python 3.13 a TaskGroup that failed leaves its
                # task half cancelled, and the next timeout in it would end this loop.
                await asyncio.create_task(self._link())
            except* Gone as errors:
                bus.outage.began(errors.exceptions[0])
            self._linked.clear()
            self._confirmed.clear()
            await asyncio.sleep(PAUSE_S)

    async def _link(self) -> None:
        async with (
            self._subscriber.pubsub() as link,
            asyncio.TaskGroup() as group,
        ):
            await link.psubscribe(bus.FRAMES)
            await link.subscribe(*BELLS, bus.TOKENS)
            group.create_task(self._listen(link))
            group.create_task(self._subscribe(link))
            group.create_task(self._tell_to_look_again())

    async def _listen(self, link: redis.asyncio.client.PubSub) -> None:
        asked = False
        for number in itertools.count():
            message = await link.get_message(timeout=PATIENCE_S)
            if message is not None:
                asked = False
                self._take(message["type"], message["channel"], message["data"])
                if number % AT_ONCE == 0:
                    await _let_others_send()
            elif asked:
                raise redis.TimeoutError(f"silent for {2 * PATIENCE_S} s")
            else:
                asked = True
                await link.ping()

    def _take(self, kind: str, name: bytes, data: bytes) -> None:
        match kind:
            case "subscribe" | "psubscribe":
                self._confirm(name.decode())
            case "pmessage":
                self.bell.set()
                self._put(self._outboxes, bus.framed_host(name), Framed(data))
            case "message" if name in BELLS:
                self.bell.set()
                if name == bus.TASKS_ENDED.encode():
                    self._resolve(*bus.ended_task(data))
            case "message" if name == bus.TOKENS.encode():
                self.on_revoked(UUID(data.decode()))
            case "message":
                frame = Framed(data)
                for outbox in self._watchers.get(name.decode(), ()):
                    outbox.put_shared(frame)

    def _put(self, outboxes: set[Outbox], host_id: str, frame: Framed) -> None:
        for outbox in outboxes:
            if outbox.principal.sees(host_id):
                outbox.put_shared(frame)

    def _confirm(self, channel: str) -> None:
        self._confirmed.add(channel)
        if channel in self._watchers:
            self._begun.add(bus.watched(channel.encode())[0])
            self._wishes.set()
        if self._confirmed.issuperset((bus.FRAMES, bus.TASKS_ENDED)):
            self._linked.set()

    async def _subscribe(self, link: redis.asyncio.client.PubSub) -> None:
        """Keep Redis's subscriptions as the outboxes wish them."""
        asked: set[str] = set()
        while True:
            self._wishes.clear()
            wished = set(self._watchers)
            if new := wished - asked:
                await link.subscribe(*new)
            if old := asked - wished:
                self._confirmed -= old
                await link.unsubscribe(*old)
            asked = wished
            begun, self._begun = self._begun, set()
            if begun:
                await self._publisher.publish(
                    [(bus.STATS_WANTED, host_id.encode()) for host_id in begun]
                )
            await self._wishes.wait()

    async def _tell_to_look_again(self) -> None:
        """After an outage: whatever was missed, the rows have it."""
        await self._linked.wait()
        structlog.get_logger().info("listening to redis")
        self.bell.set()
        self._resolve_all()
        if behind := set(self._outboxes):
            # A host that was removed meanwhile is in no list; all look once more.
            for outbox in behind:
                outbox.put(msgspec.json.encode(HostsChanged()).decode())
            for host in await self._hosts():
                _, frame = bus.vms_changed(host.id)
                self._put(behind, host.id, Framed(frame))
                await _let_others_send()

    async def _hosts(self) -> list[Host]:
        """All hosts, as soon as Postgres answers."""
        while True:
            try:
                return await self._rows.all(
                    sql.hosts.list, Host, sight=None, after=None, limit=None
                )
            except StoreUnavailable:
                await asyncio.sleep(PAUSE_S)

    def _resolve_all(self) -> None:
        for task_id in list(self._ends):
            self._resolve(task_id)

    def _resolve(self, task_id: UUID, ended: bytes = b"") -> None:
        end = self._ends.pop(task_id, None)
        if end is not None and not end.done():
            end.set_result(msgspec.json.decode(ended, type=Task) if ended else None)


async def _let_others_send() -> None:
    """A burst must not fill the outboxes of clients that keep up."""
    await asyncio.sleep(0)
