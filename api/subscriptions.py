"""Who is told what is new: each client from its own place on, and nobody has gaps.

A client first reads on by itself, in pages, as fast as it takes them. When nothing is
left it joins the tail, which reads once for all. A client that cannot keep up with the
tail falls behind and reads by itself again; it is not closed, for nothing is skipped.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

import msgspec
import structlog

from api.news import Backlog, Frame, News, Place, place_of
from api.outbox import INTERNAL_ERROR, Outbox
from api.principal import MANY, Sight
from common.errors import StoreUnavailable
from common.shapes import (
    Missed,
    Replay,
    Replayed,
    Subscribed,
    SubscribedFrame,
    Subscription,
    Topic,
    TopicsKept,
    Unsubscribed,
)

TICK_S: Final = 1.0
"""A lost bell is made up for after so long."""
SETTLE_S: Final = 0.02
"""Something is committed that an older transaction may still come before."""
GATHER_S: Final = 0.005
PAUSE_S: Final = 0.5
TAIL_ROWS: Final = 1000
REPLAYS: Final = 2
"""So many clients read on by themselves at once; requests want connections too."""

T = TypeVar("T")


class Tail:
    """Reads what is new once for all who are up to date; ``run`` must run."""

    def __init__(self, news: News, bell: asyncio.Event) -> None:
        self.news = news
        self.replays = asyncio.Semaphore(REPLAYS)
        self._bell = bell
        self._followers: set[Follower] = set()
        self._followed = asyncio.Event()
        self._reached = Place(0, 0)
        """What is being told now, or has been, ends here."""

    @contextlib.contextmanager
    def following(self, outbox: Outbox, sight: Sight) -> Iterator["Following"]:
        """A client's subscription, while the context lasts."""
        following = Following(self, outbox, sight)
        try:
            yield following
        finally:
            following.end()

    def join(self, follower: "Follower") -> bool:
        """Take a follower in, unless something is new that it does not know."""
        if follower.place < self._reached:
            return False
        if not self._followers:
            self._reached = follower.place
        self._followers.add(follower)
        self._followed.set()
        return True

    def leave(self, follower: "Follower") -> None:
        self._followers.discard(follower)
        if not self._followers:
            self._followed.clear()

    async def run(self) -> None:
        """Read whenever the bell rings, and now and then without it, for ever."""
        wait_s = 0.0
        while True:
            await self._followed.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), wait_s)
            self._bell.clear()
            try:
                wait_s = SETTLE_S if await self._read() else TICK_S
            except StoreUnavailable:
                wait_s = PAUSE_S
            await asyncio.sleep(GATHER_S)

    async def _read(self) -> bool:
        """Tell all that is new; whether more is about to be."""
        while self._followers:
            ahead = await self.news.ahead(self._reached, TAIL_ROWS)
            if ahead.too_old:
                for follower in list(self._followers):
                    follower.fall_behind()
            if ahead.place is None or ahead.too_old:
                return ahead.unsettled
            await self._tell(ahead.place)
        return False

    async def _tell(self, until: Place) -> None:
        after, self._reached = self._reached, until
        try:
            mentions = await self.news.between(after, until)
            async for frame in self.news.frames(after, mentions):
                for follower in list(self._followers):
                    follower.tell(frame)
                await asyncio.sleep(0)  # A burst must not outrun those who keep up.
        except StoreUnavailable:
            self._reached = after
            raise


