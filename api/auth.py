"""The door: whoever comes shows a token, and is let in as far as it reaches.

What a token says is kept in this process for a moment, so that not every request asks
Postgres. What it says no more is noticed at the latest after that moment.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from typing import Any, Final, Protocol
from uuid import UUID

import falcon.asgi
from msgspec import Struct

from api.inventory import unknown_host
from api.principal import ANONYMOUS, Principal
from api.relay import Relay
from api.roles import BY_TICKET, need_of, route_of
from api.throttle import Throttle
from common.db import AsyncReader, Query, sql
from common.denials import (
    HostOutsideToken,
    InvalidToken,
    RoleTooLow,
    TokenRequired,
    TooManyAttempts,
)
from common.errors import StoreUnavailable
from common.shapes import Role
from common.tokens import hash_of

FRESH_S: Final = 2.0
MOST_KNOWN: Final = 10_000

Request = falcon.asgi.Request


class _Row(Struct, frozen=True):
    id: UUID
    name: str
    role: Role
    hosts: tuple[str, ...] | None
    is_revoked: bool
    left_s: float | None


class _Id(Struct, frozen=True):
    id: UUID


class _Known(Struct, frozen=True):
    principal: Principal
    fresh_until_s: float
    ends_at_s: float


class _Guess(Exception):
    """A secret that nobody has."""


class Door(Protocol):
    """Finds out whose request it is."""

    async def principal(self, req: Request) -> Principal | None:
        """Who asks; None if the request does not say."""


class OpenDoor:
    """Lets everybody in as an admin."""

    async def principal(self, req: Request) -> Principal | None:
        return ANONYMOUS


class LockedDoor:
    """Lets in who shows a token, or a ticket where browsers can show nothing else."""

    def __init__(self, rows: AsyncReader, throttle: Throttle) -> None:
        self._rows = rows
        self._throttle = throttle
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._suspect = asyncio.Lock()
        """Held while one guess is looked at, of all that come from where many came."""

    async def principal(self, req: Request) -> Principal | None:
        kind, _, secret = (req.get_header("Authorization") or "").partition(" ")
        if kind.lower() == "bearer":
            return await self._of_token(hash_of(secret.strip()), req.remote_addr)
        if kind:
            raise TokenRequired("Send `Authorization: Bearer TOKEN`; nothing else.")
        if route_of(req.uri_template or "") in BY_TICKET:
            ticket = req.get_param("ticket")
            if ticket is not None:
                return await self._of_ticket(hash_of(ticket), req.remote_addr)
        return None

    def forget(self, token_id: UUID) -> None:
        """Ask for this token anew when it is shown next."""
        for secret, known in list(self._known.items()):
            if known.principal.id == token_id:
                self._known.pop(secret, None)

    async def _of_token(self, secret: bytes, address: str) -> Principal:
        known = self._known.get(secret)
        now_s = time.monotonic()
        if known and now_s < min(known.fresh_until_s, known.ends_at_s):
            return known.principal
        try:
            found = await self._look_up(sql.tokens.by_secret, secret, address)
        except StoreUnavailable:
            # Nothing can be revoked either while the database is away.
            if known and now_s < known.ends_at_s:
                return known.principal
            raise
        except (InvalidToken, TooManyAttempts):
            self._known.pop(secret, None)
            raise
        self._known[secret] = found
        self._known.move_to_end(secret)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return found.principal

    async def _of_ticket(self, secret: bytes, address: str) -> Principal:
        found = await self._look_up(sql.tokens.take_ticket, secret, address)
        return found.principal

    async def _look_up(self, query: Query, secret: bytes, address: str) -> _Known:
        wait_s = self._throttle.wait_s(address)
        if not wait_s:
            try:
                return await self._row(query, secret, address)
            except _Guess:
                raise InvalidToken(
                    "Nobody has this token; or the ticket was used, or is too old."
                ) from None
        # Behind a proxy all have one address: what is right must still get in.
        if not self._suspect.locked():
            async with self._suspect:
                with contextlib.suppress(_Guess):
                    return await self._row(query, secret, address)
        refusal = TooManyAttempts(
            f"Too many wrong tokens came from {address}; the next is looked at in"
            f" {wait_s} s."
        )
        refusal.retry_after_s = wait_s
        raise refusal

    async def _row(self, query: Query, secret: bytes, address: str) -> _Known:
        now_s = time.monotonic()
        row = await self._rows.one(query, _Row, secret=secret)
        if row is None:
            self._throttle.failed(address)
            raise _Guess
        if why := _objection(row):
            self._throttle.failed(address)
            raise InvalidToken(why)
        return _Known(
            Principal(row.id, row.name, row.role, row.hosts),
            now_s + FRESH_S,
            now_s + row.left_s if row.left_s is not None else float("inf"),
        )


def _objection(row: _Row) -> str:
    """Why a token that there is, or was, opens nothing."""
    if row.is_revoked:
        return f"The token {row.name} was revoked."
    if row.left_s is not None and row.left_s <= 0:
        return f"The token {row.name} has expired."
    return ""


class Rounds:
    """Sends those away who may no longer be in: told by Redis, or found by a look."""

    def __init__(self, rows: AsyncReader, relay: Relay, door: LockedDoor) -> None:
        self._rows = rows
        self._relay = relay
        self._door = door

    async def run(self) -> None:
        self._relay.on_revoked = self._dismiss
        while True:
            await asyncio.sleep(FRESH_S)
            # While the database is away nobody can be sent away either.
            with contextlib.suppress(StoreUnavailable):
                await self._look()

    async def _look(self) -> None:
        if ids := self._relay.token_ids():
            valid = await self._rows.all(sql.tokens.valid, _Id, ids=list(ids))
            for token_id in ids - {one.id for one in valid}:
                self._dismiss(token_id)

    def _dismiss(self, token_id: UUID) -> None:
        self._door.forget(token_id)
        self._relay.dismiss(token_id)


class Doorkeeper:
    """Middleware: no responder is called for whom its route is not meant."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def process_resource(
        self,
        req: Request,
        resp: falcon.asgi.Response,
        resource: object,
        params: dict[str, Any],
    ) -> None:
        await self._let_in(req, params)

    async def process_resource_ws(
        self,
        req: Request,
        ws: falcon.asgi.WebSocket,
        resource: object,
        params: dict[str, Any],
    ) -> None:
        await self._let_in(req, params)

    async def _let_in(self, req: Request, params: dict[str, Any]) -> None:
        need = need_of(req.uri_template or "", req.method)
        req.context.place = params
        try:
            principal = await self._door.principal(req)
        except StoreUnavailable:
            if need.role is not None:
                raise
            return
        if principal is None:
            if need.role is not None:
                raise TokenRequired(f"{req.method} {req.path} needs a token.")
            return
        req.context.principal = principal
        if need.role is not None and not principal.may(need.role):
            raise RoleTooLow(
                f"The token {principal.name} has the role {principal.role};"
                f" {req.method} {req.path} needs the role {need.role}."
            )
        if need.everywhere and principal.hosts is not None:
            raise HostOutsideToken(
                f"The token {principal.name} is limited to some hosts;"
                f" {req.method} {req.path} is about all of them."
            )
        host_id = params.get("host_id")
        if host_id is not None and not principal.sees(host_id):
            raise unknown_host(host_id)
