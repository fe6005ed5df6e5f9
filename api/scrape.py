"""/metrics: every process of the system and every VM, for Prometheus."""

import asyncio
from typing import Final

import falcon.asgi
from msgspec import Struct

from api import exposition, fleet_page
from api.contract import Answer, contract
from api.exposition import Page
from api.fleet_page import Fleet
from api.principal import Sight, principal_of
from common import measurements
from common.bus import AsyncBus
from common.db import AsyncReader, within
from common.errors import StoreUnavailable
from common.measurements import Measured
from common.metrics import Family

PATIENCE_S: Final = 2.0
"""A database that takes longer is told of as absent."""


class _Seen(Struct, frozen=True):
    measured: list[Measured]
    fleet: Fleet | None


class Metrics:
    """Answers from rows, and without them with what this process knows itself.

    Being scraped is what makes monitors sample the VMs that nobody watches.
    """

    def __init__(self, rows: AsyncReader, bus: AsyncBus) -> None:
        self._rows = rows
        self._bus = bus

    @contract(
        "Read what is measured",
        answers={200: Answer(str, "Prometheus's text", media_type="text/plain")},
        stored=False,
    )
    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Counters of every process, states of every host, counters of every VM; of
        hosts and VMs, those that the token may see."""
        redis, seen = await asyncio.gather(self._bus.tell_scraped(), self._seen())
        sight = principal_of(req).sees
        resp.content_type = exposition.CONTENT_TYPE
        # A page of many VMs must not keep others from being answered.
        resp.text = await asyncio.to_thread(_page, seen, redis, sight)

    async def _seen(self) -> _Seen:
        try:
            return await within(PATIENCE_S, self._read())
        except StoreUnavailable:
            return _Seen([measurements.of_this_process("web")], None)

    async def _read(self) -> _Seen:
        return _Seen(
            await measurements.of_all(self._rows, "web"),
            await fleet_page.read(self._rows),
        )


def _page(seen: _Seen, redis: bool, sight: Sight) -> str:  # noqa: FBT001
    page = Page()
    for name, answers in (("postgres", seen.fleet is not None), ("redis", redis)):
        page.family(f"virtumancer_{name}_up", "gauge", f"1 if {name} answers the web")
        page.sample(f"virtumancer_{name}_up", "", int(answers))
    _write_measured(page, seen.measured, sight)
    if seen.fleet:
        fleet_page.write(page, fleet_page.seen(seen.fleet, sight))
    return page.text()


def _write_measured(page: Page, measured: list[Measured], sight: Sight) -> None:
    """The same family of all processes stands together, told apart by ``process``."""
    merged: dict[str, list[tuple[str, Family]]] = {}
    for process in measured:
        for family in process.families:
            merged.setdefault(family.name, []).append((process.process, family))
    for name, parts in merged.items():
        page.family(name, parts[0][1].kind, parts[0][1].help)
        for process_name, family in parts:
            for sample in family.samples:
                if (host_id := sample.labels.get("host")) and not sight(host_id):
                    continue
                where = exposition.labels({"process": process_name, **sample.labels})
                page.sample(sample.name, where, sample.value)
