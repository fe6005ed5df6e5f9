"""What is new since a place: read from Postgres, as the frames that tell of it.

A place is the pair (xid, position) of a row of ``news``; written down it is a cursor.
A row says which resource to look at again, and what a frame holds is the resource as
it is when the frame is made. So a frame is never older than the one before it, and
telling the same thing twice does no harm.
"""

import asyncio
import base64
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from api.principal import MANY
from common.db import AsyncReader, sql
from common.errors import InvalidRequest
from common.shapes import (
    Host,
    HostIdentity,
    HostRemoved,
    HostUpdated,
    NewsFrame,
    Task,
    TaskUpdated,
    Topic,
    Vm,
    VmIdentity,
    VmRemoved,
    VmUpdated,
)

STEP_ROWS: Final = 10_000
MOST_MENTIONS: Final = 20_000
"""A backlog is compacted over so many resources at a time."""
BATCH: Final = 100
FRESH_S: Final = 0.25
"""A cursor in a header is at most so old; an older one only tells more."""

_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,18})", re.ASCII)


class Place(NamedTuple):
    """Everything up to here is known."""

    xid: int
    position: int

    def cursor(self) -> str:
        text = f"{self.xid}.{self.position}".encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def place_of(cursor: str, at: str) -> Place:
    """The place that a cursor of ours means."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        text = ""
    if found := _CURSOR.fullmatch(text):
        return Place(int(found[1]), int(found[2]))
    raise InvalidRequest(
        "The cursor is not one of ours; subscribe without it and read the lists.", at=at
    )


class Frame(NamedTuple):
    """One frame, encoded once for all, and whom it is for."""

    topic: Topic
    host_id: str
    about: tuple[str, ...]
    """The hosts that one must see to be told."""
    at: Place
    """What it tells of stands here."""
    told: Place
    """Whoever has been sent it knows everything up to here."""
    text: str


class Mention(Struct, frozen=True):
    """A resource to look at; a VM without a UUID is every VM of the host."""

    topic: Topic
    host_id: str
    resource: UUID | None
    place: Place


class Ahead(Struct, frozen=True):
    """How far one may read on; ``unsettled`` if more is committed beyond."""

    too_old: bool
    xid: int | None
    position: int | None
    unsettled: bool

    @property
    def place(self) -> Place | None:
        if self.xid is None or self.position is None:
            return None
        return Place(self.xid, self.position)


class Backlog(NamedTuple):
    """The last mention of each resource after a place, and how far that reaches."""

    mentions: list[Mention]
    reaches: Place
    is_all: bool


class _Place(Struct):
    xid: int
    position: int


class _Span(Struct):
    id: UUID
    host_ids: tuple[str, ...]


class _Now(NamedTuple):
    """Resources as they are now, by their identity; who is missing is gone."""

    hosts: dict[str, Host]
    vms: dict[tuple[str, UUID], Vm]
    tasks: dict[UUID, Task]
    spans: dict[UUID, tuple[str, ...]]
    """The hosts of tasks that are about many."""


ALL_TOPICS: Final[tuple[Topic, ...]] = ("hosts", "vms", "tasks")


class News:
    """Reads what is new."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows
        self._asking: asyncio.Future[str] | None = None
        self._known: str | None = None
        self._known_at_s = 0.0

    async def newest(self) -> Place:
        found = await self._rows.one(sql.news.newest, _Place)
        assert found, "there is one row whatever was pruned"
        return Place(found.xid, found.position)

    async def recent(self) -> str:
        """A cursor that was the newest a moment ago; asked for once by all at once."""
        if self._known and time.monotonic() - self._known_at_s < FRESH_S:
            return self._known
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> str:
        asked_at_s = time.monotonic()
        try:
            self._known = (await self.newest()).cursor()
            self._known_at_s = asked_at_s
            return self._known
        finally:
            self._asking = None

    async def ahead(self, place: Place, most: int = STEP_ROWS) -> Ahead:
        found = await self._rows.one(
            sql.news.ahead,
            Ahead,
            xid=str(place.xid),
            position=place.position,
            most=most,
        )
        assert found, "there is one row whatever was pruned"
        return found

    async def between(
        self,
        after: Place,
        until: Place,
        topics: Iterable[Topic] = ALL_TOPICS,
        hosts: Iterable[str] | None = None,
    ) -> list[Mention]:
        return await self._rows.all(
            sql.news.between,
            Mention,
            after_xid=str(after.xid),
            after_position=after.position,
            xid=str(until.xid),
            position=until.position,
            topics=list(topics),
            hosts=None if hosts is None else list(hosts),
        )

    async def backlog(
        self, after: Place, topics: Iterable[Topic], hosts: Iterable[str] | None
    ) -> Backlog | None:
        """What was missed since a place, compacted; None if nobody knows any more."""
        last: dict[tuple[object, ...], Mention] = {}
        is_all = False
        while len(last) < MOST_MENTIONS:
            ahead = await self.ahead(after)
            if ahead.too_old:
                return None
            if is_all := ahead.place is None:
                break
            for mention in await self.between(after, ahead.place, topics, hosts):
                key = (mention.topic, mention.host_id, mention.resource)
                last.pop(key, None)
                last[key] = mention
            after = ahead.place
        return Backlog(list(last.values()), after, is_all)

    async def frames(
        self, after: Place, mentions: list[Mention]
    ) -> AsyncIterator[Frame]:
        """What is mentioned, as it is now, a frame each."""
        for first in range(0, len(mentions), BATCH):
            batch = mentions[first : first + BATCH]
            now = await self._look(batch)
            for mention in batch:
                for frame in _frames(now, mention, after):
                    yield frame
                after = mention.place

    async def _look(self, mentions: list[Mention]) -> _Now:
        asked: dict[Topic, list[Mention]] = defaultdict(list)
        for mention in mentions:
            asked[mention.topic].append(mention)
        now = _Now({}, {}, {}, {})
        if of := asked["hosts"]:
            ids = [m.host_id for m in of]
            for host in await self._rows.all(sql.news.hosts, Host, ids=ids):
                now.hosts[host.id] = host
        if of := asked["vms"]:
            named = {
                "whole_hosts": [m.host_id for m in of if not m.resource],
                "host_ids": [m.host_id for m in of],
                "uuids": [m.resource for m in of],
            }
            for vm in await self._rows.all(sql.news.vms, Vm, **named):
                now.vms[vm.host_id, vm.uuid] = vm
        if of := asked["tasks"]:
            resources = [m.resource for m in of]
            for task in await self._rows.all(sql.news.tasks, Task, ids=resources):
                now.tasks[task.id] = task
            many = [m.resource for m in of if m.host_id == MANY]
            if many:
                query = sql.news.hosts_of_tasks
                for span in await self._rows.all(query, _Span, ids=many):
                    now.spans[span.id] = span.host_ids
        return now


