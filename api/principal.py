"""Whose request it is: a token's name, its role, the hosts that it may see."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

import falcon
from msgspec import Struct

from api.roles import RANKS
from common.shapes import Role
from common.tokens import sees, sight_of

Sight = Callable[[str], bool]
"""Whether a client may be told of the host with this id."""


class Principal(Struct, frozen=True):
    """Who asks. ``hosts`` are patterns of ids; None stands for every host."""

    id: UUID | None
    name: str
    role: Role
    hosts: tuple[str, ...] | None = None

    def may(self, role: Role) -> bool:
        return RANKS[self.role] >= RANKS[role]

    def sees(self, host_id: str) -> bool:
        return sees(self.hosts, host_id)

    @property
    def sight(self) -> str | None:
        """The hosts as an expression for SQL; None for every host."""
        return None if self.hosts is None else sight_of(self.hosts)

    @property
    def key(self) -> str:
        """What tells one principal from another, also from an earlier namesake."""
        return str(self.id or self.name)


ANONYMOUS: Final = Principal(None, "anonymous", "admin")
"""Everybody, where no token is asked for."""


def principal_of(req: falcon.Request) -> Principal:
    """Whose request it is; it has been let in."""
    principal: Principal = req.context.principal
    return principal


def known_principal(req: falcon.Request) -> Principal | None:
    """The same for a request that may need nobody, or was not let in."""
    return getattr(req.context, "principal", None)
