"""From the request line to a route: paths as they were sent, and the request's id.

ASGI hands over a decoded path, in which a name's own slash looks like any other. So
routes are found by the encoded path, and each segment is decoded when it is matched.
"""

import re
import time
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import falcon.asgi
import structlog
from falcon.routing import BaseConverter
from uuid_utils import uuid7

from api.principal import known_principal

# Kept, so that it is put together once and not for each line.
_LOG: Final = structlog.get_logger()
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_QUERY_CHARACTERS = "".join(map(chr, range(0x21, 0x7F)))


class Request(falcon.asgi.Request):
    """A request that is routed by its encoded path."""

    def __init__(self, scope: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        scope = scope | {"path": _normal(scope["raw_path"])}
        if query := scope["query_string"]:
            scope["query_string"] = quote(query, safe=_QUERY_CHARACTERS).encode()
        if scope.get("method") == "HEAD":
            # Answered like GET; the server leaves the body out (RFC 9110, 9.3.2).
            scope["method"] = "GET"
        super().__init__(scope, *args, **kwargs)


@lru_cache(maxsize=200)
def _normal(raw_path: bytes) -> str:
    """The path with each byte spelled in one way only (RFC 3986, 6.2.2.2)."""
    return "/".join(quote(unquote_to_bytes(s), safe="") for s in raw_path.split(b"/"))


class Segment(BaseConverter):
    """One segment of a path, decoded; one that is no text fits no route."""

    def convert(self, value: str) -> str | None:
        try:
            text = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else text


class RequestIds:
    """Gives every request an id, and writes one line about it when it is answered."""

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        self._begin(req)
        resp.set_header("X-Request-ID", req.context.request_id)

    async def process_request_ws(
        self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket
    ) -> None:
        self._begin(req)

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        succeeded: bool,  # noqa: FBT001
    ) -> None:
        _LOG.info(
            "request",
            method=req.method,
            path=req.path,
            status=resp.status_code,
            ms=round((time.monotonic() - req.context.began_s) * 1000, 1),
            by=who.name if (who := known_principal(req)) else None,
        )

    def _begin(self, req: falcon.asgi.Request) -> None:
        given = req.get_header("X-Request-ID") or ""
        req.context.request_id = given if _REQUEST_ID.fullmatch(given) else uuid7().hex
        req.context.began_s = time.monotonic()
        structlog.contextvars.bind_contextvars(request=req.context.request_id)
