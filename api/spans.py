"""The span that the trace of a request begins with."""

import contextlib

import falcon.asgi

from api.measures import route_and_method
from common import tracing


class Spans:
    """Middleware where traces are on; stands before whatever is to be in the span."""

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
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
        route, method = route_and_method(req)
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
