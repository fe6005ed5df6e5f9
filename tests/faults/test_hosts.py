"""A hypervisor that dies, freezes or says nothing harms itself alone."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import httpx
import libvirt
import pytest

from embedded.folders import scratch
from embedded.libvirtd import Libvirtd
from tests.faults.conftest import Hosts, NewLab, uri
from tests.lab.hypervisors import behind_our_back, define
from tests.lab.peers import silent_tcp
from tests.lab.system import System, eventually

RUNNING = 1
LOST_S = 20
BACK_S = 5


@pytest.fixture
def libvirtd(hosts_folder: Path) -> Iterator[Libvirtd]:
    """A hypervisor of this test's own, to be ill-treated."""
    with scratch() as folder, Libvirtd(folder / "lv") as server:
        yield server


@pytest.fixture
def lab(new_lab: NewLab, libvirtd: Libvirtd) -> Iterator[System]:
    with new_lab(VIRTUMANCER_URI_SOCKET_DIRS=str(libvirtd.folder)) as lab:
        lab.start()
        lab.add_host("one", libvirtd.uri("test", "default"))
        yield lab


def reachable(lab: System, state: str) -> Callable[[], bool]:
    return lambda: lab.host("one")["state"] == state


def test_a_killed_libvirtd_is_told_and_taken_up_again_with_all_its_changes(
    lab: System, libvirtd: Libvirtd
) -> None:
    # The test driver's domains last for as long as somebody is connected.
    behind = libvirt.open(libvirtd.uri("test", "default"))
    define(behind, "gone with the daemon")
    eventually(lambda: lab.state("one", "gone with the daemon"), 5)
    listener = lab.listen()
    listener.subscribe("one", "test")
    listener.wait(5, "vm-stats-updated")

    libvirtd.kill()
    eventually(reachable(lab, "unreachable"), LOST_S)

    lost = lab.host("one")
    assert any(w in lost["error"]["detail"] for w in ("connection", "socket"))
    assert lost["next_retry_at"]
    assert lab.vms("one")["gone with the daemon"]["stale"] is True
    refused = lab.act("one", "test", "start")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]

    del behind
    libvirtd.start()
    back = time.monotonic()
    eventually(reachable(lab, "connected"), BACK_S)
    eventually(lambda: "gone with the daemon" not in lab.vms("one"), BACK_S)
    listener.wait(BACK_S, "vms-changed", since=back, hostId="one")
    listener.wait(BACK_S, "vm-stats-updated", since=back)
    assert lab.host("one")["error"] is None
    assert lab.vms("one")["test"]["stale"] is False
    with behind_our_back(libvirtd) as behind:
        define(behind, "new")
        eventually(lambda: lab.state("one", "new"), 2)


def test_a_frozen_libvirtd_is_unreachable_and_comes_back(
    lab: System, libvirtd: Libvirtd
) -> None:
    libvirtd.pause()
    try:
        eventually(reachable(lab, "unreachable"), LOST_S)
        assert "answer" in lab.host("one")["error"]["detail"]
        assert lab.vms("one")["test"]["stale"] is True
    finally:
        libvirtd.resume()
    eventually(reachable(lab, "connected"), BACK_S)
    assert lab.act("one", "test", "destroy").status_code == 204


def test_adding_a_silent_host_fails_within_the_connect_limit(lab: System) -> None:
    with silent_tcp() as port:
        began = time.monotonic()
        answer = lab.api.post(
            "/api/hosts",
            json={"id": "silent", "uri": f"qemu+tcp://127.0.0.1:{port}/system"},
        )
        lasted_s = time.monotonic() - began

    assert answer.status_code == 500
    assert "10" in answer.json()["detail"]
    assert lasted_s < 12
    assert [h["id"] for h in lab.api.get("/api/hosts").json()] == ["one"]


@contextmanager
def pestering(lab: System, host_ids: list[str]) -> Iterator[None]:
    """Clients that keep on asking hosts that do not answer."""
    over = Event()

    def pester(host_id: str) -> None:
        with lab.webs[0].client() as client:
            while not over.is_set():
                client.get(f"/api/hosts/{host_id}/info", headers={"Prefer": "wait=1"})
                over.wait(0.1)

    with ThreadPoolExecutor(len(host_ids)) as threads:
        futures = [threads.submit(pester, host_id) for host_id in host_ids]
        try:
            yield
        finally:
            over.set()
    for future in futures:
        future.result()


def durations_s(lab: System) -> dict[str, float]:
    """The median time of each kind of request to the good host."""

    def taken_s(ask: Callable[[], httpx.Response]) -> float:
        began = time.monotonic()
        assert ask().status_code < 300
        return time.monotonic() - began

    kinds: dict[str, Callable[[], httpx.Response]] = {
        "start": lambda: lab.act("good", "vm", "start"),
        "destroy": lambda: lab.act("good", "vm", "destroy"),
        "info": lambda: lab.api.get("/api/hosts/good/info"),
        "hardware": lambda: lab.api.get("/api/hosts/good/vms/vm/hardware"),
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(20):
        for kind, ask in kinds.items():
            taken[kind].append(taken_s(ask))
    return {kind: statistics.median(values) for kind, values in taken.items()}


def test_eight_silent_hosts_slow_nobody_else(
    new_lab: NewLab, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "vm")
    with new_lab(VIRTUMANCER_WORKER_THREADS="4") as lab, ExitStack():
        lab.start()
        good, *silent = hosts(9)
        lab.add_host("good", uri(good))
        silent_ids = [f"silent-{number}" for number in range(8)]
        for host_id, host in zip(silent_ids, silent, strict=True):
            lab.add_host(host_id, uri(host))
        listener = lab.listen()
        listener.subscribe("good", "vm")
        listener.wait(5, "vm-stats-updated")
        # The same clients ask in both runs; only the hosts' silence is new.
        with pestering(lab, silent_ids):
            before = durations_s(lab)
            for host in silent:
                host.go_silent()
            time.sleep(1)
            # A noisy neighbour on this machine is no silent host: best of eight.
            slowdowns = []
            for _ in range(8):
                after = durations_s(lab)
                slowdowns.append(max(after[kind] / before[kind] for kind in before))
                if slowdowns[-1] <= 1.2:
                    break
            since = time.monotonic()
            listener.wait(4, "vm-stats-updated", since=since)
        assert min(slowdowns) <= 1.2, slowdowns
        down = [h for h in silent_ids if lab.host(h)["state"] == "unreachable"]
        eventually(
            lambda: all(lab.host(h)["state"] == "unreachable" for h in silent_ids),
            LOST_S,
            f"only {down} are told",
        )
