"""Actions: one after another on an idle system, and as many as go."""

from contextlib import ExitStack

from bench.figures import Figure, at_least_share, at_most_more, median, p99
from bench.rig import Benchmark, Rig, Size, domains, port_of, settled, test_uri
from bench.scripts import Script
from bench.wire import Wire, request

VERBS = ("start", "destroy")


def press(host_id: str, name: str, action: str) -> bytes:
    path = f"/api/hosts/{host_id}/vms/{name}/action"
    return request("POST", path, {"action": action})


def action(rig: Rig, size: Size) -> list[Figure]:
    """The same two buttons of two VMs, through us and past us, in turn."""
    ours: list[float] = []
    floor: list[float] = []
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        mine, bare = stack.enter_context(domains(server, 2))
        lab = stack.enter_context(rig.system())
        lab.start()
        lab.add_host("one", test_uri(server.socket))
        settled(lab)
        calls = stack.enter_context(
            Script("libvirt_calls", server.uri("test", "default"))
        )
        wire = stack.enter_context(Wire(port_of(lab.webs[0])))
        for number in range(size.rounds + 2):
            for verb in VERBS:
                took_ms = wire.timed(press("one", mine, verb), 204)
                settled(lab)
                bare_ms = calls.ask("act", name=bare, action=verb)
                settled(lab)
                if number >= 2:  # The first ones open connections.
                    ours.append(took_ms)
                    floor.append(bare_ms)
    return [
        Figure("action p50", "ms", median(ours), median(floor), at_most_more(8)),
        Figure("action p99", "ms", p99(ours), p99(floor), at_most_more(30)),
    ]


def busy(rig: Rig, size: Size) -> list[Figure]:
    """Every client has VMs of its own and presses their buttons without a pause."""
    ours: list[float] = []
    floor: list[float] = []
    each = size.clients // size.hosts
    with ExitStack() as stack:
        servers = [stack.enter_context(rig.hypervisor()) for _ in range(size.hosts)]
        for server in servers:
            names = stack.enter_context(domains(server, 2 * each))
        mine, bare = names[:each], names[each:]
        lab = stack.enter_context(rig.system())
        lab.start()
        hosts = {f"host-{n}": server for n, server in enumerate(servers)}
        for host_id, server in hosts.items():
            lab.add_host(host_id, test_uri(server.socket))
        settled(lab)
        load = stack.enter_context(Script("http_clients"))
        uris = [server.uri("test", "default") for server in servers]
        calls = stack.enter_context(Script("libvirt_calls", *uris))
        requests = [
            [press(host_id, name, verb).decode() for verb in VERBS]
            for host_id in hosts
            for name in mine
        ]
        for _ in range(size.rounds):
            floor.append(
                calls.ask("busy", names=[bare] * size.hosts, seconds=size.seconds / 4)
            )
            calls.ask("off", names=[mine] * size.hosts)
            settled(lab)
            done = load.ask(
                "load",
                port=port_of(lab.webs[0]),
                requests=requests,
                seconds=size.seconds,
            )
            assert set(done["statuses"]) == {"204"}, done
            ours.append(done["a_second"])
            settled(lab)
    target = at_least_share(0.5)
    return [Figure("action-busy", "actions/s", median(ours), median(floor), target)]


ACTION = Benchmark(action, full=Size(rounds=100), toy=Size(rounds=1))
BUSY = Benchmark(
    busy,
    full=Size(rounds=5, hosts=8, clients=64, seconds=4),
    toy=Size(rounds=1, hosts=2, clients=4, seconds=0.4),
)
