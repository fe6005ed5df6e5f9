"""What a browser could be made to do by a page from elsewhere, and is not let do.

A page can send requests to any address, and a name of its own can be made to lead to
127.0.0.1 (DNS rebinding). So the names that this service goes by are known, and whoever
says that it is a page must be one of ours. There are no cookies: what a browser sends
by itself opens nothing.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import falcon
import falcon.asgi

from api.contract import (
    CAREFUL,
    CURSOR,
    ETAG,
    LINK,
    LOCATION,
    PREFERENCE_APPLIED,
    REQUEST_ID,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
)
from common.limits import HostNotAllowed, OriginNotAllowed

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
PORTS: Final = {"http": 80, "https": 443}

EXPOSED: Final = (
    *(CURSOR, ETAG, LINK, LOCATION, PREFERENCE_APPLIED),
    *(REQUEST_ID, RETRY_AFTER, WWW_AUTHENTICATE),
)
"""What a page with a configured origin may read."""

_CAREFUL: Final = [(header.name.lower(), str(header.example)) for header in CAREFUL]

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Authority(NamedTuple):
    """Where a request goes, or where a page came from: ``name:port``."""

    name: str
    port: int


class Browsers:
    """Middleware: refuses names that are not ours and pages from elsewhere.

    ``names`` are those of ``Host`` besides loopback's; ``origins`` are pages that may
    ask, as ``https://console.example.org``.
    """

    def __init__(self, names: Collection[str], origins: Collection[str]) -> None:
        self._names = {*LOOPBACK, *(name.lower() for name in names)}
        self._origins = {origin.lower() for origin in origins}

    async def process_request(self, req: Request, resp: Response) -> None:
        self._check(req)

    async def process_request_ws(self, req: Request, ws: falcon.asgi.WebSocket) -> None:
        self._check(req)

    async def process_response(
        self,
        req: Request,
        resp: Response,
        resource: object,
        succeeded: bool,  # noqa: FBT001
    ) -> None:
        said = resp.headers
        resp.set_headers([line for line in _CAREFUL if line[0] not in said])

    def _check(self, req: Request) -> None:
        host = req.get_header("Host")
        if not self._is_ours(host):
            raise HostNotAllowed(
                f"This service does not go by the name {host!r}. Known are"
                f" {', '.join(sorted(self._names))}; more by VIRTUMANCER_HOSTS."
            )
        origin = req.get_header("Origin")
        if origin is not None:
            if not self._may_ask(origin, str(host)):
                raise OriginNotAllowed(
                    f"A page of {origin!r} may not ask here; VIRTUMANCER_ORIGINS says"
                    " whose may."
                )
        elif _is_from_elsewhere(req):
            raise OriginNotAllowed("A page from elsewhere may not ask here.")

    def _is_ours(self, host: str | None) -> bool:
        there = _authority(f"http://{host}") if host else None
        return there is not None and there.name in self._names

    def _may_ask(self, origin: str, host: str) -> bool:
        if origin.lower() in self._origins:
            return True
        scheme, _, _ = origin.partition("://")
        page = _authority(origin)
        return page is not None and page == _authority(f"{scheme}://{host}")


def cors(origins: Collection[str]) -> list[Any]:
    """What lets pages of these origins read the answers; nothing if there are none."""
    if not origins:
        return []
    exposed = [header.name for header in EXPOSED]
    return [falcon.CORSMiddleware(allow_origins=origins, expose_headers=exposed)]


def _is_from_elsewhere(req: Request) -> bool:
    """Whether the browser says so (W3C, Fetch Metadata); a link may be followed."""
    if req.get_header("Sec-Fetch-Site") in (None, "", "same-origin", "none"):
        return False
    return req.method != "GET" or req.get_header("Sec-Fetch-Mode") != "navigate"


@lru_cache(maxsize=64)
def _authority(url: str) -> Authority | None:
    """None if there is more or less to it than a name and a port."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    if not parts.hostname or "@" in parts.netloc or parts[2:] != ("", "", ""):
        return None
    return Authority(parts.hostname, port)
