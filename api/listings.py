"""The VMs of one host as they are listed: made once, given again until they change.

Whether they changed is asked of Postgres for every request, so that nobody is told of
what was. Requests that come while the question is under way share the next one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Generic, NamedTuple, TypeVar

import falcon
import falcon.asgi
import msgspec
from msgspec import Struct

from api.etags import tag_of
from api.inventory import unknown_host
from api.pages import beyond, page, position
from common.db import AsyncReader, sql
from common.shapes import Vm
from common.shapes.parameters import Paging
from common.shapes.resources import DbId

KEPT_BYTES: Final = 16 * 1024 * 1024

T = TypeVar("T")


class Listing(NamedTuple):
    """An answer, ready to be sent."""

    body: bytes
    tag: str
    link: str | None


class _Version(Struct, frozen=True):
    host_db_id: int
    turns: int
    observed_at: datetime | None
    vms: int
    newest: int
    revisions: int
    observations: int


class _Kept(NamedTuple):
    version: _Version
    listing: Listing


_Key = tuple[str, str | None, int | None]


class Listings:
    """Lists the VMs of hosts."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows
        self._asked: dict[str, Shared[_Version]] = {}
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._bytes = 0

    async def answer(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        host_id: str,
        asked: Paging,
    ) -> None:
        """Answer with the page that was asked for, as it is now."""
        version = await self._version(host_id)
        key = (host_id, asked.cursor, asked.limit)
        kept = self._kept.get(key)
        if kept is not None and kept.version == version:
            self._kept.move_to_end(key)
            listing = kept.listing
        else:
            # Read after its version, it is at least as new.
            listing = await self._read(req, resp, host_id, asked)
            self._keep(key, _Kept(version, listing))
        resp.content_type = falcon.MEDIA_JSON
        resp.data = listing.body
        resp.context.tag = listing.tag
        if listing.link is not None:
            resp.set_header("Link", listing.link)

    async def _version(self, host_id: str) -> _Version:
        shared = self._asked.get(host_id)
        if shared is None:
            shared = Shared(
                lambda: self._ask(host_id), lambda: self._asked.pop(host_id)
            )
            self._asked[host_id] = shared
        return await shared.answer()

    async def _ask(self, host_id: str) -> _Version:
        found = await self._rows.one(sql.vms.listing_version, _Version, host_id=host_id)
        if found is None:
            raise unknown_host(host_id)
        return found

    async def _read(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        host_id: str,
        asked: Paging,
    ) -> Listing:
        rows = await self._rows.all(
            sql.vms.list,
            Vm,
            host_id=host_id,
            after=position(asked.cursor, DbId),
            limit=beyond(asked.limit),
        )
        found = page(req, resp, rows, asked.limit, lambda vm: vm.db_id)
        body = msgspec.json.encode(found)
        return Listing(body, tag_of(body), resp.get_header("Link"))

    def _keep(self, key: _Key, kept: _Kept) -> None:
        if old := self._kept.pop(key, None):
            self._bytes -= len(old.listing.body)
        self._kept[key] = kept
        self._bytes += len(kept.listing.body)
        while self._bytes > KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.listing.body)


class Shared(Generic[T]):
    """A question that is put once for all who want to know at the same time.

    Nobody is given an answer to what was asked before they came.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[T]], idle: Callable[[], object]
    ) -> None:
        self._ask = ask
        self._idle = idle
        self._asking: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def answer(self) -> T:
        if self._next is None:
            self._next = asyncio.create_task(self._put(self._asking))
        # Who goes away does not take the answer from the others.
        return await asyncio.shield(self._next)

    async def _put(self, before: "asyncio.Task[T] | None") -> T:
        if before is not None:
            await asyncio.wait({before})
        self._asking, self._next = self._next, None
        try:
            return await self._ask()
        finally:
            if self._next is None:
                self._idle()
