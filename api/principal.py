"""Whose request it is: a token's name, its role, the hosts that it may see."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final
from uuid import UUID

import falcon
from msgspec import Struct

from api.roles import RANKS
from common.denials import HostOutsideToken
from common.shapes import Role
from common.tokens import sees, sight_of

MANY: Final = "*"
"""Stands for the host of a task about many; no host has this id."""

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
        return None if self.hosts is None else _sight_of(self.hosts)

    @property
    def key(self) -> str:
        """What tells one principal from another, also from an earlier namesake."""
        return str(self.id or self.name)


@lru_cache(maxsize=1000)
def _sight_of(patterns: tuple[str, ...]) -> str:
    sight = sight_of(patterns)
    assert sight, "a pattern that fits nothing is no token's"
    return sight


ANONYMOUS: Final = Principal(None, "anonymous", "admin")
"""Everybody, where no token is asked for."""


def may_reach(principal: Principal, host_id: str) -> None:
    """Raise HostOutsideToken where a host that they name is none of theirs.

    It is said whether or not there is one, so it tells nothing.
    """
    if not principal.sees(host_id):
        patterns = ", ".join(principal.hosts or ())
        raise HostOutsideToken(
            f"The token {principal.name} is for hosts called {patterns}, and not for"
            f" {host_id}."
        )


def principal_of(req: falcon.Request) -> Principal:
    """Whose request it is; it has been let in."""
    principal: Principal = req.context.principal
    return principal


def known_principal(req: falcon.Request) -> Principal | None:
    """The same for a request that may need nobody, or was not let in."""
    return getattr(req.context, "principal", None)
