"""One request for every answer that the documents show: real requests, real answers.

Whoever adds a route adds a line to ``walk``, and records it all anew:

    python -m tests.documents
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.lab.listener import Listener
from tests.lab.system import System

Record = dict[str, Any]

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

    def ask(
        self,
        operation: str,
        status: int,
        json: Any = None,
        query: str = "",
        prefer: str = "",
        **place: str,
    ) -> Any:
        """What is answered to an operation, such as ``GET /api/hosts/{host_id}``."""
        method, template = operation.split()
        answer = self._system.api.request(
            method,
            template.format(**place) + query,
            json=json,
            headers={"Prefer": prefer} if prefer else {},
        )
        assert answer.status_code == status, (operation, answer.text)
        self.headers.setdefault((operation, status), set()).update(answer.headers)
        if "json" not in answer.headers.get("content-type", "json"):
            return answer.text
        body = answer.json() if answer.content else None
        record = {"operation": operation, "status": status, "body": body}
        self.records.append(record | ({"request": json} if json else {}))
        return body

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
    tour.ask("PATCH /api/hosts/{host_id}/vms/{vm}", 200, told, **web)

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
    tour.ask("POST /api/hosts/{host_id}/sync", 204, **kvm1)
    tour.ask("PATCH /api/hosts/{host_id}", 200, {"uri": host.uri}, **kvm1)
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
    tour.ask("DELETE /api/hosts/{host_id}", 204, **kvm1)
    listener.wait(10, "host-removed")
    sent += _sent_again(listener)
    tour.listen(listener, sent)
    return tour


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
