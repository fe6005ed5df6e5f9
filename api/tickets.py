"""/api/tickets: what a browser shows where it can send no header."""

from typing import Final

import falcon.asgi

from api.contract import CACHE_CONTROL, Answer, contract
from api.principal import principal_of
from common.changes import AsyncChanges
from common.db import sql
from common.shapes import Ticket
from common.tokens import hash_of, make_secret

TICKET_S: Final = 30

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class Tickets:
    """Tickets, each for one WebSocket or one stream of events."""

    def __init__(self, changes: AsyncChanges) -> None:
        self._changes = changes

    @contract(
        "Get a ticket for a WebSocket or a stream",
        answers={200: Answer(Ticket, headers=(CACHE_CONTROL,))},
        keyed=False,
    )
    async def on_post(self, req: Request, resp: Response) -> None:
        """Open `/ws?ticket=…` or `/api/events?ticket=…` with it, once and soon. A
        browser's event source that reconnects by itself shows the same ticket again
        and is refused: open a new one, with a new ticket and `since`."""
        ticket = make_secret()
        principal = principal_of(req)
        if principal.id is not None:
            row = {"secret": hash_of(ticket), "token_id": principal.id}
            async with self._changes.begin() as change:
                await change.run(sql.tokens.add_ticket, **row, left_s=TICKET_S)
        resp.cache_control = ["no-store"]
        resp.media = Ticket(ticket=ticket, expires_in_s=TICKET_S)
