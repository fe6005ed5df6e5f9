"""What is pushed: an event of another program, and stats for thousands of sockets."""

import json
import time
from contextlib import ExitStack

import libvirt
import msgspec

from bench.figures import Figure, at_most_more, at_most_times, median, p99
from bench.rig import Benchmark, Rig, Size, domains, port_of, settled, test_uri
from bench.scripts import Script, cpu_s
from common import bus
from common.shapes import DiskStats, NetStats, VmStats, VmStatsPayload, VmStatsUpdated
from tests.lab.system import eventually

EACH = 5
"""So many VMs each socket watches."""


def event(rig: Rig, size: Size) -> list[Figure]:
    """One event, heard by a bare callback and by a client of ours."""
    ours: list[float] = []
    floor: list[float] = []
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        [name] = stack.enter_context(domains(server, 1))
        lab = stack.enter_context(rig.system())
        lab.start()
        lab.add_host("one", test_uri(server.socket))
        uri = server.uri("test", "default")
        callback = stack.enter_context(Script("libvirt_calls"))
        callback.ask("listen", uri=uri)
        other = libvirt.open(uri)
        stack.callback(other.close)
        listener = lab.listen()
        domain = other.lookupByName(name)
        for number in range(size.rounds + 2):
            act = domain.destroy if number % 2 else domain.create
            settled(lab)
            time.sleep(0.05)
            began = time.monotonic()
            act()
            heard = callback.ask("next_event")
            listener.wait(10, "vms-changed", since=began, hostId="one")
            came = next(at for at in listener.instants("vms-changed") if at >= began)
            # Starting says two things, and each of them may be a frame.
            time.sleep(0.1)
            callback.ask("forget")
            if number >= 2:
                floor.append((heard - began) * 1000)
                ours.append((came - began) * 1000)
    return [
        Figure("event p50", "ms", median(ours), median(floor), at_most_more(40)),
        Figure("event p99", "ms", p99(ours), p99(floor), at_most_more(150)),
    ]


ROWS = """
with host as (
    insert into hosts (id, uri, state)
    values ('one', 'test+unix:///default?socket=/nowhere', 'connected')
    returning db_id
)
insert into vms (
    host_db_id, uuid, name, title, description, vcpu_count, memory_bytes, state,
    state_reason, persistent, autostart, graphics, observation
)
select db_id, gen_random_uuid(), 'vm-' || to_char(n, 'FM00000'), '', '', 2, 67108864, 1,
    1, true, false, '{"vnc": false, "spice": false}', 1
from host, generate_series(0, %(vms)s::int - 1) n
"""


def samples(vms: int) -> list[bytes]:
    """One sample of each VM, encoded as the monitor does it."""
    disk = DiskStats(
        device="vda",
        read_bytes=123_456_789,
        write_bytes=987_654_321,
        read_requests=12_345,
        write_requests=54_321,
        read_bytes_per_s=1024.5,
        write_bytes_per_s=2048.25,
    )
    nic = NetStats(
        device="vnet0",
        read_bytes=123_456_789,
        write_bytes=987_654_321,
        read_packets=12_345,
        write_packets=54_321,
        read_bytes_per_s=1024.5,
        write_bytes_per_s=2048.25,
    )
    stats = VmStats(
        state=1,
        memory=2_097_152,
        max_mem=2_097_152,
        vcpu=2,
        cpu_time=1_234_567_890,
        cpu_percent=12.5,
        disk_stats=[disk],
        net_stats=[nic],
    )
    names = [f"vm-{number:05}" for number in range(vms)]
    frames = [VmStatsUpdated(VmStatsPayload("one", name, stats)) for name in names]
    return [msgspec.json.encode(frame) for frame in frames]


def fanout(rig: Rig, size: Size) -> list[Figure]:
    """One sample of every VM at once: when its last client has it, and the CPU."""
    late: list[float] = []
    late_floor: list[float] = []
    cost: list[float] = []
    cost_floor: list[float] = []
    topics = [[(n + i) % size.vms for i in range(EACH)] for n in range(size.clients)]
    texts = samples(size.vms)
    deliveries = size.clients * EACH
    with ExitStack() as stack:
        lab = stack.enter_context(rig.system())
        web = lab.web()
        lab.rows(ROWS, vms=size.vms)
        clients = stack.enter_context(Script("sockets"))
        clients.ask("enter", port=port_of(web), path="/ws", asks=_subscribing(topics))
        channels = [bus.stats_channel("one", f"vm-{n:05}") for n in range(size.vms)]
        publisher = bus.connect(rig.redis.url, timeout_s=10)
        stack.callback(publisher.close)
        eventually(lambda: clients.ask("heard") == size.clients, 120)
        bare = stack.enter_context(Script("broadcast"))
        bare_clients = stack.enter_context(Script("sockets"))
        asks = [[json.dumps(topic)] for topic in topics]
        bare_clients.ask("enter", port=bare.hello, path="/", asks=asks)
        eventually(lambda: bare.ask("subscribed") == deliveries, 60)
        path = rig.folder / "messages.json"
        path.write_text(json.dumps([text.decode() for text in texts]))
        tell = bus.Bus(publisher)
        for number in range(size.rounds + 2):
            bare_clients.ask("expect", count=deliveries)
            before, began = cpu_s(bare.pid), time.monotonic()
            bare.ask("tell", path=str(path))
            last = bare_clients.ask("wait", timeout_s=30)
            bare_ms = [(at - began) * 1000 for at in last.values()]
            bare_us = (cpu_s(bare.pid) - before) * 1e6 / deliveries

            clients.ask("expect", count=deliveries)
            before, began = cpu_s(web.pid), time.monotonic()
            tell.publish(zip(channels, texts, strict=True))
            last = clients.ask("wait", timeout_s=30)
            took_ms = [(at - began) * 1000 for at in last.values()]
            took_us = (cpu_s(web.pid) - before) * 1e6 / deliveries
            assert len(last) == size.vms
            if number >= 2:
                late += took_ms
                late_floor += bare_ms
                cost.append(took_us)
                cost_floor.append(bare_us)
    times = at_most_times(1.5)
    return [
        Figure("fanout p99", "ms", p99(late), p99(late_floor), times),
        Figure("fanout CPU a frame", "µs", median(cost), median(cost_floor), times),
    ]


def _subscribing(topics: list[list[int]]) -> list[list[str]]:
    def ask(topic: int) -> str:
        address = {"hostId": "one", "vmName": f"vm-{topic:05}"}
        return json.dumps({"type": "subscribe-vm-stats", "payload": address})

    # What cannot be served is answered, when all that came before it is done.
    return [[*(ask(topic) for topic in own), "{}"] for own in topics]


EVENT = Benchmark(event, full=Size(rounds=200), toy=Size(rounds=2))
FANOUT = Benchmark(
    fanout,
    full=Size(rounds=30, vms=100, clients=2000),
    toy=Size(rounds=1, vms=10, clients=20),
)
