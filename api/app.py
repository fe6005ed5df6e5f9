"""The web process's composition root: settings in, collaborators built, app out."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import falcon.asgi
import falcon.media
import msgspec
import structlog

from api import docs, problems
from api.actions import FleetActions
from api.attempts import Attempts
from api.audit_log import AuditLog
from api.auth import Door, Doorkeeper, LockedDoor, OpenDoor, Rounds
from api.browsers import Browsers, cors
from api.cursors import CursorHeader
from api.doctor import HostDoctor
from api.etags import ETags
from api.handshake import Handshake
from api.health import HealthCheck
from api.host_links import HostConnect, HostDisconnect, HostSync
from api.hosts import HostInformation, Hosts, OneHost
from api.idempotency import ExactlyOnce
from api.inventory import Inventory
from api.limits import Limits
from api.listings import Listings
from api.live import Events, Sockets
from api.long_lived import set_aside
from api.measures import Measures
from api.news import News
from api.openapi import Routes
from api.outcome import Outcomes
from api.relay import Relay
from api.routing import Request, RequestIds, Segment
from api.scrape import Metrics
from api.search import FleetOverview, Vms
from api.spans import Spans
from api.subscriptions import Tail
from api.tasks import OneTask, Tasks
from api.throttle import Throttle
from api.tickets import Tickets
from api.tokens import OneToken, Tokens
from api.vms import HostVms, OneVm, VmAction, VmHardwares
from common import bus, measurements, tracing
from common.changes import AsyncChanges
from common.db import AsyncPool, AsyncReader, make_async_pool
from common.errors import StoreUnavailable
from common.queue import Queue, WakeBroker
from common.settings import Settings
from common.uri_policy import UriPolicy

LINK_S = 2
"""At the start, Redis gets so long to answer before requests are served without it."""
LAST_S = 1
"""What is to be written at the end gets so long."""
GONE_S = 2
"""Sockets and streams get so long to go when the process ends."""

App = falcon.asgi.App[Any, Any]


class Web:
    """The collaborators of the web process, wired; ``app`` is what is served."""

    def __init__(self, settings: Settings) -> None:
        self._pool: AsyncPool = make_async_pool(settings.database_url, "web")
        self._bell_threads = ThreadPoolExecutor(4, thread_name_prefix="bell")
        publisher = bus.AsyncBus(bus.connect_async(settings.redis_url))
        rows = AsyncReader(self._pool)
        queue = Queue(WakeBroker(settings.redis_url))
        changes = AsyncChanges(self._pool, publisher, queue, self._bell_threads)
        self._changes = changes
        self._relay = Relay(bus.connect_async(settings.redis_url), publisher, rows)
        door: Door = OpenDoor()
        self._rounds: list[Rounds] = []
        if settings.virtumancer_auth == "tokens":
            door = locked = LockedDoor(rows, Throttle())
            self._rounds = [Rounds(rows, self._relay, locked)]
        news = News(rows)
        self._tail = Tail(news, self._relay.bell)
        outcomes = Outcomes(changes, rows, self._relay, settings.virtumancer_wait_s)
        inventory = Inventory(rows)
        policy = UriPolicy.of(settings)
        limits = Limits(
            settings.virtumancer_max_requests, settings.virtumancer_max_sockets
        )

        host = "/api/hosts/{host_id:segment}"
        vm = f"{host}/vms/{{vm:segment}}"
        ROUTES: dict[str, object] = {
            "/api/hosts": Hosts(rows, inventory, outcomes, policy),
            "/api/hosts/check": HostDoctor(outcomes, policy),
            host: OneHost(changes, inventory, outcomes, policy),
            f"{host}/connect": HostConnect(changes),
            f"{host}/disconnect": HostDisconnect(changes),
            f"{host}/sync": HostSync(inventory, outcomes),
            f"{host}/info": HostInformation(inventory, outcomes),
            f"{host}/vms": HostVms(Listings(rows)),
            vm: OneVm(inventory, outcomes),
            f"{vm}/hardware": VmHardwares(rows, inventory, outcomes),
            f"{vm}/action": VmAction(inventory, outcomes),
            "/api/vms": Vms(rows),
            "/api/actions": FleetActions(
                rows, outcomes, settings.virtumancer_actions_per_host
            ),
            "/api/overview": FleetOverview(rows),
            "/api/tasks": Tasks(rows),
            "/api/tasks/{task_id:segment}": OneTask(rows, changes, outcomes),
            "/api/health": HealthCheck(rows, publisher),
            "/api/events": Events(self._relay, inventory, self._tail, limits),
            "/ws": Sockets(self._relay, inventory, self._tail, limits),
            "/api/audit": AuditLog(rows),
            "/api/tickets": Tickets(changes),
            "/api/tokens": Tokens(rows, changes),
            "/api/tokens/{token:segment}": OneToken(changes),
            "/metrics": Metrics(rows, publisher),
            "/api/docs": docs.DocsPage(),
            "/api/docs/{file:segment}": docs.DocsFile(),
            "/api/asyncapi.json": docs.AsyncApi(),
            "/api/problems": docs.ProblemTypes(),
            "/api/problems/{kind:segment}": docs.OneProblemType(),
        }
        ROUTES["/api/openapi.json"] = docs.OpenApi(ROUTES)
        self.routes: Routes = ROUTES
        origins = settings.origins
        self._attempts = Attempts(changes)
        app = _app(
            *(self, self._attempts, limits),
            *(Browsers(settings.hosts, origins), *cors(origins)),
            *(Doorkeeper(door), CursorHeader(news), ExactlyOnce(rows)),
        )
        for path, resource in ROUTES.items():
            app.add_route(path, resource)
        self.app = Handshake(app)

    async def process_startup(self, scope: object, event: object) -> None:
        await self._pool.open()
        self._running = [
            asyncio.create_task(self._relay.run()),
            asyncio.create_task(self._tail.run()),
            asyncio.create_task(self._attempts.run()),
            *(asyncio.create_task(rounds.run()) for rounds in self._rounds),
        ]
        for running in self._running:
            running.add_done_callback(_end_process)
        self._beside = [
            asyncio.create_task(measurements.publish(self._changes, "web")),
            asyncio.create_task(set_aside(lambda: self._relay.left)),
        ]
        # A client that comes before Redis is heard would be told of it as an outage.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._relay.linked(), LINK_S)

    async def drain(self) -> None:
        """Before the end: send sockets and streams away, answer whoever waits."""
        self._relay.stop()
        try:
            async with asyncio.timeout(GONE_S):
                await self._relay.gone()
        except TimeoutError:
            structlog.get_logger().warning("some clients do not go; they are dropped")

    async def process_shutdown(self, scope: object, event: object) -> None:
        self._relay.stop()
        for running in self._running:
            running.remove_done_callback(_end_process)
            running.cancel()
        for beside in self._beside:
            beside.cancel()
        self._bell_threads.shutdown(wait=False)
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            await asyncio.wait_for(self._attempts.end(), LAST_S)
        await self._pool.close(timeout=1)


def _app(*inner: Any) -> App:
    spans = [Spans()] if tracing.is_on() else []
    app: App = falcon.asgi.App(
        middleware=[Measures(), *spans, RequestIds(), *inner, ETags()],
        request_type=Request,
    )
    app.req_options.strip_url_path_trailing_slash = True
    app.router_options.converters["segment"] = Segment
    json = falcon.media.JSONHandler(dumps=_json, loads=msgspec.json.decode)
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = json
    app.ws_options.max_receive_queue = 0
    problems.install(app)
    return app


_json: Callable[[object], Any] = msgspec.json.encode


def _end_process(running: asyncio.Task[None]) -> None:
    """A web process that hears nothing, or lets everybody stay, must not go on."""
    why = None if running.cancelled() else running.exception()
    structlog.get_logger().critical("a part of this process ended", exc_info=why)
    os.kill(os.getpid(), signal.SIGTERM)
