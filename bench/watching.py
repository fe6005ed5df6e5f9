"""The monitor's tick: what a thousand watched VMs of one host cost."""

import json
import time
from contextlib import ExitStack

import libvirt

from bench.figures import Figure, at_most, at_most_times, exactly, median
from bench.rig import Benchmark, Rig, Size, port_of, settled
from bench.scripts import Script, cpu_s
from embedded.processes import family
from tests.lab.proxy import STATS, LibvirtProxy
from tests.lab.system import Process, eventually

INTERVAL_S = 1.0
IS_ALIVE = 157
"""REMOTE_PROC_CONNECT_GET_LIB_VERSION, a look whether the host is there."""
# Off, so that a thousand of them fit: the driver still answers all that it knows.
DOMAIN = """\
<domain type='qemu'>
  <name>vm-{number:05}</name>
  <memory unit='KiB'>16384</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/nowhere/{number}.qcow2'/><target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""


def poll(rig: Rig, size: Size) -> list[Figure]:
    ours: list[float] = []
    floor: list[float] = []
    calls_a_tick: list[float] = []
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        other = libvirt.open(server.uri("qemu", "session"))
        stack.callback(other.close)
        for number in range(size.vms):
            other.defineXML(DOMAIN.format(number=number))
        names = [f"vm-{number:05}" for number in range(size.vms)]
        proxy = stack.enter_context(LibvirtProxy(server.socket, rig.socket()))
        lab = stack.enter_context(
            rig.system(VIRTUMANCER_STATS_INTERVAL_S=str(INTERVAL_S))
        )
        lab.start()
        lab.add_host("one", f"qemu+unix:///session?socket={proxy.listen}")
        settled(lab)
        clients = stack.enter_context(Script("sockets"))
        asks = [
            json.dumps(
                {
                    "type": "subscribe-vm-stats",
                    "payload": {"hostId": "one", "vmName": name},
                }
            )
            for name in names
        ]
        [monitor] = lab.of("monitor")
        idle_s = _used_s(monitor, 2 * size.seconds) / 2
        clients.ask("enter", port=port_of(lab.webs[0]), path="/ws", asks=[asks])
        bare = stack.enter_context(
            Script("libvirt_calls", server.uri("qemu", "session"))
        )
        # The first ticks look every name up.
        eventually(lambda: proxy.calls[STATS] >= 2, 60)
        time.sleep(2 * INTERVAL_S + size.vms / 500)
        for _ in range(size.rounds):
            before = proxy.calls.copy()
            took_s = _used_s(monitor, size.seconds) - idle_s
            calls = proxy.calls - before
            ours.append(took_s * 1000 / calls[STATS])
            del calls[IS_ALIVE]
            calls_a_tick.append(calls.total() / calls[STATS])
            floor.append(bare.ask("stats", calls=5))
    return [
        Figure(
            "poll calls a tick",
            "calls",
            median(calls_a_tick),
            exactly(1),
            at_most(1, "call"),
        ),
        Figure("poll CPU a tick", "ms", median(ours), median(floor), at_most_times(3)),
    ]


def _used_s(monitor: Process, seconds: float) -> float:
    """The CPU time that the monitor and its children take in so many seconds."""
    pids = family(monitor.pid)
    before_s = sum(map(cpu_s, pids))
    time.sleep(seconds)
    return sum(map(cpu_s, pids)) - before_s


POLL = Benchmark(
    poll,
    full=Size(rounds=5, vms=1000, seconds=5),
    toy=Size(rounds=1, vms=10, seconds=2.2),
)
