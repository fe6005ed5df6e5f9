"""Look at libvirt now and write what is. Doing it twice does no harm.

Reading and writing are apart: first everything is read from libvirt, then one short
transaction writes it. An observation's number, drawn before the reading, keeps an
older look from overwriting a younger one.
"""

from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

import structlog
from msgspec import Struct
from uuid_utils.compat import uuid7

from common import bus
from common.changes import Change, Changes
from common.db import Reader, sql
from common.errors import BrokenDomain, HostRemoved, UnknownVm
from common.shapes import TaskKind, Vm
from common.shapes.hardware import Disk
from workers import domain_xml, rows
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Capacity, ListedDomain
from workers.rows import Sighting, Sizes, Uuid

_NEW_ENOUGH_TO_ANALYZE = 200


class _Number(Struct):
    number: int


class _Observation(Struct):
    observation: int


class _Id(Struct):
    id: UUID


class _Disks(Struct):
    uuid: UUID
    disks: list[Disk]


class Known(Struct, frozen=True):
    """What the database has of a VM, as far as a listing can tell it is out of date."""

    uuid: UUID
    name: str
    xml_hash: bytes | None
    state: int
    state_reason: int
    persistent: bool
    autostart: bool

    def cheap_facts(self) -> tuple[object, ...]:
        return (
            self.name,
            self.state,
            self.state_reason,
            self.persistent,
            self.autostart,
        )


class HostSeen(Struct, frozen=True):
    """Every domain of a host, read after ``observation`` was drawn."""

    observation: int
    present: list[str]
    changed: list[Sighting]
    capacity: Capacity
    first_look: bool


