"""Readers that are cut at random, while several processes write and servers fall.

What a reader knows comes from frames alone, but for the lists that it once began with,
and is in the end what the database has.
``VIRTUMANCER_CUT_S`` says for how many seconds (the default fits in every run).
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis as redis_client
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from embedded.servers import Postgres, Redis
from tests.api.conftest import Rows, WebProcess, Webs

CUT_S = float(os.environ.get("VIRTUMANCER_CUT_S", "20"))
QUIET_S = 2.0
WRITERS = 3
TOPICS = ["hosts", "vms", "tasks"]

Told = dict[str, Any]
Gone = (OSError, WebSocketException, InvalidHandshake, httpx.HTTPError, TimeoutError)


class Reader:
    """A client with a copy of everything, and one place at a time where it is cut."""

    def __init__(self, webs: list[WebProcess], seed: int) -> None:
        self.copy: dict[tuple[str, ...], Told] = {}
        self.cuts = 0
        self.frames = 0
        self.missed: list[str | None] = []
        self._webs = webs
        self._random = random.Random(seed)
        self._cursor: str | None = None
        self._ways = itertools.cycle((self._socket, self._socket, self._stream))

    async def begin(self) -> None:
        """Read the lists, as they are in the midst of all this."""
        lists = await asyncio.to_thread(everything, self._webs[0].url)
        self._cursor, self.copy = lists

    async def read(self, until: threading.Event) -> None:
        """Read and be cut, again and again."""
        while not until.is_set():
            limit_s = self._random.choice((0.05, 0.3, 1, 3))
            with contextlib.suppress(*Gone):
                async with asyncio.timeout(self._random.uniform(0.01, limit_s)):
                    await self._follow(next(self._ways))
            self.cuts += 1
            await asyncio.sleep(self._random.choice((0, 0, 0.2)))

    async def read_to_the_end(self) -> None:
        """Read until nothing more comes."""
        await self._follow(self._socket, QUIET_S)

    async def _follow(self, way: Any, quiet_s: float = 60) -> None:
        async with contextlib.aclosing(way()) as frames:
            while True:
                try:
                    async with asyncio.timeout(quiet_s):
                        text = await anext(frames, None)
                except TimeoutError:
                    return
                if text is None:
                    return
                self._take(json.loads(text))

    async def _socket(self) -> AsyncIterator[str]:
        wish = {"topics": TOPICS, "since": self._cursor}
        async with connect(self._random.choice(self._webs).ws_url) as ws:
            await ws.send(json.dumps({"type": "subscribe", "payload": wish}))
            try:
                async for text in ws:
                    yield str(text)
            finally:
                ws.transport.abort()

    async def _stream(self) -> AsyncIterator[str]:
        url = f"{self._random.choice(self._webs).url}/api/events"
        params = {"topics": ",".join(TOPICS)}
        headers = {"Last-Event-ID": self._cursor or ""}
        async with (
            httpx.AsyncClient(timeout=None) as api,
            api.stream("GET", url, params=params, headers=headers) as answer,
        ):
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield line.removeprefix("data: ")

    def _take(self, frame: Told) -> None:
        self.frames += 1
        kind, _, end = frame["type"].partition("-")
        payload = frame["payload"]
        if frame["type"] == "subscribed":
            self.missed.append(payload["missed"])
        elif end == "updated":
            key = key_of(kind, payload)
            before = self.copy.get(key) or payload
            if identity(before) == identity(payload):
                assert payload["revision"] >= before["revision"], (before, payload)
            self.copy[key] = payload
        elif end == "removed":
            self.copy.pop(key_of(kind, payload), None)
        self._cursor = frame.get("cursor", self._cursor)


def key_of(kind: str, payload: Told) -> tuple[str, ...]:
    if kind == "vm":
        return kind, payload["host_id"], payload["uuid"]
    return kind, payload["id"]


def identity(payload: Told) -> object:
    """What a resource has anew that is removed and added again."""
    return payload.get("db_id") or payload["created_at"]


def everything(web: str) -> tuple[str, dict[tuple[str, ...], Told]]:
    """What the lists say, and the cursor that came with the first of them."""
    found: dict[tuple[str, ...], Told] = {}
    cursors = []
    with httpx.Client(base_url=web) as api:
        for kind, path in (("host", "hosts"), ("vm", "vms"), ("task", "tasks")):
            url: str | None = f"/api/{path}?limit=1000"
            while url:
                answer = api.get(url).raise_for_status()
                found |= {key_of(kind, one): one for one in answer.json()}
                cursors.append(answer.headers["X-Virtumancer-Cursor"])
                url = answer.links.get("next", {}).get("url")
    return cursors[0], found


def what_is_news(copy: dict[tuple[str, ...], Told]) -> object:
    """That it was looked at again is no news, nor what a task waits for meanwhile."""
    return {k: {**v, "observed_at": None, "waits_for": None} for k, v in copy.items()}


@pytest.fixture
def writers(environment: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.lab.writers", str(number)],
            env=os.environ | environment,
        )
        for number in range(WRITERS)
    ]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def disturb(number: int, webs: list[WebProcess], web: Webs, servers: Any) -> None:
    """One thing after the other that must not matter."""
    redis, postgres = servers
    match number % 6:
        case 0:
            with redis_client.Redis.from_url(redis.url) as client:
                client.flushall()
        case 1:
            webs[0].process.kill()
            webs[0].process.wait()
            webs[0] = web(PORT=str(webs[0].port))
        case 2:
            redis.stop()
            redis.start()
        case 3:
            postgres.stop()
            postgres.start()
        case 4:
            webs[1].terminate()
            webs[1] = web(PORT=str(webs[1].port))
        case 5:
            # Frozen first, or a child born meanwhile would outlive its server.
            postgres.pause()
            postgres.kill()
            postgres.start()


async def read_all(readers: list[Reader], until: threading.Event) -> None:
    """Read until then, and what is left after it."""
    await asyncio.gather(*(reader.begin() for reader in readers))
    await asyncio.gather(*(reader.read(until) for reader in readers))
    await asyncio.gather(*(reader.read_to_the_end() for reader in readers))


@pytest.mark.timeout(CUT_S + 120)
def test_a_reader_that_is_cut_at_random_knows_everything_in_the_end(
    web: Webs,
    rows: Rows,
    writers: list[subprocess.Popen[bytes]],
    redis: Redis,
    postgres: Postgres,
) -> None:
    webs = [web(), web()]
    assert all(one.port for one in webs)
    readers = [Reader(webs, seed) for seed in range(3)]
    enough = threading.Event()

    with ThreadPoolExecutor() as threads:
        reading = threads.submit(lambda: asyncio.run(read_all(readers, enough)))
        try:
            until_s = time.monotonic() + CUT_S
            for number in itertools.count():
                time.sleep(CUT_S / 8)
                if reading.done() or time.monotonic() > until_s:
                    break
                # In this thread: a server ends with the thread that started it.
                disturb(number, webs, web, (redis, postgres))
            assert [writer.poll() for writer in writers] == [None] * WRITERS
        finally:
            for writer in writers:
                writer.kill()
            enough.set()
        reading.result()

    _, truth = everything(webs[0].url)
    assert len(truth) > 50
    for reader in readers:
        assert "too-old" not in reader.missed
        assert reader.missed.count("follows") > 2
        assert what_is_news(reader.copy) == what_is_news(truth)
    sys.stderr.write(
        f"{sum(r.cuts for r in readers)} cuts, {sum(r.frames for r in readers)} frames,"
        f" {len(truth)} resources\n"
    )
