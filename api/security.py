"""What the OpenAPI document says of who may do what."""

from typing import Final

from api.roles import BY_TICKET, Need
from common.catalogue import Kind
from common.denials import (
    HostOutsideToken,
    InvalidToken,
    RoleTooLow,
    TokenRequired,
    TooManyAttempts,
)

SCHEMES: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "`bin/virtumancer token create NAME --role ROLE` makes one, and"
        " so does `POST /api/tokens`.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "For browsers, out of `POST /api/tickets`: once, within 30 s.",
    },
}


def security(path: str, need: Need) -> list[dict[str, list[str]]]:
    """What has to be shown, and which role that has to have."""
    if need.role is None:
        return [{}, {"token": []}]
    schemes = ["token", "ticket"] if path in BY_TICKET else ["token"]
    return [{scheme: [need.role]} for scheme in schemes]


def refusals(need: Need) -> list[Kind]:
    """What may become of who shows nothing, a wrong token, or too small a one."""
    found: list[Kind] = [InvalidToken, TooManyAttempts]
    if need.role is not None:
        found.append(TokenRequired)
    if need.role in ("operator", "admin"):
        found.append(RoleTooLow)
    if need.everywhere:
        found.append(HostOutsideToken)
    return found
