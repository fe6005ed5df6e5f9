"""The header that says beside a list from where on to subscribe."""

import falcon.asgi

from api.contract import CURSOR, contract_of
from api.news import News


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
        promised = contract_of(getattr(resource, "on_get", None))
        if (
            req.method == "GET"
            and promised
            and 200 in promised.answers
            and CURSOR in promised.answers[200].headers
        ):
            # Taken before the list is read, so that nothing falls in between.
            resp.set_header(CURSOR.name, (await self._news.recent()).cursor())
