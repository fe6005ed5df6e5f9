"""Rows become what libvirt says, whatever order the looks finish in."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import redis

from common import bus
from common.bus import Bus
from common.changes import Changes
from common.db import Reader, open_pool, sql
from common.errors import BrokenDomain, HostRemoved, UnknownVm, VirtumancerError
from common.queue import Queue, WakeBroker
from common.shapes import Vm
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import (
    BlockSize,
    Capacity,
    DomainSeen,
    ListedDomain,
    Listing,
)
from workers.sync import Sync

XML = """
<domain type='test'>
  <name>{name}</name><uuid>{uuid}</uuid><title>{title}</title>
  <memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/disks/{name}.raw'/><target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/><source bridge='br0'/>
    </interface>
  </devices>
</domain>
"""


class Hypervisor:
    """A hypervisor in memory, with the calls that a sync makes."""

    def __init__(self) -> None:
        self.domains: dict[str, ListedDomain] = {}
        self.xml: dict[str, str | VirtumancerError] = {}

    def define(self, name: str, uuid: str = "", title: str = "", state: int = 5) -> str:
        uuid = uuid or str(uuid4())
        self.domains[uuid] = ListedDomain(
            uuid=uuid,
            name=name,
            libvirt_id=None,
            active=state == 1,
            persistent=True,
            autostart=False,
            state=state,
            state_reason=0,
        )
        self.xml[uuid] = XML.format(name=name, uuid=uuid, title=title)
        return uuid

    def undefine(self, uuid: str) -> None:
        del self.domains[uuid], self.xml[uuid]

    def capacity(self) -> Capacity:
        return Capacity(8, 16 << 30)

    def list_domains(self) -> Listing:
        return Listing(list(self.domains.values()), {})

    def read_xml(
        self, uuids: Iterable[str], use: Callable[[str, str], object]
    ) -> dict[str, object]:
        xmls = {uuid: self.xml[uuid] for uuid in uuids}
        return {
            uuid: use(uuid, xml) if isinstance(xml, str) else xml
            for uuid, xml in xmls.items()
        }

    def domain(self, uuid: str) -> DomainSeen:
        if uuid not in self.domains:
            raise UnknownVm("No such domain.")
        xml = self.xml[uuid]
        assert isinstance(xml, str)
        return DomainSeen(self.domains[uuid], xml)

    def block_sizes(self, uuid: str, targets: Iterable[str]) -> dict[str, BlockSize]:
        return {target: BlockSize(1 << 30, 4096, 4096) for target in targets}

    @property
    def connection(self) -> Connection:
        return cast(Connection, self)


class World:
    """A database with one host, and what is told of it."""

    def __init__(
        self, database_url: str, redis_url: str, most_vms: int = 10_000
    ) -> None:
        self.pool = open_pool(database_url, "test")
        self.reader = Reader(self.pool)
        self.client = redis.Redis.from_url(redis_url)
        self.changes = Changes(
            self.pool, Bus(self.client), Queue(WakeBroker(redis_url))
        )
        self.sync = Sync(self.reader, self.changes, most_vms)
        self.hypervisor = Hypervisor()
        self._frames = bus.listen_for(self.client, bus.frames_channel("one"))
        with self.changes.begin() as change:
            added = change.one(sql.hosts.add, dict, id="one", uri="test+unix:///x")
        assert added
        self.host_db_id: int = added["db_id"]

    def sync_host(self) -> None:
        self.sync.host(self.hypervisor.connection, "one", self.host_db_id)

    def sync_vm(self, uuid: str) -> None:
        self.sync.vm(self.hypervisor.connection, "one", self.host_db_id, UUID(uuid))

    def vms(self) -> dict[str, Vm]:
        rows = self.reader.all(sql.vms.list, Vm, host_id="one", after=None, limit=None)
        return {vm.name: vm for vm in rows}

    def hardware(self, name: str) -> dict[str, Any]:
        row = self.reader.one(sql.vms.hardware, dict, db_id=self.vms()[name].db_id)
        assert row
        return cast(dict[str, Any], row["hardware"])

    def told(self) -> int:
        """The frames since the last time this was asked."""
        self.client.ping()
        count = 0
        while self._frames.get_message(timeout=0.05):
            count += 1
        return count

    def close(self) -> None:
        self._frames.close()
        self.client.close()
        self.pool.close()


@pytest.fixture
def world(database_url: str, redis_url: str) -> Iterator[World]:
    world = World(database_url, redis_url)
    world.told()
    yield world
    world.close()


def test_a_first_look_writes_every_domain_and_tells_once(world: World) -> None:
    for number in range(20):
        world.hypervisor.define(f"vm-{number}", title="a title")

    world.sync_host()

    vms = world.vms()
    assert len(vms) == 20
    assert vms["vm-3"].vcpu_count == 2
    assert vms["vm-3"].memory_bytes == 64 << 20
    assert vms["vm-3"].title == "a title"
    assert world.told() == 1


def test_looking_again_changes_and_tells_nothing(world: World) -> None:
    uuid = world.hypervisor.define("one")
    world.sync_vm(uuid)
    before = world.vms()["one"]
    world.told()

    world.sync_host()
    world.sync_vm(uuid)

    assert world.vms()["one"].revision == before.revision
    assert world.vms()["one"].observed_at > before.observed_at
    assert world.told() == 0


@pytest.mark.parametrize("look", ["sync_host", "sync_vm"])
def test_a_change_of_state_alone_is_written_and_told(world: World, look: str) -> None:
    uuid = world.hypervisor.define("one")
    world.sync_host()
    world.told()

    world.hypervisor.define("one", uuid, state=1)
    world.sync_host() if look == "sync_host" else world.sync_vm(uuid)

    assert world.vms()["one"].state == 1
    assert world.vms()["one"].revision == 2
    assert world.told() == 1


def test_what_is_gone_is_removed_and_told(world: World) -> None:
    gone = world.hypervisor.define("gone")
    also_gone = world.hypervisor.define("also gone")
    world.hypervisor.define("stays")
    world.sync_host()
    world.told()

    world.hypervisor.undefine(gone)
    world.sync_host()
    world.hypervisor.undefine(also_gone)
    with pytest.raises(UnknownVm):
        world.sync_vm(also_gone)

    assert list(world.vms()) == ["stays"]
    assert world.told() == 2


def test_a_listing_read_before_a_younger_look_overwrites_nothing(world: World) -> None:
    uuid = world.hypervisor.define("one", state=1)
    old = world.sync.read_host(world.hypervisor.connection, world.host_db_id)
    world.hypervisor.define("one", uuid, state=5)
    world.sync_vm(uuid)

    with world.changes.begin() as change:
        world.sync.write_host(change, "one", world.host_db_id, old)

    assert world.vms()["one"].state == 5


def test_a_listing_read_before_a_removal_brings_nothing_back(world: World) -> None:
    uuid = world.hypervisor.define("one")
    world.sync_host()
    old = world.sync.read_host(world.hypervisor.connection, world.host_db_id)
    world.hypervisor.undefine(uuid)
    with pytest.raises(UnknownVm):
        world.sync_vm(uuid)

    with world.changes.begin() as change:
        world.sync.write_host(change, "one", world.host_db_id, old)

    assert world.vms() == {}


def test_an_older_listing_does_not_remove_what_came_later(world: World) -> None:
    old = world.sync.read_host(world.hypervisor.connection, world.host_db_id)
    uuid = world.hypervisor.define("new")
    world.sync_vm(uuid)

    with world.changes.begin() as change:
        world.sync.write_host(change, "one", world.host_db_id, old)

    assert list(world.vms()) == ["new"]


def test_the_older_of_two_listings_is_dropped(world: World) -> None:
    uuid = world.hypervisor.define("one", state=1)
    old = world.sync.read_host(world.hypervisor.connection, world.host_db_id)
    world.hypervisor.define("one", uuid, state=5)
    world.sync_host()

    with world.changes.begin() as change:
        world.sync.write_host(change, "one", world.host_db_id, old)

    assert world.vms()["one"].state == 5


def test_a_broken_domain_stops_no_other_and_keeps_its_last_good_row(
    world: World,
) -> None:
    good = world.hypervisor.define("good")
    breaks = world.hypervisor.define("breaks", title="as it was")
    world.sync_host()

    world.hypervisor.define("good", good, title="new")
    world.hypervisor.define("breaks", breaks, state=1)
    world.hypervisor.xml[breaks] = "<domain><name>breaks"
    never_good = world.hypervisor.define("never good")
    world.hypervisor.xml[never_good] = BrokenDomain("Not UTF-8.")
    world.sync_host()

    vms = world.vms()
    assert vms["good"].title == "new"
    assert vms["breaks"].title == "as it was"
    assert vms["breaks"].state == 1
    assert world.hardware("breaks")["disks"][0]["path"] == "/disks/breaks.raw"
    assert vms["never good"].memory_bytes == 0


def test_a_broken_domain_that_is_looked_at_alone_keeps_its_row(world: World) -> None:
    uuid = world.hypervisor.define("one", title="good")
    world.sync_host()

    world.hypervisor.xml[uuid] = "<!DOCTYPE x><domain/>"
    world.sync_vm(uuid)

    assert world.vms()["one"].title == "good"


def test_names_that_are_swapped_end_up_right(world: World) -> None:
    a, b = world.hypervisor.define("a"), world.hypervisor.define("b")
    world.sync_host()

    world.hypervisor.define("b", a)
    world.hypervisor.define("a", b)
    world.sync_vm(a)
    world.sync_vm(b)

    assert {n: str(vm.uuid) for n, vm in world.vms().items()} == {"b": a, "a": b}


def test_a_namesake_that_was_undefined_is_looked_at_too(world: World) -> None:
    old = world.hypervisor.define("one")
    world.sync_host()
    world.hypervisor.undefine(old)
    new = world.hypervisor.define("one")

    world.sync_vm(new)

    queued = world.reader.all(
        sql.tasks.list,
        dict,
        host="one",
        vm=old,
        vm_uuid=old,
        state="queued",
        kind="sync_vm",
        parent=None,
        before=None,
        sight=None,
        limit=10,
    )
    assert len(queued) == 1


def test_a_measured_disk_stays_measured_over_a_full_sync(world: World) -> None:
    uuid = world.hypervisor.define("one")
    world.sync_vm(uuid)

    world.hypervisor.define("one", uuid, title="edited")
    world.sync_host()

    assert world.vms()["one"].title == "edited"
    assert world.hardware("one")["disks"][0]["capacity_bytes"] == 1 << 30


def test_a_host_removed_in_the_middle_gets_no_rows(world: World) -> None:
    world.hypervisor.define("one")
    seen = world.sync.read_host(world.hypervisor.connection, world.host_db_id)
    with world.changes.begin() as change:
        change.run(sql.hosts.remove, id="one")

    with pytest.raises(HostRemoved), world.changes.begin() as change:
        world.sync.write_host(change, "one", world.host_db_id, seen)
