"""What the processes take when they do nothing, and how soon bin/up serves."""

import contextlib
import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Figure, at_most, exactly, median
from bench.rig import Benchmark, Rig, Size, domains, port_of, settled, test_uri
from bench.scripts import Script, resident_mib
from bench.wire import Wire, request
from embedded.processes import wait_until
from tests.lab.sshd import free_port
from tests.lab.system import System
from tests.lab.up import home_folder

TOP = Path(__file__).parent.parent


def memory(rig: Rig, size: Size) -> list[Figure]:
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        stack.enter_context(domains(server, size.vms))
        lab = stack.enter_context(rig.system())
        lab.start()
        time.sleep(2)
        figures = [
            Figure(f"memory {kind}", "MiB", exactly(_of(lab, kind)), None, target)
            for kind, target in {
                "web": at_most(90, "MiB"),
                "worker": None,
                "monitor": at_most(80, "MiB"),
            }.items()
        ]
        lab.add_host("host-0", test_uri(server.socket))
        settled(lab)
        lab.vms("host-0")
        for kind in ("web", "worker", "monitor"):
            name = f"memory {kind}, {size.vms} VMs"
            figures.append(Figure(name, "MiB", exactly(_of(lab, kind)), None, None))
        for number in range(1, size.hosts):
            lab.add_host(f"host-{number}", test_uri(server.socket))
        settled(lab)
        figures.append(
            Figure(
                f"memory monitor, {size.hosts} hosts",
                "MiB",
                exactly(_of(lab, "monitor")),
                None,
                at_most(80 + size.hosts, "MiB"),
            )
        )
    return figures + _sockets(rig, size)


def _sockets(rig: Rig, size: Size) -> list[Figure]:
    with ExitStack() as stack:
        lab = stack.enter_context(rig.system())
        web = lab.web()
        figures = []
        clients = stack.enter_context(Script("sockets"))
        for part in (1, 2):
            count = part * size.clients
            asks: list[list[str]] = [[] for _ in range(size.clients)]
            clients.ask("enter", port=port_of(web), path="/ws", asks=asks)
            time.sleep(1)
            limit = 90 + 15 * count / 1000
            figures.append(
                Figure(
                    f"memory web, {count} sockets",
                    "MiB",
                    exactly(resident_mib(web.pid)),
                    None,
                    at_most(limit, "MiB"),
                )
            )
    return figures


def _of(lab: System, kind: str) -> float:
    [process] = lab.of(kind)
    return resident_mib(process.pid)


def start_up(rig: Rig, size: Size) -> list[Figure]:
    """With everything installed: from nothing, and from the state that this leaves."""
    first: list[float] = []
    again: list[float] = []
    with home_folder() as folder:
        for number in range(size.rounds):
            state = folder / f"state-{number}"
            first.append(_up(state))
            again.append(_up(state))
    target = at_most(4, "s")
    return [
        Figure("start-up", "s", median(again), None, target),
        Figure("start-up from nothing", "s", median(first), None, target),
    ]


def _up(state: Path) -> float:
    """Run bin/up until its first 200, and end it in order; the seconds."""
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "VIRTUMANCER_STATE": str(state)}
    for name in ("DATABASE_URL", "REDIS_URL", "PYTHONPATH", "BIND"):
        environment.pop(name, None)
    log = state.with_suffix(".log")
    began = time.monotonic()
    with log.open("wb") as output:
        up = subprocess.Popen(
            [str(TOP / "bin" / "up")],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        assert wait_until(lambda: _answers(port), 60), log.read_text()
        return time.monotonic() - began
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(20)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError, AssertionError), Wire(port) as wire:
        return wire.ask(request("GET", "/api/hosts")) == 200
    return False


MEMORY = Benchmark(
    memory,
    full=Size(rounds=1, vms=1000, hosts=10, clients=1000),
    toy=Size(rounds=1, vms=10, hosts=2, clients=10),
)
START_UP = Benchmark(start_up, full=Size(rounds=5), toy=Size(rounds=1))
