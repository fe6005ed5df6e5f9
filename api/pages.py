"""Lists in pages: an opaque cursor, and the next page in the Link header (RFC 8288)."""

import base64
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

import falcon
import falcon.asgi
import msgspec

from common.errors import InvalidRequest

T = TypeVar("T")
P = TypeVar("P")


def position(cursor: str | None, kind: type[P]) -> P | None:
    """Where the page begins: after the row with this key."""
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=kind)
    except (msgspec.DecodeError, ValueError):
        raise InvalidRequest(
            "The cursor is not one of ours; begin again without it.", at="?cursor"
        ) from None


def beyond(limit: int | None) -> int | None:
    """How many rows to read, to know whether more follow."""
    return None if limit is None else limit + 1


def page(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    rows: list[T],
    limit: int | None,
    key: Callable[[T], object],
) -> list[T]:
    """The rows of this page; what comes after them is said in the header."""
    if limit is None or len(rows) <= limit:
        return rows
    rows = rows[:limit]
    cursor = base64.urlsafe_b64encode(msgspec.json.encode(key(rows[-1]))).decode()
    following = urlencode({**req.params, "limit": limit, "cursor": cursor})
    resp.set_header("Link", f'<{req.path}?{following}>; rel="next"')
    return rows
