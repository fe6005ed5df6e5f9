"""A hypervisor that lies harms its own rows alone: what it says comes from outside."""

import json
import os
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from common.db import sql
from common.errors import BrokenDomain, HostNotBelieved, UnknownVm
from embedded.libvirtd import Libvirtd
from tests.lab.hypervisors import behind_our_back, checked, define, hypervisor
from tests.lab.proxy import STATS, LyingProxy
from tests.lab.system import TOP
from tests.test_domain_xml import BILLION_LAUGHS, BROKEN
from tests.workers.test_sync import Hypervisor, World
from workers.fleet import FleetSample, counters_of
from workers.hypervisor import stats_call
from workers.hypervisor.connection import Connection
from workers.hypervisor.domains import Domains
from workers.hypervisor.link import Link
from workers.hypervisor.records import (
    DomainStats,
    Listing,
    RawStats,
    StatsGroup,
    credible,
)
from workers.leases import OwnedHost
from workers.stats import sample

MOST = 1000


@pytest.fixture
def world(database_url: str, redis_url: str) -> Iterator[World]:
    world = World(database_url, redis_url, MOST)
    yield world
    world.close()


def host_row(world: World) -> dict[str, Any]:
    found = world.reader.one(sql.hosts.get, dict, id="one")
    assert found
    return cast(dict[str, Any], found)


# ---- Names and texts.

STRANGE = {
    "script": "</script><script>alert(1)</script>",
    "SQL": "'; drop table vms; --",
    "format": "{0.__class__} %s %(name)s ${jndi:ldap://x}",
    "ANSI": "\x1b[2J\x1b]0;owned\x07",
    "C1": "\x9b31m",
    "lines": "one\r\nlevel=error forged",
    "bidi": "\u202egnp.exe\u2066",
    "invisible": "\u200b\ufeff\u2060",
    "dots": "../../../etc/passwd",
    "controls": "".join(map(chr, range(1, 0x20))),
    "noncharacter": "\ufffe\uffff\U0010ffff",
    "long": "n" * 512,
    "blank": " ",
    "nothing": "",
}


def test_strange_names_are_stored_as_they_are(world: World) -> None:
    # Most of them break the XML they stand in, and none of them its row.
    for name in STRANGE.values():
        world.hypervisor.define(name)
    world.hypervisor.define("good")

    world.sync_host()

    assert set(world.vms()) == {*STRANGE.values(), "good"}


NAMES = ("n" * 2**20, "a\0b", "\ud800")
STATES = (-1, 2**15, 2**40, 2**70, "running", None, 1.5)


def test_what_cannot_be_is_refused_alone_and_told_once(world: World) -> None:
    was_good = world.hypervisor.define("was good")
    world.sync_host()
    lies = world.hypervisor.domains[was_good]
    world.hypervisor.domains[was_good] = replace(lies, name=NAMES[0])
    others = [
        *(replace(lies, name=name) for name in NAMES),
        *(replace(lies, state=cast(int, state)) for state in STATES),
        *(replace(lies, state_reason=cast(int, state)) for state in STATES[2:]),
    ]
    for number, other in enumerate(others):
        world.hypervisor.domains[str(number)] = replace(other, uuid=str(uuid.uuid4()))
    world.hypervisor.define("good")

    with capture_logs() as lines:
        world.sync_host()
        world.sync_host()
        with pytest.raises(BrokenDomain):
            world.sync_vm(was_good)

    assert set(world.vms()) == {"was good", "good"}
    assert len(lines) == len(others) + 1
    assert max(len(json.dumps(line)) for line in lines) < 500


def test_hostile_xml_is_refused_alone_and_told_once(world: World) -> None:
    hostile = {name: xml for name, xml in BROKEN.items() if isinstance(xml, str)}
    uuids = {world.hypervisor.define(name): xml for name, xml in hostile.items()}
    world.hypervisor.xml |= uuids
    world.hypervisor.define("good", title="read")

    with capture_logs() as lines:
        world.sync_host()
        world.sync_host()
        for uuid_ in uuids:
            world.sync_vm(uuid_)

    assert world.vms()["good"].title == "read"
    assert {world.vms()[name].memory_bytes for name in hostile} == {0}
    assert sorted(line["vm_uuid"] for line in lines) == sorted(uuids)
    assert max(len(json.dumps(line)) for line in lines) < 1000


