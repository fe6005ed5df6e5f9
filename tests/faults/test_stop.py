"""SIGTERM under load: nothing that was begun is cut short."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import libvirt

from tests.faults.conftest import Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.proxy import PRESSES
from tests.lab.system import Process, System, eventually

WITHIN_S = 10
GOING_AWAY = 1001


class Clients:
    """Clients that act all the time; each has a VM of its own."""

    def __init__(self, lab: System, names: list[str]) -> None:
        self.statuses: list[int] = []
        self.cut: list[str] = []
        self._lab = lab
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._act, args=(name,)) for name in names
        ]

    def _act(self, name: str) -> None:
        url = self._lab.webs[0].url
        while not self._over.is_set():
            for action in ("start", "destroy"):
                try:
                    answer = httpx.post(
                        f"{url}/api/hosts/one/vms/{name}/action",
                        json={"action": action},
                        timeout=40,
                    )
                except httpx.ConnectError:
                    return  # The process has ended, in order.
                except httpx.TransportError as error:
                    self.cut.append(repr(error))
                    return
                self.statuses.append(answer.status_code)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()


def begin(lab: System, behind: libvirt.virConnect, hosts: Hosts) -> Clients:
    names = [f"vm-{number}" for number in range(4)]
    for name in names:
        define(behind, name)
    lab.add_host("one", uri(hosts(1)[0]))
    return Clients(lab, names)


def test_a_worker_finishes_what_it_holds(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    lab.start(workers=2)
    clients = begin(lab, behind, hosts)
    leaving = lab.of("worker")[0]

    with clients.at_work():
        eventually(lambda: len(clients.statuses) > 20, 10)
        code, lasted_s = leaving.terminate()
        more = len(clients.statuses) + 20
        eventually(lambda: len(clients.statuses) > more, 10)

    assert (code, lasted_s < WITHIN_S) == (0, True)
    assert set(clients.statuses) == {204}
    eventually(lambda: not lab.unfinished(), 10)
    assert {task["attempts"] for task in lab.rows("select attempts from tasks")} == {1}


def test_a_monitor_hands_its_hosts_on(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    lab.start(monitors=2)
    clients = begin(lab, behind, hosts)
    [owner] = lab.rows(
        "select p.pid from leases l join processes p on p.id = l.process_id"
    )
    [leaving] = [m for m in lab.of("monitor") if m.pid == owner["pid"]]

    with clients.at_work():
        code, lasted_s = leaving.terminate()

    assert (code, lasted_s < WITHIN_S) == (0, True)
    assert set(clients.statuses) == {204}
    behind.lookupByName("vm-0").create()
    eventually(lambda: lab.state("one", "vm-0") == 1, 5)


def test_a_web_answers_whom_it_took_on_and_sends_its_sockets_away(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    lab.start()
    clients = begin(lab, behind, hosts)
    define(behind, "waits")
    [host] = hosts(1)
    lab.add_host("slow", uri(host))
    hold = host.hold_replies(*PRESSES)
    listener = lab.listen()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            httpx.post(
                f"{lab.webs[0].url}/api/hosts/slow/vms/waits/action",
                json={"action": "start"},
                timeout=40,
            )
        )
    )
    waiting.start()
    eventually(lambda: hold.reached, 5)

    with clients.at_work():
        eventually(lambda: len(clients.statuses) > 20, 10)
        code, lasted_s = lab.webs[0].terminate()
    waiting.join()
    hold.release()

    assert (code, lasted_s < WITHIN_S) == (0, True)
    assert clients.cut == []
    assert set(clients.statuses) <= {202, 204}
    assert answers[0].status_code == 202
    assert answers[0].headers["Location"].startswith("/api/tasks/")
    assert listener.wait_until_closed(5) == GOING_AWAY
    eventually(lambda: not lab.unfinished(), 10)


def test_each_fault_and_each_task_says_what_an_operator_asks(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "vm")
    lab.start()
    [host] = hosts(1)
    lab.add_host("one", uri(host))

    refused = lab.api.post(
        "/api/hosts/one/vms/vm/action",
        json={"action": "reset"},
        headers={"X-Request-ID": "operator-1"},
    )
    task = lab.task(f"/api/tasks/{refused.json()['task']}")
    hold = host.hold_calls(*PRESSES)
    path = lab.ask("one", "vm", "start")
    eventually(lambda: hold.reached, 5)
    under_way = lab.task(path)
    host.refuse()
    eventually(lambda: lab.host("one")["state"] == "unreachable", 20)
    time.sleep(6)
    lost = lab.host("one")

    assert refused.status_code == 409
    assert task["kind"] == "reset"
    assert task["request_id"] == "operator-1"
    assert task["requested_by"]
    assert task["worker"]
    assert task["attempts"] == 1
    assert task["problem"]["detail"] == refused.json()["detail"]
    assert task["waits_for"] is None
    assert under_way["waits_for"] == "the host one"
    assert lab.said("reset", request="operator-1", task=task["id"])
    assert lab.said("request", request="operator-1", status=409)
    assert lost["error"]["detail"]
    assert lost["state_since"] < lost["next_retry_at"]
    # Each reason is said once, however often it was tried.
    said = [line["reason"] for line in lab.said("host unreachable", host="one")]
    assert len(said) == len(set(said)) <= 3
    assert lab.api.get("/api/health").status_code == 200


def test_nobody_waits_for_hosts_that_hang(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "vm")
    lab.start()
    links = {f"host-{number}": link for number, link in enumerate(hosts(4))}
    for host_id, link in links.items():
        lab.add_host(host_id, uri(link))
    eventually(lambda: not lab.unfinished(), 5)
    for link in links.values():
        link.go_silent()
    tasks = [lab.ask(host_id, "vm", "start") for host_id in links]
    eventually(lambda: all(lab.task(t)["state"] == "running" for t in tasks), 5)

    with ThreadPoolExecutor(len(lab.processes)) as threads:
        ended = list(threads.map(Process.terminate, lab.processes))

    assert {code for code, _ in ended} == {0}
    assert max(lasted_s for _, lasted_s in ended) < WITHIN_S
