"""How long each request took, for /metrics."""

import time
from functools import cache
from typing import Any

import falcon
import falcon.asgi

from api.roles import route_of
from common import metrics


@cache
def _seconds_of(route: str, method: str, status: int) -> Any:
    return metrics.REQUEST_SECONDS.labels(route, method, status)


def route_and_method(req: falcon.Request) -> tuple[str, str]:
    """What a request asks for, in few words that nobody can add to."""
    # Anybody may send a word of his own for a method.
    method = req.method if req.method in falcon.HTTP_METHODS else "other"
    return route_of(req.uri_template or "") or "none", method


class Measures:
    """Stands before everything else, so that all of a request is measured."""

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        req.context.measured_s = time.monotonic()

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        succeeded: bool,  # noqa: FBT001
    ) -> None:
        route, method = route_and_method(req)
        seconds = time.monotonic() - req.context.measured_s
        _seconds_of(route, method, resp.status_code).observe(seconds)