def test_strange_texts_are_stored_as_they_are_and_found(world: World) -> None:
    uuid_ = world.hypervisor.define("odd")
    world.hypervisor.xml[uuid_] = """
        <domain type='&lt;b>'><name>odd</name><uuid>x</uuid>
        <uuid>00000000-0000-0000-0000-000000000001</uuid><memory>1</memory>
        </domain>"""
    other = world.hypervisor.define("other", title="&lt;/script>'; drop table vms; --")
    world.hypervisor.xml[other] = (
        str(world.hypervisor.xml[other])
        .replace("52:54:00:00:00:01", "no MAC at all\u202e&#10;%00")
        .replace("/disks/", "/disks/../../\u2028")
    )

    world.sync_host()

    assert world.vms()["other"].title == "</script>'; drop table vms; --"
    hardware = world.hardware("other")
    assert hardware["networks"][0]["mac"]["address"] == "no mac at all\u202e\n%00"
    assert hardware["disks"][0]["path"].startswith("/disks/../../\u2028")
    assert world.vms()["odd"].memory_bytes == 0


def test_prose_without_end_is_cut(world: World) -> None:
    world.hypervisor.define("one", title="t" * 2**20)

    world.sync_host()

    assert len(world.vms()["one"].title) == 16_384
    assert world.vms()["one"].title.endswith("t…")


# ---- Too much of everything.


def test_a_host_with_a_million_domains_is_not_believed(world: World) -> None:
    world.hypervisor.define("good")
    world.sync_host()
    world.told()
    believed = Hypervisor.list_domains
    one = next(iter(world.hypervisor.domains.values()))
    lie = Listing([one] * 1_000_000, {})

    setattr(world.hypervisor, "list_domains", lambda: lie)  # noqa: B010
    for _ in range(2):
        with pytest.raises(HostNotBelieved) as refusal:
            world.sync_host()

    assert "1000000" in refusal.value.detail
    assert "VIRTUMANCER_MAX_VMS" in refusal.value.detail
    assert list(world.vms()) == ["good"]
    assert host_row(world)["error"]["detail"] == refusal.value.detail
    assert host_row(world)["state"] == "connected"
    assert world.told() == 2  # hosts-changed and vms-changed, once

    setattr(  # noqa: B010
        world.hypervisor, "list_domains", lambda: believed(world.hypervisor)
    )
    world.sync_host()
    assert host_row(world)["error"] is None


class Gushing(Hypervisor):
    """Has a mebibyte of XML for each domain, made when it is asked for."""

    read = 0

    def read_xml(
        self, uuids: Iterable[str], use: Callable[[str, str], object]
    ) -> dict[str, object]:
        return {uuid_: use(uuid_, self._xml(uuid_)) for uuid_ in uuids}

    def _xml(self, uuid_: str) -> str:
        self.read += 1
        return str(self.xml[uuid_]).replace("</domain>", " " * 2**20 + "</domain>")


def test_xml_without_end_takes_no_more_memory_than_it_is_given(world: World) -> None:
    world.hypervisor = gushing = Gushing()
    for number in range(MOST):
        gushing.define(f"vm-{number}")

    tracemalloc.start()
    with pytest.raises(HostNotBelieved) as refusal:
        world.sync_host()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "15 MiB" in refusal.value.detail
    assert gushing.read == 16
    assert peak < 40 * 2**20
    assert world.vms() == {}


def test_what_all_hosts_claim_together_may_be_beyond_any_number(world: World) -> None:
    for name in ("a", "b", "c"):
        uuid_ = world.hypervisor.define(name, state=1)
        world.hypervisor.xml[uuid_] = str(world.hypervisor.xml[uuid_]).replace(
            "<memory unit='MiB'>64", f"<memory unit='b'>{2**63 - 1}"
        )
    world.sync_host()

    sums = world.reader.one(sql.hosts.overview, dict, sight=None)

    assert sums
    assert sums["vm_memory_bytes"] == sums["active_vm_memory_bytes"] == 2**63 - 1


# ---- Another host's rows.


def rows_of(world: World, host_id: str) -> list[dict[str, Any]]:
    rows = world.reader.all(sql.vms.list, dict, host_id=host_id, after=None, limit=None)
    return cast(list[dict[str, Any]], rows)