class Follower:
    """One client on its way from a place to the tail, and there."""

    def __init__(
        self, tail: Tail, outbox: Outbox, wish: Subscription, sight: Sight
    ) -> None:
        self.place = Place(0, 0)
        """Everything up to here has been put into the outbox."""
        self.topics: list[Topic] = list(dict.fromkeys(wish.topics))
        self._tail = tail
        self._news = tail.news
        self._outbox = outbox
        self._hosts = wish.hosts
        self._hosts_set = frozenset(wish.hosts or ())
        self._sight = sight
        self._since = None
        if wish.since is not None:
            self._since = place_of(wish.since, at="$.payload.since")
        self._behind = asyncio.Event()

    async def run(self) -> None:
        """Say what was missed, tell it, and then all that is new, for ever."""
        newest = await _patiently(self._news.newest)
        if self._since is None:
            self.place = newest
            self._say(None)
        elif self._since > newest:
            # A cursor of another database, or of one that was restored since.
            self.place = newest
            self._say("too-old")
        else:
            self.place = self._since
            await self._tell_missed()
        while True:
            while not self._tail.join(self):
                if backlog := await self._backlog():
                    await self._tell_all(backlog)
            await self._behind.wait()
            self._behind.clear()

    def fall_behind(self) -> None:
        self._tail.leave(self)
        self._behind.set()

    def tell(self, frame: Frame) -> None:
        """Put what the tail tells into the outbox, or fall behind."""
        if frame.at <= self.place:
            return
        if self._is_for_us(frame):
            if self._outbox.is_crowded:
                self.fall_behind()
                return
            self._outbox.put(frame.text)
        self.place = frame.told

    async def _tell_missed(self) -> None:
        """Replay, between a frame that says so and one that says it is over."""
        backlog = await self._backlog()
        if backlog is None:
            return
        if backlog.is_all and not backlog.mentions:
            self.place = backlog.reaches
            self._say("nothing")
            return
        self._say("follows")
        frames = 0
        while backlog:
            told, is_all = await self._tell_all(backlog)
            frames += told
            if is_all:
                replayed = Replayed(Replay(frames), self.place.cursor())
                self._outbox.put(msgspec.json.encode(replayed).decode())
                return
            backlog = await self._backlog()

    async def _backlog(self) -> Backlog | None:
        """What is new for us; None after having said that nobody knows any more."""
        async with self._tail.replays:
            backlog = await _patiently(
                lambda: self._news.backlog(self.place, self.topics, self._hosts)
            )
        if backlog is None:
            self.place = await _patiently(self._news.newest)
            self._say("too-old")
            return None
        # Which hosts a task about many is about is known when it is looked at.
        seen = [
            m for m in backlog.mentions if m.host_id == MANY or self._sight(m.host_id)
        ]
        return backlog._replace(mentions=seen)

    async def _tell_all(self, backlog: Backlog) -> tuple[int, bool]:
        """Tell a backlog as fast as it is taken; how many frames, if it was all."""
        told = 0
        try:
            async for frame in self._news.frames(self.place, backlog.mentions):
                await self._outbox.room()
                if self._is_for_us(frame):
                    self._outbox.put(frame.text)
                    told += 1
                self.place = frame.told
        except StoreUnavailable:
            await asyncio.sleep(PAUSE_S)
            return told, False
        self.place = backlog.reaches
        return told, backlog.is_all

    def _is_for_us(self, frame: Frame) -> bool:
        return (
            frame.topic in self.topics
            and (self._hosts is None or frame.host_id in self._hosts_set)
            and all(map(self._sight, frame.about))
        )

    def _say(self, missed: Missed | None) -> None:
        said = Subscribed(self.topics, self._hosts, missed)
        frame = SubscribedFrame(said, self.place.cursor())
        self._outbox.put(msgspec.json.encode(frame).decode())


class Following:
    """The subscription of one client: none, or one that another takes the place of."""

    def __init__(self, tail: Tail, outbox: Outbox, sight: Sight) -> None:
        self._tail = tail
        self._outbox = outbox
        self._sight = sight
        self._follower: Follower | None = None
        self._running: asyncio.Task[None] | None = None

    def begin(self, wish: Subscription) -> None:
        """Follow from ``since`` on; raises InvalidRequest if that is no cursor."""
        follower = Follower(self._tail, self._outbox, wish, self._sight)
        self.end()
        self._follower = follower
        self._running = asyncio.create_task(follower.run())
        self._running.add_done_callback(self._close_if_broken)

    def leave(self, topics: list[Topic] | None) -> None:
        """Follow these topics no longer, or none at all."""
        kept: list[Topic] = []
        if self._follower and topics is not None:
            kept = [t for t in self._follower.topics if t not in topics]
            self._follower.topics = kept
        if not kept:
            self.end()
        frame = Unsubscribed(TopicsKept(kept))
        self._outbox.put(msgspec.json.encode(frame).decode())

    def end(self) -> None:
        if self._running:
            self._running.cancel()
        if self._follower:
            self._tail.leave(self._follower)
        self._running = self._follower = None

    def _close_if_broken(self, running: asyncio.Task[None]) -> None:
        """A client must not wait for what nobody will tell it."""
        if not running.cancelled() and (error := running.exception()):
            structlog.get_logger().error("a subscription broke", exc_info=error)
            self._outbox.close(INTERNAL_ERROR)


async def _patiently(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The answer, as soon as Postgres gives one."""
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            await asyncio.sleep(PAUSE_S)