def _frames(now: _Now, mention: Mention, before: Place) -> list[Frame]:
    """A mention's frames. Only the last of several says that the mention was told."""
    told = mention.place.cursor()
    about: tuple[str, ...] = (mention.host_id,)
    if mention.resource is not None:
        about = now.spans.get(mention.resource, about)
    frames: list[NewsFrame] = []
    match mention:
        case Mention("hosts", host_id):
            if host := now.hosts.get(host_id):
                frames.append(HostUpdated(host, told))
            else:
                frames.append(HostRemoved(HostIdentity(host_id), told))
        case Mention("vms", host_id, None):
            vms = [vm for vm in now.vms.values() if vm.host_id == host_id]
            frames += [VmUpdated(vm, before.cursor()) for vm in vms[:-1]]
            frames += [VmUpdated(vm, told) for vm in vms[-1:]]
        case Mention("vms", host_id, UUID() as uuid):
            if vm := now.vms.get((host_id, uuid)):
                frames.append(VmUpdated(vm, told))
            else:
                frames.append(VmRemoved(VmIdentity(host_id, uuid), told))
        case Mention("tasks", _, UUID() as task_id):
            # Only tasks that ended long ago are removed, and that is no news.
            if task := now.tasks.get(task_id):
                frames.append(TaskUpdated(task, told))
    return [
        Frame(
            mention.topic,
            mention.host_id,
            about,
            mention.place,
            mention.place if frame.cursor == told else before,
            msgspec.json.encode(frame).decode(),
        )
        for frame in frames
    ]
