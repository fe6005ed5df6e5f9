"""What was seen of domains, written to their rows: one statement for all. Old news is
left alone by the statement itself."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from common.changes import Change
from common.db import Query, sql
from common.shapes import Hardware
from workers.domain_xml import Domain
from workers.hypervisor.records import ListedDomain

Sizes = dict[tuple[str, str | None, str | None], int]
"""Capacity in bytes by VM, target and path."""


class Sighting(Struct, frozen=True):
    """One domain as it was just seen.

    ``domain`` is None where its XML is what the database has already, or cannot be
    read: then only the facts of the listing are news.
    """

    listed: ListedDomain
    domain: Domain | None = None
    xml_hash: bytes | None = None


class _Row(Struct, frozen=True, gc=False):
    """A row as the statement takes it in."""

    uuid: str
    name: str
    title: str
    description: str
    vcpu_count: int
    memory_bytes: int
    state: int
    state_reason: int
    persistent: bool
    autostart: bool
    # The column is part of answers, where no field may be missing.
    graphics: dict[str, bool]
    hardware: Hardware
    xml_hash: str | None


def observe(
    change: Change,
    where: dict[str, int],
    sightings: Iterable[Sighting],
    sizes: Sizes,
) -> int:
    """Write what could be read; how many rows changed."""
    rows = [
        _Row(
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
            asdict(s.domain.graphics),
            _with_sizes(s.listed.uuid, s.domain.hardware, sizes),
            f"\\x{s.xml_hash.hex()}" if s.xml_hash else None,
        )
        for s in sightings
        if s.domain
    ]
    if not rows:
        return 0
    # One JSON is taken in several times as fast as an array a column.
    text = msgspec.json.encode(rows).decode()
    return change.run(sql.vms.observe, rows=text, **where)


def observe_unread(
    change: Change, where: dict[str, int], sightings: Iterable[Sighting]
) -> int:
    """Write the listing's facts of VMs whose XML is no news, or cannot be read; how
    many rows changed."""
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


def _write(
    change: Change,
    query: Query,
    columns: tuple[str, ...],
    rows: Sequence[tuple[object, ...]],
    where: dict[str, int],
) -> int:
    """One statement for all rows, an array a column."""
    if not rows:
        return 0
    arrays = {c: list(v) for c, v in zip(columns, zip(*rows, strict=True), strict=True)}
    return change.run(query, **arrays, **where)


def array(uuids: Iterable[str]) -> str:
    """As Postgres writes an array, made at a tenth of what a list parameter costs."""
    return f"{{{','.join(uuids)}}}"


def _with_sizes(uuid: str, hardware: Hardware, sizes: Sizes) -> Hardware:
    if not sizes:
        return hardware
    disks = [
        replace(disk, capacity_bytes=sizes.get((uuid, disk.target.dev, disk.path)))
        for disk in hardware.disks
    ]
    return replace(hardware, disks=disks)
