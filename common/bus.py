"""Redis: every name in it, how it is reached, and what is published there.

Redis rings; it holds nothing that must be kept. Published bytes are the frames that
clients get, so the relay decodes nothing.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final
from uuid import UUID

import msgspec
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.log import Outage
from common.shapes import HostAddress, HostsChanged, ServerFrame, Task, VmsChanged

FRAMES: Final = "virtumancer:frames:*"
"""A host's ``hosts-changed`` and ``vms-changed``, for every socket that may see it."""
TASKS_ENDED: Final = "virtumancer:tasks-ended"
"""Ids of tasks that ended, for the requests that wait for them."""
NEWS: Final = "virtumancer:news"
"""Rung where something was committed that nothing else is published of."""
TOKENS: Final = "virtumancer:tokens"
"""Ids of tokens that were revoked."""
HOSTS: Final = "virtumancer:hosts"
"""Ids of hosts that were added or removed, for the monitors."""
STATS_WANTED: Final = "virtumancer:stats-wanted"
"""Host ids: somebody has just begun to watch a VM there."""
WAKE: Final = "virtumancer:wake"
"""Names of queues that a message was put into."""
SCRAPED: Final = "virtumancer:scraped"
"""A key that is there while somebody scrapes /metrics."""
QUEUE_NAMESPACE: Final = "virtumancer:queue"

_FRAMES_PREFIX: Final = FRAMES.removesuffix("*")
_STATS_PREFIX: Final = "virtumancer:stats:"
_UUID_LENGTH: Final = 36
_SCRAPED_S: Final = 180
"""A scraper that has not come for so long has gone."""
PROBLEMS: Final = (redis.RedisError, OSError)
"""How a Redis that is gone or silent shows itself."""

outage: Final = Outage("redis")
"""What this process has noticed of Redis."""

Published = tuple[str, bytes]

# A command for each message would cost a sample as much as all else in it.
_PUBLISH_ALL: Final = """
for i = 1, #ARGV, 2 do redis.call('publish', ARGV[i], ARGV[i + 1]) end
"""
_MOST_WORDS: Final = 2 * 1000
"""Redis serves nobody else meanwhile."""


def stats_channel(host_id: str, vm_name: str) -> str:
    """Where the samples of one VM go. A host id holds no slash."""
    return f"{_STATS_PREFIX}{host_id}/{vm_name}"


def watched(channel: bytes) -> tuple[str, str]:
    """The host id and VM name of a stats channel."""
    host_id, _, vm_name = channel.decode().removeprefix(_STATS_PREFIX).partition("/")
    return host_id, vm_name


def frames_channel(host_id: str) -> str:
    """Where the frames about a host go that nobody has to ask for."""
    return _FRAMES_PREFIX + host_id


def framed_host(channel: bytes) -> str:
    """The host id of such a channel."""
    return channel.decode().removeprefix(_FRAMES_PREFIX)


def frame(host_id: str, message: ServerFrame) -> Published:
    """A frame for every socket that may see the host."""
    return frames_channel(host_id), msgspec.json.encode(message)


def task_ended(task_id: UUID, task: Task | None = None) -> Published:
    """For whoever waits: how it ended, or that its row is to be looked at."""
    ended = b"" if task is None else msgspec.json.encode(task)
    return TASKS_ENDED, str(task_id).encode() + ended


def ended_task(body: bytes) -> tuple[UUID, bytes]:
    """The id in such a message, and the task's JSON if it is there."""
    return UUID(body[:_UUID_LENGTH].decode()), body[_UUID_LENGTH:]


def token_revoked(token_id: UUID) -> Published:
    return TOKENS, str(token_id).encode()


def news() -> Published:
    return NEWS, b""


def hosts_changed(host_id: str) -> list[Published]:
    return [frame(host_id, HostsChanged()), (HOSTS, host_id.encode())]


def vms_changed(host_id: str) -> Published:
    return frame(host_id, VmsChanged(HostAddress(host_id)))


def connect(url: str, timeout_s: float = 2) -> redis.Redis:
    """A client for threads. It never retries: what is rung twice is run twice."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=15,
    )


def connect_async(url: str, timeout_s: float | None = 2) -> redis.asyncio.Redis:
    """The same for the event loop; ``timeout_s`` None for a subscriber."""
    return redis.asyncio.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=1,
        retry=AsyncRetry(NoBackoff(), 0),
    )


def listen_for(client: redis.Redis, *channels: str) -> redis.client.PubSub:
    """Subscribe a thread; it reads with ``get_message(timeout=…)``."""
    pubsub: redis.client.PubSub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(*channels)
    return pubsub


class Bus:
    """Publishes from threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._publish_all = client.register_script(_PUBLISH_ALL)

    def publish(self, messages: Iterable[Published]) -> None:
        """Send all in one round trip. A lost bell is logged once and no failure:
        whoever waits for it looks at the rows when Redis is back."""
        words: list[str | bytes] = list(chain.from_iterable(messages))
        try:
            for first in range(0, len(words), _MOST_WORDS):
                self._publish_all(args=words[first : first + _MOST_WORDS])
        except PROBLEMS as error:
            outage.began(error)
        else:
            outage.ended()

    def watched_vms(self) -> dict[str, set[str]]:
        """VM names by host id, of every VM whose stats somebody listens to."""
        vms: dict[str, set[str]] = {}
        channels: Any = self._client.pubsub_channels(f"{_STATS_PREFIX}*")
        for channel in channels:
            host_id, vm_name = watched(channel)
            vms.setdefault(host_id, set()).add(vm_name)
        return vms

    def scraped(self) -> bool:
        """Whether somebody scrapes /metrics these minutes."""
        return bool(self._client.exists(SCRAPED))


class AsyncBus:
    """Bus's counterpart in the event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def publish(self, messages: Iterable[Published]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for channel, body in messages:
            pipe.publish(channel, body)
        try:
            await pipe.execute()
        except PROBLEMS as error:
            outage.began(error)
        else:
            outage.ended()

    async def tell_scraped(self) -> bool:
        """Have all VMs sampled for the next minutes; False without Redis."""
        try:
            return bool(await self._client.set(SCRAPED, b"", ex=_SCRAPED_S))
        except PROBLEMS as error:
            outage.began(error)
            return False

    async def answers(self) -> bool:
        try:
            return bool(await self._client.ping())
        except PROBLEMS:
            return False
