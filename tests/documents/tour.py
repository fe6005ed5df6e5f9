"""One request for every answer that the documents show: real requests, real answers.

Whoever adds a route adds a line to ``walk``, and records it all anew:

    python -m tests.documents
"""

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from tests.lab.admission import admit
from tests.lab.listener import Listener
from tests.lab.system import System, Web

Record = dict[str, Any]

JSON = {"Content-Type": "application/json"}
EDIT = "PATCH /api/hosts/{host_id}/vms/{vm}"
ACTION = "POST /api/hosts/{host_id}/vms/{vm}/action"
NOBODY = "019a9f1e-3c52-7a41-8b0e-5d3f2c6a7b10"


class Host(Struct):
    """A hypervisor with the machines web, db and broken, whose disk is gone."""

    uri: str
    folder: Path


class Tour:
    """Asks, and remembers what was answered."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.records: list[Record] = []
        self.headers: dict[tuple[str, int], set[str]] = {}
        self._client: httpx.Client | None = None
        self._content: bytes | None = None
        self._headers: dict[str, str] = {}

    def ask(
        self,
        operation: str,
        status: int,
        json: Any = None,
        query: str = "",
        prefer: str = "",
        key: str = "",
        **place: str,
    ) -> Any:
        """What is answered to an operation, such as ``GET /api/hosts/{host_id}``."""
        method, template = operation.split()
        said = {"Prefer": prefer, "Idempotency-Key": key, **self._headers}
        answer = (self._client or self._system.api).request(
            method,
            template.format(**place) + query,
            json=json,
            content=self._content,
            headers={name: value for name, value in said.items() if value},
        )
        assert answer.status_code == status, (operation, answer.text)
        self.headers.setdefault((operation, status), set()).update(answer.headers)
        if "json" not in answer.headers.get("content-type", "json"):
            return answer.text
        body = answer.json() if answer.content else None
        self.keep(operation, status, body, json)
        return body

    @contextmanager
    def asking(
        self,
        client: httpx.Client | None = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[None]:
        """Ask otherwise than usual meanwhile: somebody else, or with these headers."""
        self._client, self._content, self._headers = client, content, headers or {}
        yield
        self._client, self._content, self._headers = None, None, {}

    def later(self, operation: str, json: Any = None, **place: str) -> None:
        """What is answered at once, and wait for the end of the task."""
        [worker] = self._system.of("worker")
        worker.stop()
        task = self.ask(operation, 202, json, prefer="respond-async", **place)
        worker.resume()
        self._system.ended(f"/api/tasks/{task['id']}", 30)

    def read(self, operation: str, lines: int, query: str = "") -> None:
        """The first lines of an answer that is a text or goes on for ever."""
        method, path = operation.split()
        with self._system.api.stream(method, path + query) as answer:
            found = itertools.islice(answer.iter_lines(), lines)
            self.keep(operation, answer.status_code, "\n".join(found) + "\n", None)

    def keep(self, operation: str, status: int, body: Any, json: Any = None) -> None:
        record = {"operation": operation, "status": status, "body": body}
        self.records.append(record | ({"request": json} if json else {}))

    def listen(self, listener: Listener, sent: list[Record]) -> None:
        """What is sent over the WebSocket, and the first frame of each kind."""
        for frame in [*sent, *(frame for _, frame in listener.frames)]:
            if frame["type"] not in {record["operation"] for record in self.records}:
                self.records.append({"operation": frame["type"], "body": frame})


def walk(system: System, host: Host) -> Tour:
    tour = Tour(system)
    kvm1 = {"host_id": "kvm1"}
    web = kvm1 | {"vm": "web"}
    sent: list[Record] = list(_sent())
    listener = system.listen()
    listener.send(sent[0])

    late = _slow_client(system.webs[0])
    new = {"id": "kvm1", "uri": host.uri}
    tour.ask("POST /api/hosts", 200, new)
    tour.ask("POST /api/hosts", 409, new)
    tour.ask("POST /api/hosts", 422, {"id": "kvm2", "uri": "qemu+ext:///system"})
    nowhere = f"qemu+unix:///session?socket={host.folder}/none"
    tour.ask("POST /api/hosts", 500, {"id": "kvm2", "uri": nowhere})
    tour.ask("POST /api/hosts", 400, {"id": "kvm 2", "uri": "qemu:///system"})
    tour.ask("GET /api/hosts", 200)
    tour.ask("GET /api/hosts/{host_id}", 200, **kvm1)
    tour.ask("GET /api/hosts/{host_id}", 404, host_id="kvm9")
    tour.ask("GET /api/hosts/{host_id}/info", 200, **kvm1)

    tour.ask("GET /api/hosts/{host_id}/vms", 200, **kvm1)
    tour.ask("GET /api/hosts/{host_id}/vms/{vm}", 200, **web)
    tour.ask("GET /api/hosts/{host_id}/vms/{vm}", 404, host_id="kvm1", vm="mail")
    tour.ask("GET /api/hosts/{host_id}/vms/{vm}/hardware", 200, **web)
    tour.ask("GET /api/vms", 200, query="?name=web")
    tour.ask("GET /api/vms", 400, query="?state=on")
    tour.ask("GET /api/overview", 200)

    told = {"title": "The web server", "autostart": True}
    tour.ask(EDIT, 200, told, **web)
    tour.later(EDIT, {"description": "It serves."}, **web)
    with tour.asking(headers={"If-Match": '"0f1e2d3c4b5a69788796a5b4"'}):
        tour.ask(EDIT, 412, {"title": ""}, **web)
    with tour.asking(content=b"title", headers={"Content-Type": "text/plain"}):
        tour.ask(EDIT, 415, **web)
    with tour.asking(content=b" " * 70_000, headers=JSON):
        tour.ask(EDIT, 413, **web)

    tour.ask(ACTION, 409, {"action": "reset"}, **web)
    tour.ask(ACTION, 500, {"action": "start"}, host_id="kvm1", vm="broken")
    for frame in sent[1:]:
        listener.send(frame)
    task = tour.ask(ACTION, 202, {"action": "start"}, prefer="respond-async", **web)
    ended = {"task_id": task["id"], "query": "?wait=30"}
    tour.ask("GET /api/tasks/{task_id}", 200, **ended)
    tour.ask("GET /api/tasks/{task_id}", 404, task_id=NOBODY)
    tour.ask("GET /api/tasks", 200, query="?vm=web")
    listener.wait(10, "vm-stats-updated")
    listener.wait(10, "error")
    tour.ask(ACTION, 204, {"action": "destroy"}, **web)

    both = {"action": "start", "filter": {"host": "kvm1", "name": "*"}}
    tour.ask("POST /api/actions", 400, {"action": "start"})
    slow = both | {"per_host": 1}
    many = tour.ask("POST /api/actions", 202, slow, prefer="respond-async")
    tour.ask("DELETE /api/tasks/{task_id}", 200, task_id=many["id"])
    tour.ask("GET /api/tasks/{task_id}", 200, task_id=many["id"], query="?wait=30")
    off = {"action": "destroy", "vms": [{"host": "kvm1", "name": "web"}]}
    done = tour.ask("POST /api/actions", 200, off)
    tour.ask("DELETE /api/tasks/{task_id}", 409, task_id=done["id"])
    tour.ask("DELETE /api/tasks/{task_id}", 404, task_id=NOBODY)

    tour.ask("POST /api/hosts/check", 200, {"uri": host.uri})
    tour.ask("POST /api/hosts/check", 422, {"uri": "qemu+ext:///system"})
    tour.later("POST /api/hosts/check", {"uri": host.uri})
    tour.ask("POST /api/hosts/{host_id}/sync", 204, **kvm1)
    tour.later("POST /api/hosts/{host_id}/sync", **kvm1)
    tour.later("GET /api/hosts/{host_id}/info", **kvm1)
    tour.ask("PATCH /api/hosts/{host_id}", 200, {"uri": host.uri}, **kvm1)
    tour.later("PATCH /api/hosts/{host_id}", {"uri": host.uri}, **kvm1)
    tour.later("POST /api/hosts", {"id": "kvm2", "uri": host.uri})
    tour.ask("DELETE /api/hosts/{host_id}", 204, host_id="kvm2")
    tour.read("GET /metrics", 12)
    since = listener.wait(10, "subscribed")["cursor"]
    tour.read("GET /api/events", 8, f"?topics=hosts&since={since}")
    tour.ask("GET /ws", 426)
    tour.ask("POST /api/hosts/{host_id}/disconnect", 200, **kvm1)
    tour.ask("GET /api/hosts/{host_id}/info", 503, **kvm1)
    tour.ask("POST /api/hosts/{host_id}/connect", 200, **kvm1)
    tour.ask("GET /api/health", 200)
    tour.ask("GET /api/docs", 200)
    tour.ask("GET /api/docs/{file}", 200, file="swagger-ui-bundle.js")
    tour.ask("GET /api/docs/{file}", 404, file="none.js")
    tour.ask("GET /api/problems", 200)
    tour.ask("GET /api/problems/{kind}", 200, kind="vm-busy")
    tour.ask("GET /api/problems/{kind}", 404, kind="none")
    _tokens(tour)
    _refusals(tour, system)
    _bounds(tour, system, late)
    _keys(tour, system, host)
    listener.wait(10, "host-removed", id="kvm1")
    sent += _sent_again(listener)
    tour.listen(listener, sent)
    return tour


def _tokens(tour: Tour) -> None:
    """Who is let in."""
    new = {"name": "ci", "role": "operator", "hosts": ["kvm*"], "expires_in_s": 7776000}
    tour.ask("POST /api/tokens", 200, new)
    tour.ask("POST /api/tokens", 409, new)
    tour.ask("GET /api/tokens", 200)
    tour.ask("POST /api/tickets", 200)
    tour.ask("GET /api/audit", 200, query="?host=kvm1&vm=web&limit=3")
    tour.ask("DELETE /api/tokens/{token}", 204, token="ci")
    tour.ask("DELETE /api/tokens/{token}", 404, token="ci")


def _refusals(tour: Tour, system: System) -> None:
    """Who may not come in, and where nobody is to ask."""
    url = system.environment["DATABASE_URL"]
    web = system.web(VIRTUMANCER_AUTH="tokens")
    with web.client() as client:
        with tour.asking(client):
            tour.ask("GET /api/hosts", 401)
        with tour.asking(client, headers=admit(url, "viewer", "monitoring")):
            tour.ask("DELETE /api/hosts/{host_id}", 403, host_id="kvm1")
        limited = admit(url, "admin", "site-north", hosts=["north-*"])
        with tour.asking(client, headers=limited):
            tour.ask("GET /api/tokens", 403)
        wrong = {"Authorization": "Bearer vm_wrong"}
        with tour.asking(client, headers=wrong):
            tour.ask("GET /api/hosts", 401)
            while client.get("/api/hosts", headers=wrong).status_code == 401:
                continue
            tour.ask("GET /api/hosts", 429)
    web.kill()
    nowhere = system.web(DATABASE_URL="postgresql:///none?host=/nowhere")
    with nowhere.client() as client, tour.asking(client):
        tour.ask("GET /api/hosts", 503)
    nowhere.kill()


def _slow_client(web: Web, rest: bytes = b"") -> socket.socket:
    """Somebody who never comes to the end of a request."""
    url = httpx.URL(web.url)
    client = socket.create_connection((url.host, url.port or 80), 60)
    client.sendall(b"POST /api/hosts HTTP/1.1\r\nHost: localhost\r\n" + rest)
    return client


def _bounds(tour: Tour, system: System, late: socket.socket) -> None:
    """What is refused whoever asks for it."""
    with tour.asking(headers={"Host": "virt.example.org"}):
        tour.ask("GET /api/hosts", 403)
    with tour.asking(headers={"Origin": "https://elsewhere.example.org"}):
        tour.ask("GET /api/hosts", 403)
    with tour.asking(headers={"X-Large": "x" * 40_000}):
        tour.ask("GET /api/hosts", 431)
    tour.ask("GET /api/hosts", 414, query="?limit=" + "0" * 10_000)
    with late, late.makefile("rb") as answer:
        _, _, body = answer.read().partition(b"\r\n\r\n")
        tour.keep("POST /api/hosts", 408, msgspec.json.decode(body))
    busy = system.web(VIRTUMANCER_MAX_REQUESTS="1")
    body_to_come = b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with busy.client() as client, ExitStack() as slow:
        while client.get("/api/docs").status_code != 503:
            slow.enter_context(_slow_client(busy, body_to_come))
            time.sleep(0.1)
        with tour.asking(client):
            tour.ask("GET /api/hosts", 503)
    busy.kill()


def _keys(tour: Tour, system: System, host: Host) -> None:
    """The same key again while nobody works, after a cancellation, and too late."""
    kvm1 = {"host_id": "kvm1"}
    sync, check = "POST /api/hosts/{host_id}/sync", "POST /api/hosts/check"
    uri = {"uri": host.uri}
    [worker] = system.of("worker")
    worker.kill()
    begun = tour.ask(check, 202, uri, prefer="respond-async", key="one")
    tour.ask(check, 409, uri, key="one")
    tour.ask(check, 422, {"uri": "qemu:///system"}, key="one")
    tour.ask("DELETE /api/tasks/{task_id}", 200, task_id=begun["id"])
    tour.ask(check, 409, uri, key="one")
    tour.ask(sync, 202, prefer="respond-async", key="two", **kvm1)
    tour.ask("DELETE /api/hosts/{host_id}", 204, **kvm1)
    tour.ask(sync, 409, key="two", **kvm1)


def _sent_again(listener: Listener) -> Iterator[Record]:
    """A subscription that goes on where the first began, and its end."""
    since = listener.wait(10, "subscribed")["cursor"]
    again = {"type": "subscribe", "payload": {"topics": ["hosts"], "since": since}}
    listener.send(again)
    listener.wait(10, "replayed")
    yield again
    leaving = {"type": "unsubscribe", "payload": {"topics": ["hosts"]}}
    listener.send(leaving)
    listener.wait(10, "unsubscribed")
    yield leaving


def _sent() -> Iterator[Record]:
    """What a client can send, the last of it in vain."""
    yield {"type": "subscribe", "payload": {"topics": ["hosts", "vms", "tasks"]}}
    address = {"hostId": "kvm1", "vmName": "web"}
    yield {"type": "subscribe-vm-stats", "payload": address}
    unknown = {"hostId": "kvm1", "vmName": "mail"}
    yield {"type": "unsubscribe-vm-stats", "payload": unknown}
