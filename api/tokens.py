"""/api/tokens: who may come in. A secret is told once and kept nowhere."""

from uuid import UUID

import falcon.asgi
from msgspec.structs import asdict

from api.audit import noted
from api.contract import CACHE_CONTROL, Answer, contract
from api.http import body, query
from api.idempotency import Answered, claim
from api.inventory import uuid_of
from api.pages import beyond, page, position
from api.principal import principal_of
from common import bus
from common.changes import AsyncChanges
from common.db import AsyncReader, sql
from common.denials import TokenNameTaken, UnknownToken
from common.shapes import MadeToken, NewToken, Token
from common.shapes.parameters import Paging
from common.tokens import described, make_secret, row_of

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Tokens:
    """All tokens, also those that were revoked or have expired."""

    def __init__(self, rows: AsyncReader, changes: AsyncChanges) -> None:
        self._rows = rows
        self._changes = changes

    @contract("List the tokens", answers={200: list[Token]}, query=Paging)
    async def on_get(self, req: Request, resp: Response) -> None:
        asked = query(req, Paging)
        found = await self._rows.all(
            sql.tokens.list,
            Token,
            after=position(asked.cursor, UUID),
            limit=beyond(asked.limit),
        )
        resp.media = page(req, resp, found, asked.limit, lambda token: token.id)

    @contract(
        "Make a token",
        answers={200: Answer(MadeToken, headers=(CACHE_CONTROL,))},
        body=NewToken,
        problems=(TokenNameTaken,),
    )
    async def on_post(self, req: Request, resp: Response) -> None:
        """Its `secret` is in this answer and nowhere else: who loses it makes another
        token. The same request with the same `Idempotency-Key` is answered without."""
        new = await body(req, NewToken)
        secret = make_secret()
        row = row_of(new, secret, principal_of(req).name)
        async with self._changes.begin() as change:
            token = await change.one(sql.tokens.add, Token, **row)
            if token is None:
                raise TokenNameTaken(f"There is a token {new.name} that is in use.")
            facts = asdict(token)
            await noted(change, req, "token-create", 200, detail=described(token))
            await claim(
                change, req, answer=Answered(200, MadeToken(**facts, secret=None))
            )
        resp.cache_control = ["no-store"]
        resp.media = MadeToken(**facts, secret=secret)


class OneToken:
    """One token."""

    def __init__(self, changes: AsyncChanges) -> None:
        self._changes = changes

    @contract("Revoke a token", answers={204: None})
    async def on_delete(self, req: Request, resp: Response, token: str) -> None:
        """By its id, or by its name while it is in use. It opens nothing any more, and
        what it has opened is closed within seconds."""
        where = {"id": uuid_of(token), "name": token}
        async with self._changes.begin() as change:
            revoked = await change.one(sql.tokens.revoke, Token, **where)
            if revoked is None:
                raise UnknownToken(f"There is no token {token}.")
            await claim(change, req, answer=Answered(204))
            change.publish(bus.token_revoked(revoked.id))
            await noted(change, req, "token-revoke", 204, detail=described(revoked))
        resp.status = 204
