"""Throughput by hosts of slow actions, and the work of one monitor by monitors."""

import time
from contextlib import ExitStack

from bench.figures import Figure, at_least_share, median
from bench.power import VERBS, press
from bench.rig import Benchmark, Rig, Size, domains, port_of, settled, test_uri
from bench.scripts import Script, cpu_s
from embedded.processes import family
from tests.lab.system import System, eventually

SLOW_S = 0.050
SHARE = 4
"""VIRTUMANCER_HOST_SHARE's default: the threads that are one host's worth."""


def scale(rig: Rig, size: Size) -> list[Figure]:
    return _actions(rig, size) + _monitors(rig, size)


def _actions(rig: Rig, size: Size) -> list[Figure]:
    """As many clients as threads; every start and destroy takes the host 50 ms more."""
    counts = [n for n in (1, 2, 4, 8) if n <= size.hosts]
    found: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as stack:
        links = [rig.socket() for _ in range(size.hosts)]
        for link in links:
            server = stack.enter_context(rig.hypervisor())
            names = stack.enter_context(domains(server, SHARE))
            arguments = (server.socket, link, SLOW_S, "actions")
            stack.enter_context(Script("slow_link", *arguments))
        lab = stack.enter_context(rig.system())
        lab.start()
        for number, link in enumerate(links):
            lab.add_host(f"host-{number}", test_uri(link))
        settled(lab)
        load = stack.enter_context(Script("http_clients"))
        requests = [
            [press(f"host-{number}", name, verb).decode() for verb in VERBS]
            for number in range(size.hosts)
            for name in names
        ]
        for _ in range(size.rounds):
            for count in counts:
                done = load.ask(
                    "load",
                    port=port_of(lab.webs[0]),
                    requests=requests[: count * SHARE],
                    seconds=size.seconds,
                )
                assert set(done["statuses"]) == {"204"}, done
                found[count].append(done["a_second"])
                settled(lab)
                for number in range(count):
                    for name in names:
                        lab.act(f"host-{number}", name, "destroy")
    one = median(found[1]).value
    target = at_least_share(0.9)
    return [
        Figure(
            f"scale {count} hosts",
            "actions/s",
            median(found[count]),
            median([one * count]),
            target,
        )
        for count in counts[1:]
    ]


def _monitors(rig: Rig, size: Size) -> list[Figure]:
    """The share of 30 hosts that one of three monitors has, by its CPU time."""
    hosts = 30 if size.hosts > 2 else 3
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        names = stack.enter_context(domains(server, 4))
        lab = stack.enter_context(rig.system(VIRTUMANCER_STATS_INTERVAL_S="0.5"))
        lab.start()
        for number in range(hosts):
            lab.add_host(f"host-{number}", test_uri(server.socket))
        listener = lab.listen()
        for number in range(hosts):
            for name in names:
                listener.subscribe(f"host-{number}", name)
        settled(lab)
        alone = _busiest(lab, size)
        lab.monitor()
        lab.monitor()
        eventually(lambda: _most(lab) == hosts // 3, 30, "the hosts are not shared out")
        settled(lab)
        time.sleep(2)
        shared = _busiest(lab, size)
    ours = median([1 / x for x in shared])
    floor = median([3 / x for x in alone])
    return [
        Figure("scale 3 monitors", "1/CPU s", ours, floor, at_least_share(0.9)),
    ]


def _busiest(lab: System, size: Size) -> list[float]:
    """CPU seconds a second of the monitor that has most to do, with its children."""
    found = []
    for _ in range(max(3, size.rounds)):
        before = _used(lab)
        time.sleep(size.seconds)
        after = _used(lab)
        found.append(max(after[pid] - before[pid] for pid in before) / size.seconds)
    return found


def _used(lab: System) -> dict[int, float]:
    return {
        monitor.pid: sum(map(cpu_s, family(monitor.pid)))
        for monitor in lab.of("monitor")
    }


def _most(lab: System) -> int:
    rows = lab.rows("select count(*) as n from leases group by process_id")
    return max(row["n"] for row in rows) if len(rows) == 3 else 0


SCALE = Benchmark(
    scale,
    full=Size(rounds=5, hosts=8, seconds=4),
    toy=Size(rounds=1, hosts=2, seconds=0.5),
)
