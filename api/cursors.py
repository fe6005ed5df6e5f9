"""The header that says beside a list from where on to subscribe."""

from functools import cache
from typing import Any

import falcon.asgi

from api.contract import CURSOR, contract_of
from api.news import News


@cache
def _is_promised(responder: Any) -> bool:
    promised = contract_of(responder)
    if promised is None or 200 not in promised.answers:
        return False
    return CURSOR in promised.answers[200].headers


class CursorHeader:
    """Says beside a list from where on to subscribe, so that nothing is missed."""

    def __init__(self, news: News) -> None:
        self._news = news

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        params: dict[str, object],
    ) -> None:
        if req.method == "GET" and _is_promised(getattr(resource, "on_get", None)):
            # Taken before the list is read, so that nothing falls in between.
            resp.set_header(CURSOR.name, await self._news.recent())