class Sync:
    """Brings the rows of VMs up to what libvirt says."""

    def __init__(self, reader: Reader, changes: Changes) -> None:
        self._reader = reader
        self._changes = changes
        self._broken: set[tuple[int, str, bytes]] = set()

    def host(self, connection: Connection, host_id: str, host_db_id: int) -> None:
        """Look at every domain of a host."""
        known = self._reader.all(sql.vms.known, Known, host_db_id=host_db_id)
        seen = self.read_host(connection, host_db_id, known)
        with self._changes.begin() as change:
            self.write_host(change, host_id, host_db_id, seen)
        if seen.first_look and len(seen.changed) >= _NEW_ENOUGH_TO_ANALYZE:
            with self._changes.begin() as change:
                change.run(sql.vms.analyze)

    def read_host(
        self, connection: Connection, host_db_id: int, known: Iterable[Known] = ()
    ) -> HostSeen:
        """Read a host's domains; those that are as ``known`` are left out."""
        observation = self._next_observation()
        before = {str(k.uuid): k for k in known}
        listing = connection.list_domains()
        xmls = connection.domains_xml([d.uuid for d in listing.domains])
        present = list(listing.unreadable)
        changed = []
        for listed in listing.domains:
            xml = xmls[listed.uuid]
            if isinstance(xml, UnknownVm):
                continue
            present.append(listed.uuid)
            sighting = self._sighting(host_db_id, listed, xml, before.get(listed.uuid))
            if sighting:
                changed.append(sighting)
        capacity = connection.capacity()
        first_look = not before
        return HostSeen(observation, present, changed, capacity, first_look)

    def _sighting(
        self,
        host_db_id: int,
        listed: ListedDomain,
        xml: str | Exception,
        known: Known | None,
    ) -> Sighting | None:
        if isinstance(xml, Exception):
            self._tell_broken(host_db_id, listed, b"", xml)
            return Sighting(listed)
        xml_hash = _hash(xml)
        if known and known.xml_hash == xml_hash:
            same = known.cheap_facts() == _cheap_facts(listed)
            return None if same else Sighting(listed)
        try:
            return Sighting(listed, domain_xml.parse(xml), xml_hash)
        except BrokenDomain as error:
            self._tell_broken(host_db_id, listed, xml_hash, error)
            return Sighting(listed)

    def _tell_broken(
        self, host_db_id: int, listed: ListedDomain, xml_hash: bytes, error: Exception
    ) -> None:
        """Log it once for each version of the XML."""
        if (key := (host_db_id, listed.uuid, xml_hash)) not in self._broken:
            if len(self._broken) > 10_000:
                self._broken.clear()
            self._broken.add(key)
            structlog.get_logger().warning(
                "a domain cannot be read; its last good row stays",
                vm_uuid=listed.uuid,
                vm_name=listed.name,
                reason=str(error),
            )

    def write_host(
        self, change: Change, host_id: str, host_db_id: int, seen: HostSeen
    ) -> None:
        """Write a full look, unless a younger full look was written already."""
        where = {"host_db_id": host_db_id, "observation": seen.observation}
        if not self._is_news(change, host_db_id, seen.observation):
            return
        readable = [s for s in seen.changed if s.domain]
        sizes = self._known_sizes(change, host_db_id, readable)
        told = rows.observe(change, where, readable, sizes)
        told += rows.observe_unread(
            change, where, [s for s in seen.changed if not s.domain]
        )
        told += change.all(sql.vms.remove_absent, Uuid, present=seen.present, **where)
        change.run(sql.vms.forget_removed, **where)
        change.run(
            sql.hosts.synced,
            db_id=host_db_id,
            observation=seen.observation,
            cpu_count=seen.capacity.cpus,
            memory_bytes=seen.capacity.memory_bytes,
        )
        if told:
            change.publish(bus.vms_changed(host_id))

    def vm(
        self, connection: Connection, host_id: str, host_db_id: int, uuid: UUID
    ) -> None:
        """Look at one domain; raises UnknownVm if it is gone, its row too by then."""
        observation = self._next_observation()
        where = {"host_db_id": host_db_id, "observation": observation}
        try:
            sighting, sizes = self._look_at(connection, host_db_id, uuid)
        except UnknownVm:
            with self._changes.begin() as change:
                if self._is_news(change, host_db_id, observation) and change.all(
                    sql.vms.remove, Uuid, uuid=uuid, **where
                ):
                    change.publish(bus.vms_changed(host_id))
            raise
        with self._changes.begin() as change:
            if not self._is_news(change, host_db_id, observation):
                return
            if sighting.domain:
                told = rows.observe(change, where, [sighting], sizes)
            else:
                told = rows.observe_unread(change, where, [sighting])
            change.run(sql.vms.seen_again, uuid=uuid, **where)
            self._look_at_namesakes(change, host_id, host_db_id, sighting.listed)
            if told:
                change.publish(bus.vms_changed(host_id))

    def row(self, host_id: str, uuid: UUID) -> Vm:
        """The VM as it was last seen; raises UnknownVm."""
        where = {"host_id": host_id, "vm": None, "uuid": uuid}
        seen = self._reader.one(sql.vms.get, Vm, **where)
        if seen is None:
            raise UnknownVm("The VM is gone.")
        return seen

    def _look_at(
        self, connection: Connection, host_db_id: int, uuid: UUID
    ) -> tuple[Sighting, Sizes]:
        seen = connection.domain(str(uuid))
        sighting = self._sighting(host_db_id, seen.listed, seen.xml, None)
        assert sighting, "without a known row every look is a sighting"
        if not sighting.domain:
            return sighting, {}
        disks = sighting.domain.hardware.disks
        targets = [d.target.dev for d in disks if d.target.dev]
        measured = connection.block_sizes(str(uuid), targets)
        return sighting, {
            (seen.listed.uuid, d.target.dev, d.path): measured[d.target.dev].capacity
            for d in disks
            if d.target.dev in measured
        }

    def _look_at_namesakes(
        self, change: Change, host_id: str, host_db_id: int, listed: ListedDomain
    ) -> None:
        """Rows that had this name before were renamed or are gone: look at them too."""
        for namesake in change.all(
            sql.vms.namesakes,
            Uuid,
            host_db_id=host_db_id,
            name=listed.name,
            uuid=listed.uuid,
        ):
            ask_look(change, "sync_vm", host_id, namesake.uuid)

    def _next_observation(self) -> int:
        drawn = self._reader.one(sql.vms.next_observation, _Number)
        assert drawn
        return drawn.number

    def _is_news(self, change: Change, host_db_id: int, observation: int) -> bool:
        """Take the host's turn to write; raises HostRemoved."""
        host = change.one(sql.hosts.lock, _Observation, db_id=host_db_id)
        if host is None:
            raise HostRemoved("The host was removed while it was being looked at.")
        return host.observation < observation

    def _known_sizes(
        self, change: Change, host_db_id: int, sightings: list[Sighting]
    ) -> Sizes:
        """Capacities that an earlier single look measured."""
        measured = change.all(
            sql.vms.disk_sizes,
            _Disks,
            host_db_id=host_db_id,
            uuids=[s.listed.uuid for s in sightings],
        )
        return {
            (str(row.uuid), disk.target.dev, disk.path): disk.capacity_bytes
            for row in measured
            for disk in row.disks
            if disk.capacity_bytes is not None and disk.target.dev
        }


def ask_look(
    change: Change, kind: TaskKind, host_id: str, vm_uuid: UUID | None = None
) -> UUID:
    """Queue a sync, or join the one that is queued already; the task's id."""
    asked = change.one(
        sql.tasks.join_look,
        _Id,
        id=uuid7(),
        kind=kind,
        host_id=host_id,
        vm_uuid=vm_uuid,
        vm_name=None,
        requested_by="monitor",
        request_id=None,
    )
    assert asked, "the upsert returns a row whatever happens"
    change.ring([asked.id])
    return asked.id


def _hash(xml: str) -> bytes:
    return blake2b(xml.encode(), digest_size=16).digest()


def _cheap_facts(listed: ListedDomain) -> tuple[object, ...]:
    return (
        listed.name,
        listed.state,
        listed.state_reason,
        listed.persistent,
        listed.autostart,
    )
