"""/ws and /api/events: the same frames over a WebSocket and as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import falcon
import falcon.asgi
import msgspec
import structlog

from api.attempts import is_unseen
from api.contract import Answer, contract
from api.framed import writer_of
from api.http import query
from api.inventory import Inventory, unknown_host
from api.limits import Limits
from api.news import place_of
from api.outbox import NORMAL, Outbox
from api.principal import Principal, principal_of
from api.relay import Relay
from api.subscriptions import Following, Tail
from common import bus
from common.errors import (
    InvalidRequest,
    TooManySubscriptions,
    UnknownHost,
    UnknownVm,
    UpgradeRequired,
    VirtumancerError,
)
from common.limits import TooManySockets
from common.shapes import (
    ClientFrame,
    ErrorFrame,
    FrameError,
    HostIds,
    Subscribe,
    SubscribeVmStats,
    Subscription,
    Topics,
    Unsubscribe,
    UnsubscribeVmStats,
    VmAddress,
)
from common.shapes.parameters import Streams

CLOSE_S = 10
"""A client that has not taken its close frame after so long is dropped without."""
PING_S = 15
MOST_SUBSCRIPTIONS = 1000

T = TypeVar("T")

Gone = (falcon.WebSocketDisconnected, OSError)

_client_frame = msgspec.json.Decoder(ClientFrame)


class Socket:
    """One WebSocket: reads what the client asks for, sends what its outbox holds."""

    def __init__(
        self,
        req: falcon.asgi.Request,
        ws: falcon.asgi.WebSocket,
        outbox: Outbox,
        relay: Relay,
        inventory: Inventory,
        following: Following,
    ) -> None:
        self._req = req
        self._ws = ws
        self._outbox = outbox
        self._relay = relay
        self._inventory = inventory
        self._following = following
        self._known: dict[VmAddress, str] = {}

    async def run(self) -> None:
        sending = asyncio.create_task(self._send())
        reading = asyncio.create_task(self._read())
        try:
            await self._outbox.closed()
            await asyncio.wait({sending}, timeout=CLOSE_S)
        finally:
            sending.cancel()
            reading.cancel()
            await asyncio.wait({sending, reading})
        for task in (sending, reading):
            if not task.cancelled():
                task.result()

    async def _send(self) -> None:
        try:
            async for frame in self._outbox.frames():
                await self._ws.send_text(frame)
            await self._ws.close(self._outbox.close_code)
        except Gone:
            self._outbox.close(NORMAL)

    async def _read(self) -> None:
        try:
            while True:
                await self._answer_next()
        except Gone:
            pass
        finally:
            self._outbox.close(NORMAL)

    async def _answer_next(self) -> None:
        text = None
        try:
            text = await self._ws.receive_text()
            await self._serve(_client_frame.decode(text))
        except falcon.PayloadTypeError:
            self._refuse("invalid-request", "Send text, not binary.", None)
        except (msgspec.DecodeError, RecursionError) as error:
            self._refuse("invalid-request", f"{error}.", text)
        except VirtumancerError as error:
            self._refuse(error.type, error.detail, text)

    async def _serve(self, frame: ClientFrame) -> None:
        match frame:
            case SubscribeVmStats(address):
                await self._subscribe(address)
            case UnsubscribeVmStats(address):
                channel = self._known.pop(address, None)
                channel = channel or await self._channel_of(address)
                self._relay.unwatch(self._outbox, channel)
            case Subscribe(wish):
                self._following.begin(wish)
            case Unsubscribe(left):
                self._following.leave(left.topics)

    async def _subscribe(self, address: VmAddress) -> None:
        channel = await self._channel_of(address)
        if len(self._known) >= MOST_SUBSCRIPTIONS and address not in self._known:
            raise TooManySubscriptions(
                f"A socket may watch {MOST_SUBSCRIPTIONS} VMs; open another one."
            )
        self._known[address] = channel
        self._relay.watch(self._outbox, channel)

    async def _channel_of(self, address: VmAddress) -> str:
        try:
            return await channel_of(self._inventory, self._req, address)
        except UnknownHost as error:
            if is_unseen(self._req):
                await self._req.context.refused(self._req, error.status, error.type)
            raise

    def _refuse(self, code: str, message: str, text: str | None) -> None:
        error = ErrorFrame(FrameError(code, message, _as_it_came(text)))
        self._outbox.put(msgspec.json.encode(error).decode())


def _as_it_came(text: str | None) -> Any:
    """The client's message as JSON if it is JSON, else as the text it is."""
    try:
        return msgspec.json.decode(text or "null")
    except (msgspec.DecodeError, RecursionError):
        return text


