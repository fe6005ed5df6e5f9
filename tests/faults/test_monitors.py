"""Whatever becomes of a monitor, another one owns its hosts and misses nothing."""

import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from embedded.folders import scratch
from embedded.servers import Postgres
from tests.faults.conftest import Facts, Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.proxy import Proxy
from tests.lab.system import Process, System, eventually

RUNNING, OFF = 1, 5
AFTER_KILL_S = 10
AFTER_STOP_S = 20


def leases(lab: System) -> list[Facts]:
    """Which process (by pid) owns which host."""
    return lab.rows(
        "select h.id, p.pid from hosts h join leases l on l.host_db_id = h.db_id"
        " join processes p on p.id = l.process_id order by h.id"
    )


def owned_by(lab: System, monitor: Process) -> list[str]:
    return [lease["id"] for lease in leases(lab) if lease["pid"] == monitor.pid]


@pytest.fixture
def shared(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> tuple[Process, Process]:
    """Two monitors with two hosts each: the one to be ill-treated, and the other."""
    define(behind, "vm")
    lab.start(monitors=2)
    for number, host in enumerate(hosts(4)):
        lab.add_host(f"host-{number}", uri(host))
    first, second = lab.of("monitor")
    eventually(lambda: len(owned_by(lab, first)) == len(owned_by(lab, second)) == 2, 10)
    return first, second


def test_a_killed_monitors_hosts_are_taken_over_and_no_event_is_lost(
    lab: System, shared: tuple[Process, Process], behind: libvirt.virConnect
) -> None:
    victim, heir = shared
    orphan = owned_by(lab, victim)[0]
    listener = lab.listen()
    listener.subscribe(orphan, "vm")
    listener.wait(5, "vm-stats-updated")

    victim.kill()
    killed = time.monotonic()
    behind.lookupByName("vm").create()

    eventually(lambda: len(owned_by(lab, heir)) == 4, AFTER_KILL_S)
    eventually(lambda: lab.state(orphan, "vm") == RUNNING, AFTER_KILL_S)
    listener.wait(AFTER_KILL_S, "vms-changed", since=killed, hostId=orphan)
    listener.wait(5, "vm-stats-updated", since=time.monotonic(), hostId=orphan)


def test_a_stopped_monitors_hosts_are_taken_over_and_it_lets_go_when_it_returns(
    lab: System, shared: tuple[Process, Process], behind: libvirt.virConnect
) -> None:
    victim, heir = shared
    orphan = owned_by(lab, victim)[0]

    victim.stop()
    behind.lookupByName("vm").create()
    eventually(lambda: len(owned_by(lab, heir)) == 4, AFTER_STOP_S)
    eventually(lambda: lab.state(orphan, "vm") == RUNNING, 5)
    victim.resume()

    eventually(lambda: victim.said("was taken for dead; starting afresh"), 10)
    eventually(lambda: len(owned_by(lab, victim)) == 2, 10)
    behind.lookupByName("vm").destroy()
    host_ids = [f"host-{number}" for number in range(4)]
    eventually(lambda: {lab.state(host_id, "vm") for host_id in host_ids} == {OFF}, 5)


def test_a_monitor_without_postgres_lets_go_and_finds_out(
    lab: System,
    hosts: Hosts,
    behind: libvirt.virConnect,
    postgres: Postgres,
    server_folder: Path,
) -> None:
    define(behind, "vm")
    database = lab.environment["DATABASE_URL"]
    with scratch() as folder:
        # libpq wants a socket of this very name.
        between = Proxy(postgres.socket, folder / postgres.socket.name)
        with between:
            lab.start(monitors=0)
            cut_off = lab.monitor(
                DATABASE_URL=database.replace(str(postgres.socket.parent), str(folder))
            )
            lab.add_host("one", uri(hosts(1)[0]))
            eventually(lambda: owned_by(lab, cut_off) == ["one"], 5)
            heir = lab.monitor()

            between.go_silent()
            eventually(lambda: owned_by(lab, heir) == ["one"], AFTER_STOP_S)
            behind.lookupByName("vm").create()
            eventually(lambda: lab.state("one", "vm") == RUNNING, 5)
            between.forward()

            eventually(lambda: cut_off.said("was taken for dead; starting afresh"), 20)
            assert owned_by(lab, heir) == ["one"]
            assert lab.host("one")["state"] == "connected"
            cut_off.kill()


def test_new_monitors_get_their_share(lab: System, hosts: Hosts) -> None:
    lab.start()
    for number, host in enumerate(hosts(6)):
        lab.add_host(f"host-{number}", uri(host))
    lab.monitor()
    lab.monitor()

    def shares() -> Iterator[int]:
        return (len(owned_by(lab, monitor)) for monitor in lab.of("monitor"))

    eventually(lambda: list(shares()) == [2, 2, 2], 10)
