"""The whole system as its Procfile runs it, every process of it at our mercy."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from psycopg.rows import dict_row

from tests.lab.listener import Listener

TOP = Path(__file__).parent.parent.parent
MODULES = {"web": "api", "worker": "workers.main", "monitor": "workers.monitor"}
READY = {"web": "listening", "worker": "worker serves", "monitor": "monitor watches"}
DYING_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
FINISHED = ("done", "failed", "interrupted")

Facts = dict[str, Any]


def eventually(
    condition: Callable[[], Any], timeout_s: float, what: str | None = None
) -> Any:
    """What ``condition`` yields when it comes true; fails after so long."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what or f"not within {timeout_s} s"
        time.sleep(0.02)
    return found


class Process:
    """One process of the system, and what it said."""

    def __init__(self, name: str, kind: str, environment: dict[str, str], log: Path):
        self.name = name
        self.kind = kind
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "--",
                    sys.executable,
                    "-m",
                    MODULES[kind],
                ],
                cwd=TOP,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.running, f"{self.name} ended:\n{self.log.read_text()}"
            return bool(self.said(READY[self.kind]))

        eventually(ready, 20, f"{self.name} does not start")

    def kill(self) -> None:
        """SIGKILL, as a crash would have it."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGSTOP: it lives and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self, timeout_s: float = 15) -> tuple[int, float]:
        """SIGTERM; the exit code, and the seconds it took."""
        began_s = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout_s)
        return code, time.monotonic() - began_s

    def lines(self) -> list[Facts]:
        """What it logged; a line that is no JSON is under ``raw``."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [_parsed(line) for line in lines]

    def said(self, event: str, **facts: Any) -> list[Facts]:
        """Its lines about this event."""
        wanted = facts | {"event": event}
        return [line for line in self.lines() if wanted.items() <= line.items()]

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1])


class Web(Process):
    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.said(READY['web'])[0]['port']}"

    def client(self, timeout_s: float = 40) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout_s)

    def listener(self) -> Listener:
        """A WebSocket client."""
        return Listener(self.url)


def _parsed(line: str) -> Facts:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {"raw": line}
    return parsed if isinstance(parsed, dict) else {"raw": line}