async def channel_of(
    inventory: Inventory, req: falcon.asgi.Request, address: VmAddress
) -> str:
    """Where the stats of a VM go; they go by its name, however it was addressed."""
    if not principal_of(req).sees(address.host_id):
        req.context.place = {"host_id": address.host_id, "vm": address.vm_name}
        raise unknown_host(address.host_id)
    vm = await inventory.vm(address.host_id, address.vm_name)
    return bus.stats_channel(vm.host_id, vm.name)


class Sockets:
    """Tells over a WebSocket what changes, and samples of VMs that are asked for."""

    def __init__(
        self, relay: Relay, inventory: Inventory, tail: Tail, limits: Limits
    ) -> None:
        self._relay = relay
        self._inventory = inventory
        self._tail = tail
        self._limits = limits

    @contract(
        "Open a WebSocket",
        answers={101: Answer(None, "The frames are described in /api/asyncapi.json.")},
        problems=(UpgradeRequired, TooManySockets),
        stored=False,
    )
    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        resp.set_header("Upgrade", "websocket")
        raise UpgradeRequired("This address is a WebSocket.")

    async def on_websocket(
        self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket
    ) -> None:
        principal = principal_of(req)
        self._limits.check(principal)
        with (
            self._limits.socket(principal),
            self._relay.listening(principal) as outbox,
            self._tail.following(outbox, principal.sees) as following,
        ):
            await ws.accept()
            outbox.write = writer_of(req.scope)
            socket = Socket(req, ws, outbox, self._relay, self._inventory, following)
            await socket.run()
        seconds = time.monotonic() - req.context.began_s
        code = outbox.close_code
        structlog.get_logger().info("socket closed", code=code, s=round(seconds, 1))
        if not ws.closed:
            raise falcon.WebSocketDisconnected(outbox.close_code)


class Events:
    """Tells the same as server-sent events."""

    def __init__(
        self, relay: Relay, inventory: Inventory, tail: Tail, limits: Limits
    ) -> None:
        self._relay = relay
        self._inventory = inventory
        self._tail = tail
        self._limits = limits

    @contract(
        "Listen to what changes",
        answers={200: Answer(str, media_type="text/event-stream")},
        query=Streams,
        problems=(UnknownHost, UnknownVm, TooManySockets),
    )
    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        asked = query(req, Streams)
        wanted = asked.vm_stats
        names = [wanted] if isinstance(wanted, str) else wanted
        principal = principal_of(req)
        channels = [await self._channel(req, name) for name in names]
        wish = subscription(asked, req.get_header("Last-Event-ID"))
        self._limits.check(principal)
        resp.cache_control = ["no-cache"]
        resp.set_header("X-Accel-Buffering", "no")
        resp.sse = self._events(principal, channels, wish)

    async def _channel(self, req: falcon.asgi.Request, name: str) -> str:
        host_id, slash, vm_name = name.partition("/")
        if not slash:
            raise InvalidRequest("Write HOST/VM.", at="?vm-stats")
        address = VmAddress(host_id, vm_name)
        return await channel_of(self._inventory, req, address)

    async def _events(
        self, principal: Principal, channels: list[str], wish: Subscription | None
    ) -> AsyncIterator[falcon.asgi.SSEvent | None]:
        with (
            self._limits.socket(principal),
            self._relay.listening(principal) as outbox,
            self._tail.following(outbox, principal.sees) as following,
        ):
            if wish:
                following.begin(wish)
            for channel in channels:
                self._relay.watch(outbox, channel)
            while outbox.close_code is None:
                try:
                    async with asyncio.timeout(PING_S):
                        frame = await outbox.next()
                except TimeoutError:
                    yield None  # Falcon makes it a comment: a ping.
                else:
                    if frame is not None:
                        yield _event(frame)


def subscription(asked: Streams, last_event_id: str | None) -> Subscription | None:
    """What a stream's URL subscribes to; the browser's own cursor is the newer one."""
    if asked.topics is None:
        if asked.hosts is not None or asked.since is not None:
            raise InvalidRequest("Say which topics: hosts, vms, tasks.", at="?topics")
        return None
    since, at = asked.since, "?since"
    if last_event_id:
        since, at = last_event_id, "Last-Event-ID"
    if since is not None:
        place_of(since, at)
    return Subscription(
        listed(asked.topics, Topics, "?topics"),
        None if asked.hosts is None else listed(asked.hosts, HostIds, "?hosts"),
        since,
    )


def listed(text: str, kind: type[T], at: str) -> T:
    """What stands between commas, each of it checked."""
    try:
        return msgspec.convert(text.split(","), kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.", at=at) from None


class _Typed(msgspec.Struct, frozen=True):
    type: str
    cursor: str | None = None


def _event(frame: str) -> falcon.asgi.SSEvent:
    told = msgspec.json.decode(frame, type=_Typed)
    return falcon.asgi.SSEvent(event=told.type, text=frame, event_id=told.cursor)
