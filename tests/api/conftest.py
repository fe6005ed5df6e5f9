"""A real web process, and a worker that does what the test says.

``server``: the web process that most tests share; ``api``: an httpx client of it.
``web``: starts further ones: ``web(VIRTUMANCER_WAIT_S="1")``.
``rows``: empties the database, and writes and reads it with the product's own SQL.
``worker``: the scripted worker: ``worker.answers[kind] = callable(task) -> result``.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
import redis as redis_client
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from common import bus
from common.db import Query, sql
from common.errors import VirtumancerError, problem_of
from embedded.servers import Postgres, Redis
from tests.conftest import TEMPLATE

HARDWARE: dict[str, list[dict[str, Any]]] = {
    "disks": [
        {
            "type": "file",
            "device": "disk",
            "driver": {"driver_name": "qemu", "type": "qcow2"},
            "path": "/vm/a.qcow2",
            "target": {"dev": "vda", "bus": "virtio"},
        }
    ],
    "networks": [{"type": "bridge", "mac": {"address": "52:54:00:11:22:33"}}],
}


class Rows:
    """Rows of the test's database."""

    def __init__(self, url: str, redis_url: str) -> None:
        self._conn = psycopg.connect(url, autocommit=True, row_factory=dict_row)
        self._redis = redis_client.Redis.from_url(redis_url)
        self._bus = bus.Bus(self._redis)
        self._lock = threading.Lock()

    def run(self, query: Query | str, **params: Any) -> list[dict[str, Any]]:
        text = query.text if isinstance(query, Query) else query
        with self._lock:
            cursor = self._conn.execute(text.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def publish(self, *messages: bus.Published) -> None:
        self._bus.publish(messages)

    def listeners(self, channel: str) -> int:
        return int(dict(self._redis.pubsub_numsub(channel))[channel.encode()])

    def host(self, host_id: str, state: str = "connected") -> int:
        uri = f"qemu+ssh://{host_id}/system"
        [row] = self.run(sql.hosts.add, id=host_id, uri=uri)
        self.run(
            "update hosts set state = %(state)s where id = %(id)s",
            state=state,
            id=host_id,
        )
        return int(row["db_id"])

    def vm(self, host_db_id: int, name: str, **facts: Any) -> uuid.UUID:
        vm_uuid = uuid.uuid4()
        seen = {
            "uuid": vm_uuid,
            "name": name,
            "title": "",
            "description": "",
            "vcpu_count": 2,
            "memory_bytes": 2147483648,
            "state": 1,
            "state_reason": 1,
            "persistent": True,
            "autostart": False,
            "graphics": {"vnc": True, "spice": False},
            "hardware": HARDWARE,
            "xml_hash": "",
        } | facts
        self.run(
            sql.vms.observe,
            host_db_id=host_db_id,
            observation=1,
            rows=msgspec.json.encode([seen]).decode(),
        )
        return vm_uuid

    def close(self) -> None:
        self._conn.close()
        self._redis.close()


Answer = Callable[[dict[str, Any]], Any]


class ScriptedWorker(threading.Thread):
    """Claims queued tasks and ends each with what the test's answer to its kind gives.

    An answer that raises one of our errors ends the task as failed; a kind without an
    answer stays queued.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__(daemon=True)
        self.answers: dict[str, Answer] = {}
        self.id = uuid.uuid4()
        self._rows = rows
        self._ending = threading.Event()
        rows.run(
            sql.processes.register, id=self.id, kind="worker", machine="test", pid=1
        )

    def run(self) -> None:
        queued = "select host_id, lane, kind from tasks where state = 'queued'"
        while not self._ending.wait(0.005):
            for task in self._rows.run(queued):
                if task["kind"] in self.answers:
                    self._claim(task["host_id"], task["lane"])

    def _claim(self, host_id: str, lane: str) -> None:
        for task in self._rows.run(
            sql.tasks.claim, host_id=host_id, lane=lane, process_id=self.id
        ):
            try:
                result = self.answers[task["kind"]](task)
                self.end(task["id"], "done", result=result)
            except VirtumancerError as error:
                self.end(task["id"], "failed", problem=problem_of(error))

    def end(
        self, task_id: uuid.UUID, state: str, problem: Any = None, result: Any = None
    ) -> None:
        self._rows.run(
            sql.tasks.end,
            id=task_id,
            state=state,
            process_id=self.id,
            problem=problem and Jsonb(problem),
            result=result and Jsonb(result),
        )
        self._rows.publish(bus.task_ended(task_id))
        parents = (
            "select parent_id from tasks where id = %(id)s and parent_id is not null"
        )
        for row in self._rows.run(parents, id=task_id):
            self._rows.publish(bus.task_ended(row["parent_id"]))

    def stop(self) -> None:
        self._ending.set()
        self.join(5)


@dataclass
class WebProcess:
    """A running ``python -m api``."""

    process: subprocess.Popen[bytes]
    log: Path

    @functools.cached_property
    def port(self) -> int:
        while not (lines := self.log.read_text().splitlines(keepends=True)):
            assert self.process.poll() is None
            time.sleep(0.01)
        return int(json.loads(lines[0])["port"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        sys.stderr.write(self.log.read_text())

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; the exit code and the seconds it took."""
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        return code, time.monotonic() - began_s


Webs = Callable[..., WebProcess]


def start(environment: dict[str, str], log: Path) -> WebProcess:
    settings = {"PORT": "0", "LOG_FORMAT": "json", "VIRTUMANCER_AUTH": "off"}
    settings |= environment
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "api"], env=os.environ | settings, stderr=output
        )
    return WebProcess(process, log)


@pytest.fixture(scope="session")
def environment(postgres: Postgres, redis: Redis) -> dict[str, str]:
    """One database for all these tests; ``rows`` empties it before each."""
    url = postgres.create_database("api", template=TEMPLATE)
    return {"DATABASE_URL": url, "REDIS_URL": redis.url, "VIRTUMANCER_WAIT_S": "3"}


@pytest.fixture(scope="session")
def server(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebProcess]:
    server = start(environment, tmp_path_factory.mktemp("api") / "web.log")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def locked(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebProcess]:
    """A web process that asks for tokens; each module has its own, and its failures."""
    log = tmp_path_factory.mktemp("locked") / "web.log"
    web = start(environment | {"VIRTUMANCER_AUTH": "tokens"}, log)
    yield web
    web.kill()


@pytest.fixture
def web(environment: dict[str, str], rows: "Rows", tmp_path: Path) -> Iterator[Webs]:
    running: list[WebProcess] = []

    def start_another(**variables: str) -> WebProcess:
        log = tmp_path / f"web-{len(running)}.log"
        running.append(start(environment | variables, log))
        return running[-1]

    yield start_another
    for process in running:
        process.kill()


@pytest.fixture
def rows(environment: dict[str, str]) -> Iterator[Rows]:
    rows = Rows(environment["DATABASE_URL"], environment["REDIS_URL"])
    rows.run("truncate hosts, tasks, processes cascade")
    yield rows
    rows.close()


@pytest.fixture
def worker(rows: Rows) -> Iterator[ScriptedWorker]:
    worker = ScriptedWorker(rows)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def api(server: WebProcess, rows: Rows) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=15) as client:
        yield client