def test_a_uuid_of_another_hosts_vm_changes_nothing_there(world: World) -> None:
    with world.changes.begin() as change:
        added = change.one(sql.hosts.add, dict, id="two", uri="test+unix:///y")
    assert added
    honest = Hypervisor()
    theirs = honest.define("theirs", title="honest", state=1)
    world.sync.host(honest.connection, "two", added["db_id"])
    before = rows_of(world, "two")

    world.hypervisor.define("ours now", theirs, title="stolen")
    world.sync_host()
    world.sync_vm(theirs)
    stolen = rows_of(world, "one")
    world.hypervisor.undefine(theirs)
    with pytest.raises(UnknownVm):
        world.sync_vm(theirs)
    world.sync_host()

    assert [(str(row["uuid"]), row["name"]) for row in stolen] == [(theirs, "ours now")]
    assert rows_of(world, "one") == []
    assert rows_of(world, "two") == before


def test_a_uuid_that_is_listed_twice_is_one_vm(world: World) -> None:
    listed = world.hypervisor.domains[world.hypervisor.define("one")]
    twice = Listing([listed, replace(listed, name="two")], {})
    setattr(world.hypervisor, "list_domains", lambda: twice)  # noqa: B010

    world.sync_host()

    assert list(world.vms()) == ["one"]


def test_xml_of_another_uuid_is_this_domains(world: World) -> None:
    one, two = world.hypervisor.define("one"), world.hypervisor.define("two")
    world.hypervisor.xml[one] = world.hypervisor.xml[two]

    world.sync_host()

    assert {str(vm.uuid) for vm in world.vms().values()} == {one, two}


# ---- Counters.

KEYS = st.sampled_from(
    [
        *("state.state", "cpu.time", "balloon.current", "vcpu.current", "net.count"),
        *("block.count", "block.0.name", "block.0.rd.bytes", "block.1.name"),
        *("block.1.wr.reqs", "net.0.name", "net.0.rx.bytes", "net.0.tx.pkts"),
    ]
)
VALUES = (
    st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(max_size=20)
    | st.just("n" * 10_000)
    | st.none()
    | st.booleans()
)


def strict(text: bytes) -> object:
    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@given(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES))
def test_impossible_counters_make_no_impossible_frame(
    now: dict[str, Any], before: dict[str, Any]
) -> None:
    frame = sample(
        DomainStats("u", "n", 1.0, credible(now)),
        DomainStats("u", "n", 0.5, credible(before)),
    )

    said = cast(dict[str, Any], strict(msgspec.json.encode(frame)))

    assert 0 <= said["cpu_time"] < 2**63
    assert len(said["disk_stats"]) <= 2
    for disk in said["disk_stats"]:
        assert 0 <= disk["read_bytes"] < 2**63
        assert len(disk["device"]) <= 512
    strict(msgspec.json.encode(counters_of(credible(now))))


def test_a_count_of_devices_beyond_all_bounds_ends() -> None:
    lies: RawStats = {"block.count": 2**63 - 1, "block.0.name": "vda"}

    assert len(sample(DomainStats("u", "n", 1.0, lies), None).disk_stats) == 1


class Handle:
    """A domain as libvirt hands it out."""

    def __init__(self, uuid_: str, name: str | None) -> None:
        self._uuid, self._name = uuid_, name

    def UUIDString(self) -> str:
        return self._uuid

    def name(self) -> str:
        if self._name is None:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return self._name


class Virt:
    """Answers for more domains than it was asked about, and one without a name."""

    def domainListGetStats(
        self, handles: list[Handle], groups: int, flags: int
    ) -> list[tuple[Handle, dict[str, object]]]:
        lies: dict[str, object] = {"cpu.time": -1, "vcpu.current": 2**64 - 1}
        return [
            (handle, {**lies, "state.state": 1})
            for handle in (*handles, Handle("never asked", "x"), Handle("bad", None))
        ]


class FakeLink:
    virt = Virt()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class FakeDomains:
    def handle(self, uuid_: str) -> Handle:
        return Handle(uuid_, None if uuid_ == "bad" else uuid_)


def test_counters_that_nobody_asked_for_are_left_out() -> None:
    seen = stats_call.stats(
        cast(Link, FakeLink()),
        cast(Domains, FakeDomains()),
        ["good", "bad"],
        StatsGroup.STATE,
        None,
    )

    assert {uuid_: s.values for uuid_, s in seen.items()} == {
        "good": {"state.state": 1}
    }


def test_counters_of_a_million_domains_are_not_believed(world: World) -> None:
    class Lying:
        def fleet_stats(self, groups: StatsGroup) -> dict[str, DomainStats]:
            stats = DomainStats("u", "n", 0.0, {"cpu.time": 1})
            return {str(number): stats for number in range(MOST + 1)}

    host = OwnedHost(world.host_db_id, "one", "test:///default")

    with pytest.raises(HostNotBelieved):
        FleetSample(host, world.changes, MOST).take(cast(Connection, Lying()))


