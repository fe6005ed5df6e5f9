"""Look at libvirt now and write what is. Doing it twice does no harm.

Reading and writing are apart: first everything is read from libvirt, then one short
transaction writes it. An observation's number, drawn before the reading, keeps an
older look from overwriting a younger one.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from uuid import UUID

from msgspec import Struct
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from common import bus
from common.changes import Change, Changes
from common.db import Reader, sql
from common.errors import (
    HostNotBelieved,
    HostRemoved,
    StoreUnavailable,
    UnknownVm,
    problem_of,
)
from common.queue import Bell
from common.shapes import TaskKind, Vm
from common.shapes.hardware import Disk
from workers import belief, rows
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import ListedDomain
from workers.reading import HostSeen, Known, Reading
from workers.rows import Sighting, Sizes, array

_MUCH = 200


class _Number(Struct):
    number: int


class _Observation(Struct):
    observation: int


class _Uuid(Struct):
    uuid: UUID


class _Id(Struct):
    id: UUID


class _Disks(Struct):
    uuid: UUID
    disks: list[Disk]


Also = Callable[[Change], object]
"""Whatever else is to be written in one transaction with a look."""


def nothing(change: Change) -> None:
    """The look is all."""


class Sync:
    """Brings the rows of VMs up to what libvirt says."""

    def __init__(
        self, reader: Reader, changes: Changes, most_vms: int = belief.MOST_VMS
    ) -> None:
        self._reader = reader
        self._changes = changes
        self._reading = Reading(most_vms)

    def host(
        self,
        connection: Connection,
        host_id: str,
        host_db_id: int,
        also: Also = nothing,
    ) -> None:
        """Look at every domain of a host; ``also`` is written with what was seen."""
        known = self._reader.all(sql.vms.known, Known, host_db_id=host_db_id)
        try:
            seen = self.read_host(connection, host_db_id, known)
        except HostNotBelieved as error:
            self._accuse(host_id, host_db_id, error)
            raise
        with self._changes.begin() as change:
            self.write_host(change, host_id, host_db_id, seen)
            also(change)
        self.tidy(seen)

    def read_host(
        self, connection: Connection, host_db_id: int, known: Iterable[Known] = ()
    ) -> HostSeen:
        """Read a host's domains; those that are as ``known`` are left out."""
        observation = self._next_observation()
        return self._reading.host(connection, host_db_id, observation, known)

    def _accuse(self, host_id: str, host_db_id: int, error: HostNotBelieved) -> None:
        """Let whoever looks at the host see why its rows stay as they are."""
        with self._changes.begin() as change:
            if change.all(
                sql.hosts.accuse, dict, db_id=host_db_id, error=Jsonb(problem_of(error))
            ):
                change.publish(*bus.hosts_changed(host_id))

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
        told += change.run(sql.vms.remove_absent, present=array(seen.present), **where)
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

    def tidy(self, seen: HostSeen) -> None:
        """Have Postgres put in order what it was given, while nobody waits for it.

        Else it does so later, in the middle of somebody's request.
        """
        if len(seen.changed) < _MUCH:
            return
        with suppress(StoreUnavailable):
            for query in (sql.vms.put_into_indexes, sql.vms.analyze):
                with self._changes.begin_single() as change:
                    change.run(query)

    def vm(
        self,
        connection: Connection,
        host_id: str,
        host_db_id: int,
        uuid: UUID,
        also: Also = nothing,
    ) -> None:
        """Look at one domain; raises UnknownVm if it is gone, its row too by then.

        ``also`` is written with what was seen.
        """
        observation = self._next_observation()
        where = {"host_db_id": host_db_id, "observation": observation}
        try:
            sighting, sizes = self._reading.vm(connection, host_db_id, uuid)
        except UnknownVm:
            with self._changes.begin() as change:
                if self._is_news(change, host_db_id, observation) and change.run(
                    sql.vms.remove, uuid=uuid, **where
                ):
                    change.publish(bus.vms_changed(host_id))
            raise
        with self._changes.begin() as change:
            if self._is_news(change, host_db_id, observation):
                self._write_vm(change, host_id, where, sighting, sizes)
            also(change)

    def _write_vm(
        self,
        change: Change,
        host_id: str,
        where: dict[str, int],
        sighting: Sighting,
        sizes: Sizes,
    ) -> None:
        if sighting.domain:
            told = rows.observe(change, where, [sighting], sizes)
        else:
            told = rows.observe_unread(change, where, [sighting])
        if not told:
            change.run(sql.vms.seen_again, uuid=sighting.listed.uuid, **where)
            return
        self._look_at_namesakes(change, host_id, where["host_db_id"], sighting.listed)
        change.publish(bus.vms_changed(host_id))

    def row(self, host_id: str, uuid: UUID) -> Vm:
        """The VM as it was last seen; raises UnknownVm."""
        where = {"host_id": host_id, "vm": None, "uuid": uuid}
        seen = self._reader.one(sql.vms.get, Vm, **where)
        if seen is None:
            raise UnknownVm("The VM is gone.")
        return seen

    def _look_at_namesakes(
        self, change: Change, host_id: str, host_db_id: int, listed: ListedDomain
    ) -> None:
        """Rows that had this name before were renamed or are gone: look at them too."""
        for namesake in change.all(
            sql.vms.namesakes,
            _Uuid,
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
            uuids=array(s.listed.uuid for s in sightings),
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
    change.ring([Bell(asked.id, host_id, "look")])
    return asked.id
