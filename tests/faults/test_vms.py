"""VMs and hosts that come, go and change their names in the middle of things."""

import threading
import time

import libvirt

from common import bus
from embedded.servers import Postgres, Redis
from tests.faults.conftest import Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.proxy import PRESSES, XML
from tests.lab.system import System, eventually

RUNNING, OFF = 1, 5
SETTLED_S = 5


def rows(lab: System, host_id: str) -> dict[str, str]:
    return {name: vm["uuid"] for name, vm in lab.vms(host_id).items()}


def really(behind: libvirt.virConnect) -> dict[str, str]:
    return {d.name(): d.UUIDString() for d in behind.listAllDomains()}


def test_a_vm_that_is_undefined_and_defined_again_is_one_vm(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    lab.start(workers=2)
    lab.add_host("one", uri(hosts(1)[0]))
    for _ in range(20):
        define(behind, "phoenix")
        behind.lookupByName("phoenix").undefine()
    define(behind, "phoenix")

    eventually(lambda: rows(lab, "one") == really(behind), SETTLED_S)
    listed = [vm["name"] for vm in lab.api.get("/api/hosts/one/vms").json()]
    assert listed.count("phoenix") == 1
    assert lab.act("one", "phoenix", "start").status_code == 204
    assert behind.lookupByName("phoenix").isActive()


def test_a_subscription_follows_a_name_to_its_next_bearer(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "phoenix")
    lab.start()
    lab.add_host("one", uri(hosts(1)[0]))
    listener = lab.listen()
    listener.subscribe("one", "phoenix")
    listener.wait(5, "vm-stats-updated")

    behind.lookupByName("phoenix").undefine()
    define(behind, "phoenix")
    behind.lookupByName("phoenix").create()
    reborn = time.monotonic()

    frame = listener.wait(8, "vm-stats-updated", since=reborn)
    assert frame["payload"]["vmName"] == "phoenix"


def test_a_host_deleted_in_the_middle_of_its_sync_and_added_again_has_no_ghosts(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, postgres: Postgres
) -> None:
    for number in range(50):
        define(behind, f"vm-{number}")
    lab.start(workers=2)
    slow, fast = hosts(2)
    lab.add_host("one", uri(slow))
    eventually(lambda: not lab.unfinished(), 5)

    hold = slow.hold_replies(XML)
    behind.lookupByName("vm-0").create()
    eventually(lambda: hold.reached, 5)
    assert lab.api.delete("/api/hosts/one").status_code == 204
    lab.add_host("one", uri(fast))
    hold.release()

    eventually(lambda: not lab.unfinished(), 10)
    eventually(lambda: rows(lab, "one") == really(behind), SETTLED_S)
    assert lab.rows("select count(*) from vms")[0]["count"] == len(really(behind))
    assert "unique constraint" not in postgres.log.read_text(errors="replace")


def test_one_hypervisor_under_two_ids_is_right_under_both(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "vm")
    lab.start()
    first, second = hosts(2)
    lab.add_host("one", uri(first))
    lab.add_host("two", uri(second))

    assert lab.act("one", "vm", "start").status_code == 204

    eventually(lambda: lab.state("two", "vm") == RUNNING, SETTLED_S)
    assert lab.api.delete("/api/hosts/one").status_code == 204
    assert lab.state("two", "vm") == RUNNING


def test_a_storm_of_500_starts_is_told_in_a_few_looks(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    names = [f"vm-{number}" for number in range(500)]
    for name in names:
        define(behind, name)
    lab.start()
    lab.add_host("one", uri(hosts(1)[0]))
    eventually(lambda: not lab.unfinished(), 10)
    [before] = lab.rows("select count(*) from tasks")
    deepest = Deepest(lab)

    with deepest:
        for name in names:
            behind.lookupByName(name).create()
        last = time.monotonic()

        def right() -> bool:
            states = {vm["state"] for n, vm in lab.vms("one").items() if n in names}
            return states == {RUNNING}

        eventually(right, 5, f"not right {time.monotonic() - last:.1f} s after")

    [after] = lab.rows("select count(*) from tasks")
    assert after["count"] - before["count"] < 60
    assert deepest.count < 60


class Deepest:
    """The most tasks that were unfinished at once."""

    def __init__(self, lab: System) -> None:
        self.count = 0
        self._lab = lab
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        with self._lab.webs[0].client() as client:
            while not self._over.wait(0.1):
                tasks = client.get("/api/tasks?state=queued&limit=1000").json()
                self.count = max(self.count, len(tasks))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_task_that_lasts_is_told_of_as_running(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, redis: Redis
) -> None:
    define(behind, "vm")
    lab.start()
    [host] = hosts(1)
    lab.add_host("one", uri(host))
    eventually(lambda: not lab.unfinished(), SETTLED_S)
    listener = lab.listen()
    listener.send({"type": "subscribe", "payload": {"topics": ["tasks"]}})
    listener.wait(SETTLED_S, "subscribed")
    hold = host.hold_calls(*PRESSES)

    with bus.connect(redis.url) as client, bus.listen_for(client, bus.NEWS) as bell:
        task = lab.ask("one", "vm", "start").rpartition("/")[2]

        # Without the bell it would be told too, but a while later.
        eventually(bell.get_message, SETTLED_S)
        listener.wait(SETTLED_S, "task-updated", id=task, state="running")
        hold.release()
        listener.wait(SETTLED_S, "task-updated", id=task, state="done")