# ---- And with a real libvirt.


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Libvirtd]:
    with hypervisor(server_folder / "lies") as server:
        yield server


TOLERATED = ("'; drop table vms; --", "a\u202eb", "tab\there", "\x9b31m", "n" * 513)
"""Names that libvirt itself takes."""


def test_a_real_hypervisor_with_odd_domains_is_read(
    server: Libvirtd, world: World
) -> None:
    with behind_our_back(server) as virsh:
        for name in TOLERATED:
            virsh.defineXML(_domain(name, ""))
        # libvirt takes it, and cannot send it: each & is five letters in its answer.
        virsh.defineXML(_domain("large", f"<![CDATA[{'&' * 1_200_000}]]>"))
        virsh.defineXML(_domain("laughs", "").replace("laughs", "&amp;j;"))
        with pytest.raises(Exception, match=r"entit|XML"):
            virsh.defineXML(BILLION_LAUGHS + _domain("&j;", ""))

        uri = checked(server.uri("test", "default"), server.folder)
        connection = Connection.open(uri, Path("/nonexistent"))
        with capture_logs() as lines:
            world.sync.host(connection, "one", world.host_db_id)
            world.sync.host(connection, "one", world.host_db_id)
        assert not connection.broken
        connection.close()

    assert set(world.vms()) == {*TOLERATED[:-1], "large", "&j;", "test"}
    assert world.vms()["large"].memory_bytes == 0
    assert len(lines) == 2


NO_TEXT = b"\xff\xfe\xfd\xfc"
STATE = b"state.state\0" + (1).to_bytes(4)
"""A typed parameter of remote_protocol.x: its name, padded, and that it is an int."""


def test_a_real_hypervisor_that_lies_is_believed_in_the_rest(
    server: Libvirtd, world: World
) -> None:
    with world.changes.begin() as change:
        added = change.one(sql.hosts.add, dict, id="two", uri="test+unix:///y")
    assert added
    honest = Hypervisor()
    theirs = uuid.UUID(honest.define("theirs", title="honest"))
    world.sync.host(honest.connection, "two", added["db_id"])
    before = rows_of(world, "two")

    with behind_our_back(server) as virsh:
        ours = uuid.UUID(define(virsh, "thief"))
        dizzy = uuid.UUID(define(virsh, "dizzy"))
        define(virsh, "mute")

        def lie(procedure: int, body: bytes) -> bytes:
            dizzy_at = body.find(dizzy.bytes)
            body = body.replace(ours.bytes, theirs.bytes)
            body = body.replace(b"mute", NO_TEXT)
            if procedure == STATS and (at := body.find(STATE, dizzy_at)) > 0:
                number = at + len(STATE)
                return body[:number] + b"\x7f\xff\xff\xff" + body[number + 4 :]
            return body

        def heard(procedure: int, body: bytes) -> bytes:
            return body.replace(theirs.bytes, ours.bytes)

        with LyingProxy(server.socket, lie, heard) as proxy:
            uri = checked(f"test+tcp://127.0.0.1:{proxy.port}/default")
            connection = Connection.open(uri, Path("/nonexistent"))
            with capture_logs() as lines:
                world.sync.host(connection, "one", world.host_db_id)
                world.sync.host(connection, "one", world.host_db_id)
            seen = connection.fleet_stats(StatsGroup.STATE | StatsGroup.CPU)
            connection.close()

    assert set(world.vms()) == {"test", "thief"}
    assert world.vms()["thief"].uuid == theirs
    assert rows_of(world, "two") == before
    assert len(lines) == 2  # mute and dizzy
    assert "test" in {one.name for one in seen.values()}


def test_nothing_that_a_hypervisor_says_ends_the_process(server: Libvirtd) -> None:
    with behind_our_back(server) as virsh:
        for number in range(3):
            define(virsh, f"mangled-{number}")
        ended = subprocess.run(
            [
                *(sys.executable, "-X", "faulthandler", "-m", "tests.lab.mangled"),
                *(str(server.socket), "1", "30"),
            ],
            cwd=TOP,
            env={"PYTHONPATH": f"{TOP}:{TOP / 'bin'}", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )

    assert ended.returncode == 0, ended.stderr[-4000:]
    assert int(ended.stdout.splitlines()[-1]) > 40


def _domain(name: str, description: str) -> str:
    return (
        f"<domain type='test'><name>{name}</name><description>{description}"
        "</description><memory>65536</memory><os><type>hvm</type></os></domain>"
    )
