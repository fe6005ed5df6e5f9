"""First words to the API: does it answer, does it know the demo host, what to try."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

DEMO = "demo"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Api:
    """The API as seen from this machine."""

    host: str
    port: int
    token: str = ""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded body; status 0 when nobody answers."""
        connection = HTTPConnection(self.host, self.port, timeout=40)
        try:
            sent = None if body is None else json.dumps(body)
            shown = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request(method, path, sent, (JSON if sent else {}) | shown)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException):
            return 0, None
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, None

    def answers(self) -> bool:
        return self.call("GET", "/api/health")[0] == 200


def local_address(bind: str) -> str:
    """Where a server that listens on `bind` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(bind, bind)


def register_demo(api: Api, uri: str, say: Callable[[str], None]) -> bool:
    """Add the embedded hypervisor as host `demo` unless it is there."""
    _, hosts = api.call("GET", "/api/hosts")
    for host in hosts or []:
        if host.get("id") == DEMO:
            if host.get("uri") == uri:
                return True
            say(f"the host {DEMO} is another one: {host.get('uri')}. It stays.")
            return False
    problem = None
    for _ in range(3):
        status, problem = api.call("POST", "/api/hosts", {"id": DEMO, "uri": uri})
        if status in (200, 201, 202, 409):
            return True
        # The worker may have needed a moment longer than the web process.
        time.sleep(1)
    words = problem.get("detail") if isinstance(problem, dict) else problem
    say(f"the demo host could not be added: {words}")
    return False


OPEN = """\
Nobody is asked for a token (VIRTUMANCER_AUTH=off): good for a first tour, since only
this machine can reach it. VIRTUMANCER_AUTH=tokens bin/up asks for one."""
LOCKED = """\
Every request needs a token. To make one for yourself:

  export VIRTUMANCER_TOKEN=$(bin/virtumancer token create me --role admin | tail -1)"""


def things_to_try(api: Api, *, auth: str, demo: bool) -> str:
    """The URL, who gets in, and a few commands."""
    url = api.url
    shown = '-H "Authorization: Bearer $VIRTUMANCER_TOKEN" ' if auth == "tokens" else ""
    url = f"{shown}{url}"
    post = "-X POST -H 'Content-Type: application/json'"
    if demo:
        lines = [
            f"curl {url}/api/hosts/demo/vms",
            f'curl {post} -d \'{{"action": "start"}}\''
            f" {url}/api/hosts/demo/vms/demo-one/action",
            f"curl {url}/api/hosts/demo/vms/demo-one/hardware",
            f"curl {url}/api/hosts/demo/info",
            "bin/virtumancer watch",
        ]
    else:
        host = '{"id": "my-host", "uri": "qemu+ssh://me@my-host/system"}'
        lines = [
            f"curl {url}/api/health",
            f"curl {post} -d '{host}' {url}/api/hosts",
            f"curl {url}/api/hosts/my-host/vms",
            f"curl {url}/api/tasks",
            "bin/virtumancer --help",
        ]
    words = LOCKED if auth == "tokens" else OPEN
    tries = "\n".join(f"  {line}" for line in lines)
    return f"Virtumancer answers at {api.url}\n\n{words}\n\n{tries}"
