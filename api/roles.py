"""Which route needs which role: the one table of it.

Whoever may do more may also do less. A route that is not here cannot be served.
"""

import re
from functools import cache
from typing import Final, NamedTuple

from common.shapes import Role

RANKS: Final[dict[Role, int]] = {"viewer": 1, "operator": 2, "admin": 3}


class Need(NamedTuple):
    """What a request has to bring; no role is what anybody may do.

    ``everywhere``: only a token that is not limited to some hosts will do.
    """

    role: Role | None
    everywhere: bool = False


PUBLIC: Final = Need(None)
VIEWER: Final = Need("viewer")
OPERATOR: Final = Need("operator")
ADMIN: Final = Need("admin")
ADMIN_OF_ALL: Final = Need("admin", everywhere=True)

NEEDS: Final[dict[str, dict[str, Need]]] = {
    "/api/hosts": {"GET": VIEWER, "POST": ADMIN},
    "/api/hosts/check": {"POST": ADMIN},
    "/api/hosts/{host_id}": {"GET": VIEWER, "PATCH": ADMIN, "DELETE": ADMIN},
    "/api/hosts/{host_id}/connect": {"POST": ADMIN},
    "/api/hosts/{host_id}/disconnect": {"POST": ADMIN},
    "/api/hosts/{host_id}/sync": {"POST": OPERATOR},
    "/api/hosts/{host_id}/info": {"GET": VIEWER},
    "/api/hosts/{host_id}/vms": {"GET": VIEWER},
    "/api/hosts/{host_id}/vms/{vm}": {"GET": VIEWER, "PATCH": OPERATOR},
    "/api/hosts/{host_id}/vms/{vm}/hardware": {"GET": VIEWER},
    "/api/hosts/{host_id}/vms/{vm}/action": {"POST": OPERATOR},
    "/api/vms": {"GET": VIEWER},
    "/api/actions": {"POST": OPERATOR},
    "/api/overview": {"GET": VIEWER},
    "/api/tasks": {"GET": VIEWER},
    "/api/tasks/{task_id}": {"GET": VIEWER, "DELETE": OPERATOR},
    "/api/events": {"GET": VIEWER},
    "/ws": {"GET": VIEWER},
    "/api/audit": {"GET": ADMIN_OF_ALL},
    "/api/tickets": {"POST": VIEWER},
    "/api/tokens": {"GET": ADMIN_OF_ALL, "POST": ADMIN_OF_ALL},
    "/api/tokens/{token}": {"DELETE": ADMIN_OF_ALL},
    "/metrics": {"GET": VIEWER},
    # A probe has no token; what it is told without one is a single word.
    "/api/health": {"GET": PUBLIC},
    # The same in every installation, and in the sources of this program.
    "/api/docs": {"GET": PUBLIC},
    "/api/docs/{file}": {"GET": PUBLIC},
    "/api/openapi.json": {"GET": PUBLIC},
    "/api/asyncapi.json": {"GET": PUBLIC},
    "/api/problems": {"GET": PUBLIC},
    "/api/problems/{kind}": {"GET": PUBLIC},
}

BY_TICKET: Final = ("/ws", "/api/events")
"""Where a browser can send no header: a ticket in the URL will do instead."""

_CONVERTER: Final = re.compile(r":\w+(?=\})")


def need_of(template: str, method: str) -> Need:
    """What a route needs. A method that it does not have is refused by the router, of
    which nobody without a token has to know."""
    if method == "OPTIONS":
        return PUBLIC  # A browser asks first, without a token, what it may ask (CORS).
    return NEEDS[route_of(template)].get(method, VIEWER)


@cache
def route_of(template: str) -> str:
    """A route as the table has it: ``/api/hosts/{host_id}``."""
    return _CONVERTER.sub("", template)
