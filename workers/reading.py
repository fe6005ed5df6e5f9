"""What libvirt says of domains, read and not yet written. A hypervisor is not trusted:
a domain that cannot be is told of once and left out, and stops no other."""

from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

import structlog
from msgspec import Struct

from common.errors import BrokenDomain, UnknownVm
from workers import belief, domain_xml
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Capacity, ListedDomain, Listing
from workers.rows import Sighting, Sizes

_MOST_TOLD = 100_000


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


class Reading:
    """Reads domains, and remembers of which it has told that they cannot be read."""

    def __init__(self, most_vms: int) -> None:
        self._most_vms = most_vms
        self._broken: set[tuple[int, str, bytes]] = set()

    def host(
        self,
        connection: Connection,
        host_db_id: int,
        observation: int,
        known: Iterable[Known],
    ) -> HostSeen:
        """Every domain; those that are as ``known`` are left out.

        Raises HostNotBelieved where there is too much of it.
        """
        before = {str(k.uuid): k for k in known}
        listing = connection.list_domains()
        listed_in_all = len(listing.domains) + len(listing.unreadable)
        belief.check_number(listed_in_all, self._most_vms)
        domains, present = self._credible(host_db_id, listing)
        budget = belief.XmlBudget(self._most_vms)

        def look(uuid: str, xml: str) -> Sighting | None:
            # Of each XML no more is kept than what is news.
            budget.take(xml)
            return self._sighting(host_db_id, domains[uuid], xml, before.get(uuid))

        looks = connection.read_xml(domains, look)
        changed = []
        for uuid, listed in domains.items():
            seen = looks[uuid]
            if isinstance(seen, UnknownVm):
                continue
            present.append(uuid)
            if isinstance(seen, Exception):
                self._tell_broken(host_db_id, uuid, listed.name, b"", seen)
                seen = Sighting(listed)
            if seen:
                changed.append(seen)
        capacity = connection.capacity()
        return HostSeen(observation, present, changed, capacity)

    def vm(
        self, connection: Connection, host_db_id: int, uuid: UUID
    ) -> tuple[Sighting, Sizes]:
        """One domain with the sizes of its disks; raises UnknownVm, BrokenDomain."""
        seen = connection.domain(str(uuid))
        if error := belief.impossible(seen.listed):
            raise error
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

    def _credible(
        self, host_db_id: int, listing: Listing
    ) -> tuple[dict[str, ListedDomain], list[str]]:
        """The domains that can be by uuid, and the uuids of the others."""
        refused: dict[str, tuple[str, Exception]] = {
            uuid: ("", error) for uuid, error in listing.unreadable.items()
        }
        domains: dict[str, ListedDomain] = {}
        for listed in listing.domains:
            if error := belief.impossible(listed):
                refused[listed.uuid] = (listed.name, error)
            else:
                domains.setdefault(listed.uuid, listed)
        for uuid, (name, reason) in refused.items():
            domains.pop(uuid, None)
            self._tell_broken(host_db_id, uuid, name, b"", reason)
        return domains, list(refused)

    def _sighting(
        self, host_db_id: int, listed: ListedDomain, xml: str, known: Known | None
    ) -> Sighting | None:
        xml_hash = _hash(xml)
        if known and known.xml_hash == xml_hash:
            same = known.cheap_facts() == _cheap_facts(listed)
            return None if same else Sighting(listed)
        try:
            return Sighting(listed, domain_xml.parse(xml), xml_hash)
        except BrokenDomain as error:
            self._tell_broken(host_db_id, listed.uuid, listed.name, xml_hash, error)
            return Sighting(listed)

    def _tell_broken(
        self, host_db_id: int, uuid: str, name: str, xml_hash: bytes, error: Exception
    ) -> None:
        """Log it once for each version of the XML."""
        if (key := (host_db_id, uuid, xml_hash)) not in self._broken:
            if len(self._broken) > _MOST_TOLD:
                self._broken.clear()
            self._broken.add(key)
            structlog.get_logger().warning(
                "a domain cannot be read; its last good row stays",
                vm_uuid=uuid,
                vm_name=name[:100],
                reason=str(error),
            )


def _hash(xml: str) -> bytes:
    # Half a character is for the parser to refuse.
    return blake2b(xml.encode(errors="surrogatepass"), digest_size=16).digest()


def _cheap_facts(listed: ListedDomain) -> tuple[object, ...]:
    return (
        listed.name,
        listed.state,
        listed.state_reason,
        listed.persistent,
        listed.autostart,
    )
