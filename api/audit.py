"""What a request leaves in the audit: who, from where, what. Rows that stay.

What writes a task is noted by the statement that writes it (``origin_of``), and its end
by the database. What changes something without a task says so itself (``noted``).
"""

from typing import Any, Final
from uuid import UUID

import falcon
import msgspec
from msgspec import Struct

from api.principal import known_principal
from api.roles import route_of
from common.changes import AsyncChange
from common.db import sql
from common.shapes import AuditEvent

MOST_DETAIL: Final = 1000
"""Characters of what was asked for that are kept."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the audit, as far as a request knows it."""

    event: AuditEvent
    token_id: UUID | None = None
    token: str | None = None
    address: str | None = None
    request_id: str | None = None
    method: str | None = None
    route: str | None = None
    action: str | None = None
    host_id: str | None = None
    vm_uuid: UUID | None = None
    vm_name: str | None = None
    task_id: UUID | None = None
    status: int | None = None
    problem: str | None = None
    detail: str | None = None
    times: int = 1


def entry_of(req: falcon.Request, event: AuditEvent, **facts: Any) -> Entry:
    """Who asks, from where, for what."""
    principal = known_principal(req)
    return Entry(
        event=event,
        token_id=principal.id if principal else None,
        token=principal.name if principal else None,
        address=req.remote_addr,
        request_id=req.context.request_id,
        method=req.method,
        route=req.uri_template and route_of(req.uri_template),
        **facts,
    )


def origin_of(req: falcon.Request, detail: str | None) -> str:
    """What the statements that write a task take."""
    detail = detail and detail[:MOST_DETAIL]
    return msgspec.json.encode(entry_of(req, "asked", detail=detail)).decode()


async def noted(
    change: AsyncChange, req: falcon.Request, action: str, status: int, **facts: Any
) -> None:
    """Note in its own transaction what a request changes."""
    entry = entry_of(req, "done", action=action, status=status, **facts)
    await change.run(sql.audit.add, entries=encoded([entry]))


def encoded(entries: list[Entry]) -> str:
    return msgspec.json.encode(entries).decode()
