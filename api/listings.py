"""The VMs of one host as they are listed: made once, given again until they change.

Whether they changed is asked of Postgres for every request, so that nobody is told of
what was. Requests that come while the question is under way share the next one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

import falcon
import falcon.asgi
import msgspec

from api.etags import tag_of
from api.inventory import unknown_host
from api.pages import beyond, page, position
from common.db import READ_S, AsyncReader, sql, within
from common.shapes import Vm
from common.shapes.parameters import Paging
from common.shapes.resources import DbId

KEPT_BYTES: Final = 16 * 1024 * 1024
IN_A_ROW: Final = 20
"""So many questions are put on one connection before others get it."""

_Version = tuple[object, ...]
_Answer = asyncio.Future[_Version | None]


class Listing(NamedTuple):
    """An answer, ready to be sent."""

    body: bytes
    tag: str
    link: str | None


class _Kept(NamedTuple):
    version: _Version
    listing: Listing


_Key = tuple[str, str | None, int | None]


class Listings:
    """Lists the VMs of hosts."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows
        self._asked: dict[str, Asked] = {}
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
        asked = self._asked.get(host_id)
        if asked is None:
            asked = Asked(self._rows, host_id, lambda: self._asked.pop(host_id))
            self._asked[host_id] = asked
        version = await asked.version()
        if version is None:
            raise unknown_host(host_id)
        return version

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


class Asked:
    """Asks which version a host's list is at, once for all who wait for an answer.

    Nobody is given an answer to what was asked before they came.
    """

    def __init__(
        self, rows: AsyncReader, host_id: str, idle: Callable[[], object]
    ) -> None:
        self._rows = rows
        self._host_id = host_id
        self._idle = idle
        self._asking: asyncio.Task[None] | None = None
        self._asked: list[_Answer] = []
        self._waiting: list[_Answer] = []

    async def version(self) -> _Version | None:
        """None if there is no such host."""
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        if self._asking is None:
            self._asking = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        while self._has_next(len(self._waiting)):
            try:
                await within(READ_S, self._ask())
            except Exception as error:  # noqa: BLE001
                # Whatever it is, it concerns those who asked.
                for answer in self._who_asked():
                    answer.set_exception(error)
        self._asking = None
        self._idle()

    async def _ask(self) -> None:
        async with self._rows.asking(sql.vms.listing_version) as ask:
            for _ in range(IN_A_ROW):
                version = await ask(host_id=self._host_id)
                answered = self._who_asked()
                for answer in answered:
                    answer.set_result(version)
                # While one half of a crowd is answered, Postgres looks for the other.
                if not self._has_next((len(answered) + len(self._waiting) + 1) // 2):
                    break

    def _has_next(self, most: int) -> bool:
        """Whether there is anybody to ask for; at most so many at a time."""
        if not self._asked:
            self._asked, self._waiting = self._waiting[:most], self._waiting[most:]
        return bool(self._asked)

    def _who_asked(self) -> list[_Answer]:
        """All that are still there to be answered, once."""
        asked, self._asked = self._asked, []
        return [answer for answer in asked if not answer.done()]
