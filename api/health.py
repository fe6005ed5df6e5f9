"""/api/health: which part of the system answers, and what to do about the rest."""

import asyncio
from collections.abc import Iterator

import falcon.asgi
from msgspec import Struct

from api.contract import contract
from api.principal import known_principal
from common.bus import AsyncBus
from common.db import AsyncReader, sql, within
from common.errors import StoreUnavailable
from common.shapes import BriefHealth, Health, ProcessHealth

CHECK_S = 1
SILENT_S = 8
"""A process whose heart has not beaten for so long counts as dead."""

NO_REDIS = (
    "Redis does not answer: actions wait and changes are not announced."
    " Look at Redis and REDIS_URL."
)
NO_POSTGRES = (
    "Postgres does not answer: nothing can be read or done, and whether workers and"
    " monitors live is unknown. Look at Postgres and DATABASE_URL."
)
NO_WORKER = (
    "No worker lives: actions and syncs wait. Start one with `python -m workers.main`."
)
NO_MONITOR = (
    "No monitor lives: changes made on the hosts are not noticed."
    " Start one with `python -m workers.monitor`."
)


class _Alive(Struct, frozen=True):
    kind: str
    alive: int


class HealthCheck:
    """Answers 200 as long as this process serves."""

    def __init__(self, rows: AsyncReader, bus: AsyncBus) -> None:
        self._rows = rows
        self._bus = bus

    @contract(
        "See what of the system answers",
        answers={200: Health | BriefHealth},
        stored=False,
    )
    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Without a token, one word of it."""
        alive, redis = await asyncio.gather(self._processes(), self._redis())
        problems = [] if redis else [NO_REDIS]
        problems += [NO_POSTGRES] if alive is None else list(_missing(alive))
        known = alive or {}
        if known_principal(req) is None:
            resp.media = BriefHealth(status="degraded" if problems else "ok")
            return
        resp.media = Health(
            status="degraded" if problems else "ok",
            postgres=alive is not None,
            redis=redis,
            workers=_health(known.get("worker", 0)),
            monitors=_health(known.get("monitor", 0)),
            problems=problems,
        )

    async def _processes(self) -> dict[str, int] | None:
        """How many processes of each kind live; None if Postgres does not answer."""
        check = self._rows.all(sql.processes.alive, _Alive, silent_s=SILENT_S)
        try:
            return {found.kind: found.alive for found in await within(CHECK_S, check)}
        except StoreUnavailable:
            return None

    async def _redis(self) -> bool:
        try:
            async with asyncio.timeout(CHECK_S):
                return await self._bus.answers()
        except TimeoutError:
            return False


def _health(alive: int) -> ProcessHealth:
    return ProcessHealth(alive=alive, answers=alive > 0)


def _missing(alive: dict[str, int]) -> Iterator[str]:
    if not alive.get("worker"):
        yield NO_WORKER
    if not alive.get("monitor"):
        yield NO_MONITOR
