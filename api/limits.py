"""How much one web process does at a time, and for one token."""

import contextlib
from collections import Counter
from collections.abc import Iterator

import falcon.asgi

from api.principal import Principal
from common.limits import TooBusy, TooManySockets

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Limits:
    """Middleware that counts requests until they are answered, and a count of sockets.

    An event stream is a request until it begins, and a socket from then on.
    """

    def __init__(self, most_requests: int, most_sockets: int) -> None:
        self._most_requests = most_requests
        self._most_sockets = most_sockets
        self._requests = 0
        self._sockets: Counter[str] = Counter()

    async def process_request(self, req: Request, resp: Response) -> None:
        if self._requests >= self._most_requests:
            raise TooBusy("This process answers as many requests as it may at a time.")
        self._requests += 1
        req.context.is_counted = True

    async def process_response(
        self,
        req: Request,
        resp: Response,
        resource: object,
        succeeded: bool,  # noqa: FBT001
    ) -> None:
        if getattr(req.context, "is_counted", False):
            self._requests -= 1

    def check(self, principal: Principal) -> None:
        """Raise TooManySockets if this token may open no other one."""
        if self._sockets[principal.key] >= self._most_sockets:
            raise TooManySockets(
                f"{principal.name} has {self._most_sockets} WebSockets and event"
                " streams open here, which is as many as it may."
            )

    @contextlib.contextmanager
    def socket(self, principal: Principal) -> Iterator[None]:
        """One socket, while it is open."""
        self._sockets[principal.key] += 1
        try:
            yield
        finally:
            self._sockets[principal.key] -= 1
            if not self._sockets[principal.key]:
                del self._sockets[principal.key]
