"""Who may come in, and what for."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

Role = Literal["viewer", "operator", "admin"]
TokenName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        description="What it is called wherever something was done with it.",
    ),
]
HostPattern = Annotated[
    str,
    Meta(
        pattern=r"\A([A-Za-z0-9._*?-]|\[!?[A-Za-z0-9._-]+\]){1,64}\Z",
        description="A host's id, in which `*`, `?` and `[…]` stand for others.",
    ),
]
TEN_YEARS_S = 315_360_000


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token, and how far it is to reach."""

    name: TokenName
    role: Annotated[
        Role,
        Meta(
            description="`viewer` reads and listens, `operator` also acts on VMs,"
            " `admin` also manages hosts and tokens."
        ),
    ]
    hosts: (
        Annotated[
            list[HostPattern],
            Meta(
                min_length=1,
                max_length=100,
                description="Only hosts that one of these patterns fits; all without.",
            ),
        ]
        | None
    ) = None
    expires_in_s: (
        Annotated[
            int,
            Meta(ge=1, le=TEN_YEARS_S, description="Valid for so long."),
        ]
        | None
    ) = None


class Token(Struct, frozen=True, kw_only=True):
    """A token without its secret, which is not kept. Times are null for never."""

    id: UUID
    name: str
    role: Role
    hosts: list[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class MadeToken(Token, frozen=True, kw_only=True):
    """A new token. Its secret is told this once; a repeated request gets null."""

    secret: str | None


AuditEvent = Literal["asked", "ended", "done", "refused", "outside"]


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One thing that happened. Nobody changes it afterwards.

    `asked`: a request began a task; `ended`: that task, or a child of it, ended in
    `outcome`. `done`: a request changed something at once. `refused`: a request was
    turned away; of many, the rest are counted in `times`. `outside`: a look found a
    change that nobody had asked for here.
    """

    id: int
    at: datetime
    event: AuditEvent
    token_id: UUID | None
    token: str | None
    address: str | None
    request_id: str | None
    method: str | None
    route: str | None
    action: str | None
    host_id: str | None
    vm_uuid: UUID | None
    vm_name: str | None
    task_id: UUID | None
    outcome: str | None
    status: int | None
    problem: str | None
    detail: str | None
    times: int


class Ticket(Struct, frozen=True, kw_only=True):
    """Opens one WebSocket or stream, once, with the rights of the token behind it."""

    ticket: str
    expires_in_s: int
