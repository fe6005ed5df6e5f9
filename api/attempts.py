"""Requests that were turned away, in the audit.

They are written beside the answer, which waits for that only a moment. Whoever is
turned away again and again is told of once a minute, by a number: nobody can fill the
database by being refused.
"""

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import falcon.asgi
import structlog

from api.audit import Entry, encoded, entry_of
from api.idempotency import MUTATIONS
from api.inventory import uuid_of
from api.principal import known_principal
from api.throttle import network_of
from common.changes import AsyncChanges
from common.db import sql
from common.errors import StoreUnavailable

WINDOW_S: Final = 60.0
ONE_BY_ONE: Final = 20
"""So many refusals of one token or address within a window have a row each."""
MOST_WHOS: Final = 10_000
MOST_WAITING: Final = 10_000
PATIENCE_S: Final = 0.25
"""An answer waits so long for its row; the row comes all the same."""
PAUSE_S: Final = 1.0

REFUSED: Final = (401, 403, 429)
"""What is a refused attempt even where nothing would have been changed."""

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class _Alike(NamedTuple):
    """What refusals have in common that are told of together."""

    token_id: Any
    token: str | None
    address: str | None
    status: int | None
    problem: str | None


class Budget:
    """How many rows of their own somebody's refusals get."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[object, _Window] = OrderedDict()

    def allows(self, entry: Entry) -> bool:
        """Whether this one gets a row; otherwise it is counted."""
        who: object = entry.token_id or network_of(entry.address or "")
        if who not in self._windows and len(self._windows) >= MOST_WHOS:
            who = None  # All newcomers together, for a while.
        window = self._windows.setdefault(who, _Window(self._clock()))
        window.rows += 1
        if window.rows <= ONE_BY_ONE:
            return True
        address = network_of(entry.address or "")
        alike = (entry.token_id, entry.token, address, entry.status, entry.problem)
        window.others[_Alike(*alike)] += 1
        return False

    def told(self, *, all_: bool = False) -> list[Entry]:
        """The counts of all windows that are over."""
        over: list[Entry] = []
        while self._windows:
            who, window = next(iter(self._windows.items()))
            if not all_ and window.began_s + WINDOW_S > self._clock():
                break
            del self._windows[who]
            over += [
                Entry(event="refused", **alike._asdict(), times=times)
                for alike, times in window.others.items()
            ]
        return over


class _Window:
    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.rows = 0
        self.others: Counter[_Alike] = Counter()


class Attempts:
    """Middleware; ``run`` must run for anything to be written."""

    def __init__(self, changes: AsyncChanges) -> None:
        self._changes = changes
        self._budget = Budget()
        self._waiting: list[Entry] = []
        self._lost = 0
        self._some = asyncio.Event()
        self._written = asyncio.Event()

    async def process_request_ws(self, req: Request, ws: falcon.asgi.WebSocket) -> None:
        req.context.refused = self.refused

    async def process_response(
        self,
        req: Request,
        resp: Response,
        resource: object,
        succeeded: bool,  # noqa: FBT001
    ) -> None:
        status = resp.status_code
        if status < 400 or getattr(req.context, "asked", False):
            return
        if req.method in MUTATIONS or status in REFUSED or is_unseen(req):
            await self.refused(req, status, getattr(req.context, "problem", None))

    async def refused(self, req: Request, status: int, problem: str | None) -> None:
        """Note that a request was turned away."""
        place = getattr(req.context, "place", {})
        vm = place.get("vm")
        entry = entry_of(
            req,
            "refused",
            status=status,
            problem=problem and problem.rpartition("/")[2],
            host_id=place.get("host_id"),
            vm_name=vm,
            vm_uuid=uuid_of(vm or ""),
            task_id=uuid_of(place.get("task_id", "")),
            action=getattr(req.context, "action", None),
        )
        if not self._budget.allows(entry):
            return
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(entry)
        self._some.set()
        # Strangers' rows come a moment later; they keep nobody waiting.
        if known_principal(req) is not None and status != StoreUnavailable.status:
            written = asyncio.ensure_future(self._written.wait())
            await asyncio.wait({written}, timeout=PATIENCE_S)
            written.cancel()

    async def run(self) -> None:
        """Write what comes, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), PAUSE_S)
            self._some.clear()
            self._waiting += self._budget.told()
            try:
                await self._write()
            except StoreUnavailable:
                await asyncio.sleep(PAUSE_S)
                self._some.set()

    async def end(self) -> None:
        """Write what is left."""
        self._waiting += self._budget.told(all_=True)
        await self._write()

    async def _write(self) -> None:
        entries = self._waiting[:MOST_WAITING]
        if not entries:
            return
        async with self._changes.begin() as change:
            await change.run(sql.audit.add, entries=encoded(entries))
        del self._waiting[: len(entries)]
        self._written.set()
        self._written.clear()
        if self._lost:
            lost, self._lost = self._lost, 0
            structlog.get_logger().error("refusals are not in the audit", many=lost)


def is_unseen(req: Request) -> bool:
    """Whether a request named what its token may not see."""
    principal = known_principal(req)
    host_id = getattr(req.context, "place", {}).get("host_id")
    return bool(principal and host_id is not None and not principal.sees(host_id))