class System:
    """Any number of webs, workers and monitors around one database and one Redis."""

    def __init__(self, environment: dict[str, str], folder: Path, rows_url: str):
        self.environment = environment
        self.processes: list[Process] = []
        self._folder = folder
        self.rows_url = rows_url
        self._rows: psycopg.Connection[Facts] | None = None
        self._listeners: list[Listener] = []
        self._api: httpx.Client | None = None

    def web(self, **variables: str) -> Web:
        web = self._start(Web, "web", variables)
        assert isinstance(web, Web)
        return web

    def worker(self, **variables: str) -> Process:
        return self._start(Process, "worker", variables)

    def monitor(self, **variables: str) -> Process:
        return self._start(Process, "monitor", variables)

    def start(self, webs: int = 1, workers: int = 1, monitors: int = 1) -> None:
        """Start so many of each side by side, and wait for all."""
        kinds = ["web"] * webs + ["worker"] * workers + ["monitor"] * monitors
        for kind in kinds:
            self._launch(Web if kind == "web" else Process, kind, {})
        for process in self.processes:
            process.wait_until_ready()

    def _start(
        self, make: type[Process], kind: str, variables: dict[str, str]
    ) -> Process:
        process = self._launch(make, kind, variables)
        process.wait_until_ready()
        return process

    def _launch(
        self, make: type[Process], kind: str, variables: dict[str, str]
    ) -> Process:
        name = f"{kind}-{len(self.processes)}"
        environment = self.environment | variables
        process = make(name, kind, environment, self._folder / f"{name}.log")
        self.processes.append(process)
        return process

    def of(self, kind: str) -> list[Process]:
        """The processes of a kind that run."""
        return [p for p in self.processes if p.kind == kind and p.running]

    @property
    def webs(self) -> list[Web]:
        return [web for web in self.of("web") if isinstance(web, Web)]

    @property
    def api(self) -> httpx.Client:
        """A client of the first web process."""
        if self._api is None:
            self._api = self.webs[0].client()
        return self._api

    def listen(self, web: Web | None = None) -> Listener:
        """A WebSocket client that lasts as long as the system."""
        self._listeners.append((web or self.webs[0]).listener())
        return self._listeners[-1]

    def rows(self, query: str, **params: Any) -> list[Facts]:
        """Ask the database itself, past everything that may stand in between."""
        if self._rows is None or self._rows.closed:
            self._rows = psycopg.connect(
                self.rows_url, autocommit=True, row_factory=dict_row
            )
        try:
            cursor = self._rows.execute(query.encode(), params)
            return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            self._rows.close()
            raise

    def add_host(self, host_id: str, uri: str) -> Facts:
        answer = self.api.post("/api/hosts", json={"id": host_id, "uri": uri})
        assert answer.status_code == 200, answer.text
        eventually(lambda: self.host(host_id)["state"] == "connected", 10)
        return self.host(host_id)

    def host(self, host_id: str) -> Facts:
        answer = self.api.get(f"/api/hosts/{host_id}")
        assert answer.status_code == 200, answer.text
        found: Facts = answer.json()
        return found

    def vms(self, host_id: str) -> dict[str, Facts]:
        """The VMs of a host as the API lists them, by name."""
        answer = self.api.get(f"/api/hosts/{host_id}/vms")
        assert answer.status_code == 200, answer.text
        return {vm["name"]: vm for vm in answer.json()}

    def state(self, host_id: str, name: str) -> int | None:
        vm = self.vms(host_id).get(name)
        return vm["state"] if vm else None

    def act(
        self, host_id: str, name: str, action: str, prefer: str | None = None
    ) -> httpx.Response:
        return self.api.post(
            f"/api/hosts/{host_id}/vms/{name}/action",
            json={"action": action},
            headers={"Prefer": prefer} if prefer else {},
        )

    def ask(self, host_id: str, name: str, action: str) -> str:
        """Order an action without waiting for it; the path of its task."""
        answer = self.act(host_id, name, action, "respond-async")
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"]

    def task(self, path: str) -> Facts:
        answer = self.api.get(path)
        assert answer.status_code == 200, answer.text
        found: Facts = answer.json()
        return found

    def ended(self, path: str, timeout_s: float) -> Facts:
        """The task when it has ended."""

        def end() -> Facts | None:
            task = self.task(path)
            return task if task["state"] in FINISHED else None

        found: Facts = eventually(end, timeout_s, f"{path} does not end")
        return found

    def unfinished(self) -> list[Facts]:
        return self.rows(
            "select id, kind, host_id, vm_name, state, attempts, process_id from tasks"
            " where state in ('queued', 'running')"
        )

    def said(self, event: str, **facts: Any) -> list[Facts]:
        """What all processes said about this event."""
        return [line for p in self.processes for line in p.said(event, **facts)]

    def faults(self) -> list[str]:
        """Tracebacks in the logs, each with its process; there ought to be none."""
        return [
            f"{process.name}: {line.get('exception') or line.get('raw') or line}"
            for process in self.processes
            for line in process.lines()
            if "exception" in line
            or "Traceback" in line.get("raw", "")
            or line.get("level") == "critical"
        ]

    def close(self) -> None:
        """End everything and show what it said."""
        for listener in self._listeners:
            listener.close()
        if self._api is not None:
            self._api.close()
        if self._rows is not None:
            self._rows.close()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            sys.stderr.write(f"---- {process.name}\n{_tail(process.log)}")


def _tail(log: Path) -> str:
    """The last lines, without what our own looking caused."""
    lines = log.read_text(errors="replace").splitlines(keepends=True)
    told = [line for line in lines if '"method": "GET"' not in line]
    return "".join(told[-100:])


@contextmanager
def system(settings: dict[str, str], folder: Path, rows_url: str) -> Iterator[System]:
    """A system of which nothing remains. ``rows_url`` leads to the database itself."""
    temporary = folder / "t"
    temporary.mkdir()
    environment = {
        "PORT": "0",
        "LOG_FORMAT": "json",
        "VIRTUMANCER_AUTH": "off",
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
    }
    made = System({**os.environ, **environment, **settings}, folder, rows_url)
    try:
        yield made
    finally:
        made.close()


def flush(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
