"""How long each request took, for /metrics, and the span that its trace begins with."""

import contextlib
import re
import time
from functools import cache
from typing import Any, Final

import falcon
import falcon.asgi

from common import metrics, tracing

_CONVERTER: Final = re.compile(r":\w+(?=\})")


@cache
def _route_of(template: str) -> str:
    return _CONVERTER.sub("", template) or "none"


@cache
def _seconds_of(route: str, method: str, status: int) -> Any:
    return metrics.REQUEST_SECONDS.labels(route, method, status)


class Measures:
    """Stands before everything else, so that all of a request is measured."""

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        req.context.measured_s = time.monotonic()
        req.context.span = contextlib.ExitStack()
        parent = req.get_header("traceparent")
        req.context.span.enter_context(tracing.begin("HTTP", "server", parent))

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        succeeded: bool,  # noqa: FBT001
    ) -> None:
        route = _route_of(req.uri_template or "")
        # Anybody may send a word of his own for a method.
        method = req.method if req.method in falcon.HTTP_METHODS else "other"
        seconds = time.monotonic() - req.context.measured_s
        _seconds_of(route, method, resp.status_code).observe(seconds)
        with req.context.span:
            tracing.describe(
                f"{method} {route}",
                **{
                    "http.request.method": method,
                    "http.route": route,
                    "http.response.status_code": resp.status_code,
                    "virtumancer.request": req.context.request_id,
                },
            )
