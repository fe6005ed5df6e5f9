"""Lists and searches: what is read from Postgres, beside the same bytes from memory."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from bench.figures import (
    Figure,
    at_least_share,
    at_most_more,
    median,
)
from bench.rig import Benchmark, Rig, Size, domains, port_of, settled, test_uri
from bench.scripts import Script
from bench.wire import Wire, request
from tests.lab.system import System

LIST = "/api/hosts/one/vms"


@contextmanager
def listed(rig: Rig, size: Size) -> Iterator[tuple[System, int, int]]:
    """A system with a host of so many VMs, the ports of it and of the bare app."""
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        stack.enter_context(domains(server, size.vms))
        lab = stack.enter_context(rig.system())
        lab.start()
        lab.add_host("one", test_uri(server.socket))
        settled(lab)
        port = port_of(lab.webs[0])
        with Wire(port) as wire:
            wire.timed(request("GET", LIST), 200)
            path = rig.folder / "list.json"
            path.write_bytes(wire.body)
        app = stack.enter_context(Script("memory_app", path))
        yield lab, port, int(app.hello)


def many(rig: Rig, size: Size) -> list[Figure]:
    ours: list[float] = []
    unchanged: list[float] = []
    floor: list[float] = []
    floor_304: list[float] = []
    with listed(rig, size) as (_, port, bare_port), Script("http_clients") as load:
        with Wire(port) as wire:
            wire.timed(request("GET", LIST), 200)
            tag = wire.header("ETag")
        series = [
            (floor, bare_port, request("GET", "/"), "200"),
            (ours, port, request("GET", LIST), "200"),
            (floor_304, bare_port, request("GET", "/304"), "304"),
            (unchanged, port, request("GET", LIST, If_None_Match=tag), "304"),
        ]
        for number in range(size.rounds + 1):
            for values, to, asked, status in series:
                done = load.ask(
                    "load",
                    port=to,
                    requests=[[asked.decode()]] * size.clients,
                    seconds=size.seconds,
                )
                assert set(done["statuses"]) == {status}, done
                if number:
                    values.append(done["a_second"])
    share, more = at_least_share(0.6), at_least_share(0.8)
    return [
        Figure("list", "requests/s", median(ours), median(floor), share),
        Figure("list 304", "requests/s", median(unchanged), median(floor), more),
        Figure(
            "list 304 beside a bare 304",
            "requests/s",
            median(unchanged),
            median(floor_304),
            None,
        ),
    ]


def one(rig: Rig, size: Size) -> list[Figure]:
    ours: list[float] = []
    floor: list[float] = []
    with (
        listed(rig, size) as (_, port, bare_port),
        Wire(port) as wire,
        Wire(bare_port) as bare,
    ):
        asked, asked_bare = request("GET", LIST), request("GET", "/")
        for number in range(size.rounds + 5):
            bare_ms = bare.timed(asked_bare, 200)
            took_ms = wire.timed(asked, 200)
            if number >= 5:
                floor.append(bare_ms)
                ours.append(took_ms)
    target = at_most_more(2)
    return [Figure("list-one p50", "ms", median(ours), median(floor), target)]


MANY_HOSTS = """
insert into hosts (id, uri, state)
select 'fleet-' || n, 'qemu+unix:///session?socket=/nowhere/' || n, 'connected'
from generate_series(1, %(hosts)s::int) n
"""
MANY_VMS = """
insert into vms (
    host_db_id, uuid, name, title, description, vcpu_count, memory_bytes, state,
    state_reason, persistent, autostart, graphics, hardware, xml_hash, observation
)
select h.db_id, gen_random_uuid(), v.name || '-' || h.id, v.title, v.description,
    v.vcpu_count, v.memory_bytes, v.state, v.state_reason, v.persistent, v.autostart,
    v.graphics,
    jsonb_set(v.hardware, '{networks,0,mac,address}', to_jsonb(
        '52:54:01:' || lpad(to_hex(h.db_id %% 256), 2, '0')
        || ':' || lpad(to_hex(row_number() over (partition by h.db_id) / 256), 2, '0')
        || ':' || lpad(to_hex(row_number() over (partition by h.db_id) %% 256), 2, '0')
    )), v.xml_hash, 1
from vms v, hosts h where h.id like 'fleet-%%'
"""
MACS = """
select db_id, hardware #>> '{networks,0,mac,address}' as mac from vms
where host_db_id in (select db_id from hosts where id like 'fleet-%%')
"""


def search(rig: Rig, size: Size) -> list[Figure]:
    """A fleet as rows: VMs that were read from a hypervisor, copied to many hosts."""
    ours: list[float] = []
    floor: list[float] = []
    with ExitStack() as stack:
        server = stack.enter_context(rig.hypervisor())
        stack.enter_context(domains(server, size.vms // size.hosts))
        lab = stack.enter_context(rig.system())
        lab.start()
        lab.add_host("one", test_uri(server.socket))
        settled(lab)
        for process in lab.of("monitor") + lab.of("worker"):
            process.terminate()
        lab.rows(MANY_HOSTS, hosts=size.hosts)
        lab.rows(MANY_VMS, none=None)
        lab.rows("analyze vms")
        rows = lab.rows(MACS)
        wire = stack.enter_context(Wire(port_of(lab.webs[0])))
        bare = stack.enter_context(
            psycopg.connect(lab.environment["DATABASE_URL"], autocommit=True)
        )
        chosen = random.Random(5).choices(rows, k=size.rounds + 5)
        for number, row in enumerate(chosen):
            bare_ms = _read(bare, row["db_id"])
            took_ms = wire.timed(request("GET", f"/api/vms?mac={row['mac']}"), 200)
            assert b'"host_id":"fleet-' in wire.body, wire.body
            if number >= 5:
                floor.append(bare_ms)
                ours.append(took_ms)
    target = at_most_more(3)
    return [Figure("search p50", "ms", median(ours), median(floor), target)]


def _read(bare: psycopg.Connection, db_id: int) -> float:
    """The milliseconds of one row by its primary key."""
    began = time.perf_counter()
    found = bare.execute(
        "select db_id, name, state from vms where db_id = %s", [db_id]
    ).fetchone()
    took_ms = (time.perf_counter() - began) * 1000
    assert found
    return took_ms


LISTS = Benchmark(
    many,
    full=Size(rounds=7, vms=1000, clients=16, seconds=1.5),
    toy=Size(rounds=1, vms=20, clients=4, seconds=0.2),
)
ONE = Benchmark(one, full=Size(rounds=300, vms=1000), toy=Size(rounds=3, vms=20))
SEARCH = Benchmark(
    search,
    full=Size(rounds=300, vms=10_000, hosts=20),
    toy=Size(rounds=3, vms=40, hosts=2),
)
