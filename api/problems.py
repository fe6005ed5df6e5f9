"""Every failure leaves as a problem (RFC 9457), whoever raised it.

On a WebSocket a failure closes the socket; before the handshake it is answered.
"""

import contextlib
from typing import Any

import falcon
import falcon.asgi
import msgspec
import structlog

from api.contract import CURSOR
from api.handshake import refuse
from common.errors import (
    HostUnreachable,
    InvalidRequest,
    MethodNotAllowed,
    UnknownPath,
    VirtumancerError,
    problem_of,
)
from common.shapes import Problem, Task

INTERNAL_ERROR = 1011
CHALLENGES = {
    "/api/problems/token-required": 'Bearer realm="virtumancer"',
    "/api/problems/invalid-token": 'Bearer realm="virtumancer", error="invalid_token"',
    "/api/problems/role-too-low": 'Bearer realm="virtumancer",'
    ' error="insufficient_scope"',
}
"""The header WWW-Authenticate (RFC 6750, 3)."""

WebSocket = falcon.asgi.WebSocket | None


class TaskFailed(Exception):
    """A task ended badly; its stored problem is the answer."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.problem)
        self.problem = task.problem or problem_of(
            VirtumancerError("The task failed without saying why.")
        )
        self.problem = msgspec.structs.replace(self.problem, task=task.id)


def install(app: "falcon.asgi.App[Any, Any]") -> None:
    app.add_error_handler(VirtumancerError, _answer_ours)
    app.add_error_handler(TaskFailed, _answer_task)
    app.add_error_handler(falcon.HTTPError, _answer_falcons)
    app.add_error_handler(Exception, _answer_unexpected)


async def _answer_ours(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: VirtumancerError,
    params: dict[str, Any],
    ws: WebSocket = None,
) -> None:
    await _answer(req, problem_of(error), error.retry_after_s, resp, ws)


async def _answer_task(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: TaskFailed,
    params: dict[str, Any],
    ws: WebSocket = None,
) -> None:
    busy = error.problem.status == HostUnreachable.status
    retry_after_s = HostUnreachable.retry_after_s if busy else None
    await _answer(req, error.problem, retry_after_s, resp, ws)


async def _answer_falcons(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: falcon.HTTPError,
    params: dict[str, Any],
    ws: WebSocket = None,
) -> None:
    ours: VirtumancerError
    if isinstance(error, falcon.HTTPNotFound):
        ours = UnknownPath(f"There is nothing at {req.path}.")
    elif isinstance(error, falcon.HTTPMethodNotAllowed):
        ours = MethodNotAllowed(f"{req.method} is not possible at {req.path}.")
    else:
        ours = InvalidRequest(error.description or error.title or "No such request.")
    if resp is not None:
        resp.set_headers(error.headers or {})
    await _answer(req, problem_of(ours), None, resp, ws)


async def _answer_unexpected(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: Exception,
    params: dict[str, Any],
    ws: WebSocket = None,
) -> None:
    structlog.get_logger().error("unexpected", path=req.path, exc_info=error)
    problem = problem_of(
        VirtumancerError(
            "Something went wrong here that nobody foresaw. The log of the web process"
            f" says more under the request id {req.context.request_id}."
        )
    )
    await _answer(req, problem, None, resp, ws)


async def _answer(
    req: falcon.asgi.Request,
    problem: Problem,
    retry_after_s: int | None,
    resp: falcon.asgi.Response | None,
    ws: WebSocket,
) -> None:
    req.context.problem = problem.type
    body = msgspec.json.encode(problem)
    headers = {"Content-Type": "application/problem+json"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if challenge := CHALLENGES.get(problem.type):
        headers["WWW-Authenticate"] = challenge
    if resp is not None:
        resp.status = problem.status
        resp.data = body
        # Nothing was listed that one could go on from.
        resp.delete_header(CURSOR.name)
        resp.set_headers(headers)
    if ws is not None:
        headers["X-Request-ID"] = req.context.request_id
        refuse(req.scope, problem.status, headers, body)
        if problem.status < 500:
            await req.context.refused(req, problem.status, problem.type)
        with contextlib.suppress(OSError, falcon.WebSocketDisconnected):
            await ws.close(INTERNAL_ERROR)
