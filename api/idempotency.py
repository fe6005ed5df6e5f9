"""``Idempotency-Key``: the same request again gives the same answer and acts once.

The key is a row, written in the transaction that writes the task. Whoever asks again,
at any web process, is answered from that row and from how the task ended. What was
refused before it became a task has left no row and is looked at afresh.
"""

import re
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import falcon.asgi
import msgspec
from msgspec import Struct

from api.ended import UNFINISHED, answer_with
from api.http import read
from api.principal import principal_of
from common.changes import AsyncChange
from common.db import AsyncReader, sql
from common.errors import InvalidRequest, KeyInFlight, KeyReused
from common.shapes import Task

MUTATIONS: Final = ("POST", "PUT", "PATCH", "DELETE")

# Structured headers (RFC 8941) write a text with quotes, most clients without.
_KEY = re.compile(r'"?([!#-~]{1,255})"?')


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request would claim: whose key at which route, and what was asked."""

    requested_by: str
    route: str
    key: str
    asked: bytes


class Answered(Struct, frozen=True):
    """The answer of a mutation that needed no task."""

    status: int
    body: Any = None


class _Known(Struct, frozen=True):
    asked: bytes
    task_id: UUID | None
    answer: Answered | None


class ExactlyOnce:
    """Middleware: a key that is known is answered here, and no responder is called."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        params: dict[str, Any],
    ) -> None:
        if req.method not in MUTATIONS:
            return
        given = req.get_header("Idempotency-Key")
        if given is None:
            return
        claim = await _claim_of(req, given)
        where = {"requested_by": claim.requested_by, "route": claim.route}
        known = await self._rows.one(
            sql.idempotency.known, _Known, key=claim.key, **where
        )
        if known is None:
            req.context.claim = claim
            return
        if known.asked != claim.asked:
            raise KeyReused(f"The key {claim.key} came with another body before.")
        await self._answer(resp, known)
        resp.complete = True

    async def _answer(self, resp: falcon.asgi.Response, known: _Known) -> None:
        if known.answer is not None:
            resp.status = known.answer.status
            if known.answer.body is not None:
                resp.media = known.answer.body
            return
        task = await self._rows.one(sql.tasks.get, Task, id=known.task_id)
        if task is None or task.state in UNFINISHED:
            raise _in_flight(known.task_id)
        answer_with(resp, task)


def has_key(req: falcon.asgi.Request) -> bool:
    """Whether the request is to be done exactly once."""
    return getattr(req.context, "claim", None) is not None


async def claim(
    change: AsyncChange,
    req: falcon.asgi.Request,
    task_id: UUID | None = None,
    answer: Answered | None = None,
) -> None:
    """Write the request's key, if it has one, into the transaction of what it does.

    Raises KeyInFlight when the same request was faster.
    """
    wanted: Claim | None = getattr(req.context, "claim", None)
    if wanted is None:
        return
    row = asdict(wanted)
    kept = answer and msgspec.json.encode(answer).decode()
    if await change.one(
        sql.idempotency.claim, dict, **row, task_id=task_id, answer=kept
    ):
        return
    known = await change.one(sql.idempotency.known, _Known, **row)
    if known and known.asked != wanted.asked:
        raise KeyReused(f"The key {wanted.key} has just come with another body.")
    raise _in_flight(known.task_id if known else None)


def _in_flight(task_id: UUID | None) -> KeyInFlight:
    if task_id is None:
        return KeyInFlight("The same request is just being answered; ask again.")
    return KeyInFlight(
        "What this key asked for is under way. Wait for it at"
        f" GET /api/tasks/{task_id}?wait=30, then ask again for the answer.",
        task=task_id,
    )


async def _claim_of(req: falcon.asgi.Request, given: str) -> Claim:
    key = _KEY.fullmatch(given.strip())
    if key is None:
        raise InvalidRequest(
            "Idempotency-Key is 1 to 255 visible ASCII characters.",
            at="Idempotency-Key",
        )
    asked = f"{req.query_string}\n".encode() + _canonical(await read(req))
    digest = blake2b(asked, digest_size=16).digest()
    return Claim(principal_of(req).key, f"{req.method} {req.path}", key[1], digest)


def _canonical(body: bytes) -> bytes:
    """JSON that says the same is the same body, however it is spelled."""
    try:
        said = msgspec.json.decode(body)
        return msgspec.json.encode(said, order="deterministic")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
