"""/api/audit: who did what to which VM, from where, and how it ended."""

from datetime import datetime

import falcon.asgi
import msgspec

from api.contract import contract
from api.http import query
from api.inventory import uuid_of
from api.pages import beyond, page, position
from common.db import AsyncReader, sql
from common.errors import InvalidRequest
from common.shapes import AuditEntry
from common.shapes.parameters import AuditSearch
from common.shapes.resources import DbId

PAGE = 100

Request = falcon.asgi.Request
Response = falcon.asgi.Response


def _instant(text: str | None, at: str) -> datetime | None:
    try:
        return msgspec.convert(text, datetime | None)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.", at=at) from None


class AuditLog:
    """What was done, asked for, refused, or found done by others."""

    def __init__(self, rows: AsyncReader) -> None:
        self._rows = rows

    @contract("Read the audit", answers={200: list[AuditEntry]}, query=AuditSearch)
    async def on_get(self, req: Request, resp: Response) -> None:
        asked = query(req, AuditSearch)
        limit = asked.limit or PAGE
        found = await self._rows.all(
            sql.audit.list,
            AuditEntry,
            before=position(asked.cursor, DbId),
            token=asked.token,
            host=asked.host,
            vm=asked.vm,
            vm_uuid=uuid_of(asked.vm or ""),
            event=asked.event,
            action=asked.action,
            task=asked.task,
            since=_instant(asked.since, "?since"),
            until=_instant(asked.until, "?until"),
            limit=beyond(limit),
        )
        resp.media = page(req, resp, found, limit, lambda entry: entry.id)
