"""What was seen of domains, written to their rows: one statement for all, an array
a column. Old news is left alone by the statement itself."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from common.changes import Change
from common.db import Query, sql
from common.shapes import Hardware
from workers.domain_xml import Domain
from workers.hypervisor.records import ListedDomain

Sizes = dict[tuple[str, str | None, str | None], int]
"""Capacity in bytes by VM, target and path."""


class Uuid(Struct):
    uuid: UUID


class Sighting(Struct, frozen=True):
    """One domain as it was just seen.

    ``domain`` is None where its XML is what the database has already, or cannot be
    read: then only the facts of the listing are news.
    """

    listed: ListedDomain
    domain: Domain | None = None
    xml_hash: bytes | None = None


def observe(
    change: Change,
    where: dict[str, int],
    sightings: Iterable[Sighting],
    sizes: Sizes,
) -> list[Uuid]:
    """Write what could be read; the rows that changed."""
    rows = [
        (
            s.listed.uuid,
            s.listed.name,
            s.domain.title,
            s.domain.description,
            s.domain.vcpu_count,
            s.domain.memory_bytes,
            s.listed.state,
            s.listed.state_reason,
            s.listed.persistent,
            s.listed.autostart,
            _json(s.domain.graphics),
            _json(_with_sizes(s.listed.uuid, s.domain.hardware, sizes)),
            s.xml_hash,
        )
        for s in sightings
        if s.domain
    ]
    return _write(change, sql.vms.observe, _COLUMNS, rows, where)


def observe_unread(
    change: Change, where: dict[str, int], sightings: Iterable[Sighting]
) -> list[Uuid]:
    """Write the listing's facts of VMs whose XML is no news, or cannot be read."""
    rows = [
        (
            s.listed.uuid,
            s.listed.name,
            s.listed.state,
            s.listed.state_reason,
            s.listed.persistent,
            s.listed.autostart,
        )
        for s in sightings
    ]
    added = _write(change, sql.vms.add_unread, _CHEAP_COLUMNS, rows, where)
    return added + _write(change, sql.vms.observe_states, _CHEAP_COLUMNS, rows, where)


_CHEAP_COLUMNS = ("uuid", "name", "state", "state_reason", "persistent", "autostart")
_COLUMNS = (
    "uuid",
    "name",
    "title",
    "description",
    "vcpu_count",
    "memory_bytes",
    "state",
    "state_reason",
    "persistent",
    "autostart",
    "graphics",
    "hardware",
    "xml_hash",
)


def _write(
    change: Change,
    query: Query,
    columns: tuple[str, ...],
    rows: Sequence[tuple[object, ...]],
    where: dict[str, int],
) -> list[Uuid]:
    """One statement for all rows, an array a column."""
    if not rows:
        return []
    arrays = {c: list(v) for c, v in zip(columns, zip(*rows, strict=True), strict=True)}
    return change.all(query, Uuid, **arrays, **where)


def _with_sizes(uuid: str, hardware: Hardware, sizes: Sizes) -> Hardware:
    disks = [
        replace(disk, capacity_bytes=sizes.get((uuid, disk.target.dev, disk.path)))
        for disk in hardware.disks
    ]
    return replace(hardware, disks=disks)


def _json(part: Struct) -> str:
    return msgspec.json.encode(part).decode()
