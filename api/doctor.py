"""/api/hosts/check: the way to a host, step by step, before it is saved."""

import falcon.asgi

from api.contract import contract
from api.http import body
from api.outcome import Order, Outcomes, answer
from api.principal import may_reach, principal_of
from common import uri
from common.denials import HostOutsideToken
from common.errors import UriNotAllowed, VirtumancerError
from common.shapes import CheckHost, HostCheck, Task
from common.uri_policy import UriPolicy

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class HostDoctor:
    """What is wrong with the way to a host, and how to put it right."""

    def __init__(self, outcomes: Outcomes, policy: UriPolicy) -> None:
        self._outcomes = outcomes
        self._policy = policy

    @contract(
        "Check the way to a host",
        answers={200: HostCheck},
        body=CheckHost,
        waits=True,
        problems=(UriNotAllowed, HostOutsideToken),
    )
    async def on_post(self, req: Request, resp: Response) -> None:
        """Tried from a worker, in this order, up to the first that fails: `dns`, `tcp`,
        `tls` or `host-key` and `ssh`, `socket`, `libvirt`, `kvm`. Each that is not `ok`
        has a `fix`, the exact thing to do. A key that is not known is shown and not
        trusted: compare it, and pin it with the `fix`."""
        asked = await body(req, CheckHost)
        address = uri.parse(asked.uri, self._policy)
        # A lane of its own: who does not answer delays no other check.
        name = asked.id or address.host or "localhost"
        may_reach(principal_of(req), name)
        order = Order("check", "look", name, uri=str(address))
        answer(resp, req, await self._outcomes.of_new(req, order, _impossible))


def _impossible(task: Task | None) -> VirtumancerError:
    return VirtumancerError("A check keeps no other from being made.")
