"""An open connection to one host: all that the floors above may ask of libvirt."""

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self, TypeVar

from common.errors import HostUnreachable, VirtumancerError
from common.uri import HostUri
from workers.hypervisor import edit, power, stats_call
from workers.hypervisor.domains import Domains
from workers.hypervisor.link import Link
from workers.hypervisor.node import ask_for_kvm, capacity, host_facts
from workers.hypervisor.records import (
    DEFAULT_TIMEOUTS,
    BlockSize,
    Capacity,
    Devices,
    DomainSeen,
    DomainStats,
    HostFacts,
    Listing,
    StatsGroup,
    Timeouts,
)
from workers.hypervisor.transport import NOWHERE

T = TypeVar("T")

POWER_ACTIONS = frozenset(power.VERBS)
"""start, shutdown, reboot, destroy, reset, suspend, resume."""


class Connection:
    """One libvirt connection, safe to share between threads, five calls at a time.

    Every method talks to libvirt under a deadline of ``timeouts.call_s`` a call. A
    call that overruns is cut off: it raises HostTimeout, the connection is broken for
    good, and every later call raises the same at once. Methods may raise
    HostUnreachable, LibvirtRefused, and UnknownVm where they take a uuid.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._domains = Domains(link)
        self._closing = threading.Lock()
        self._closed = False
        self._capacity: Capacity | None = None
        self._on_close: list[Callable[[], None]] = []

    @classmethod
    def open(
        cls,
        uri: HostUri,
        ssh_dir: Path,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        host_id: str = "",
        tls_dir: Path = NOWHERE,
    ) -> Self:
        """Connect within ``timeouts.open_s``, or raise ConnectionFailed.

        ``ssh_dir`` holds the keys (``id_*``) and ``known_hosts`` for ssh; ``host_id``
        is what measurements call the host, and ``tls_dir`` holds the certificates.
        """
        return cls(Link(uri, ssh_dir, timeouts, host_id, tls_dir))

    @property
    def uri(self) -> HostUri:
        return self.link.uri

    @property
    def broken(self) -> bool:
        """Known to be dead, without asking: true after a cut, a loss or close()."""
        return self.link.lost is not None

    def is_alive(self) -> bool:
        """Whether the far side answers (one round trip)."""
        try:
            self.ping()
        except HostUnreachable:
            return False
        return True

    def ping(self) -> None:
        """Ask the far side for a word; HostTimeout if it is silent."""
        self.link.call(self.link.virt.getLibVersion)

    def deadline(self, seconds: float) -> AbstractContextManager[None]:
        """What is called in the block takes at most so long altogether.

        On overrun the whole connection is cut, and HostTimeout raised.
        """
        return self.link.deadline(seconds)

    def close(self) -> None:
        """Let go of everything; takes a second at most, never raises, may be called
        twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self.link.close(self._farewell)

    def _farewell(self) -> None:
        for callback in self._on_close:
            callback()
        self._domains.forget()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call this once in close(), while the host may still hear us."""
        self._on_close.append(callback)

    def list_domains(self) -> Listing:
        """Every domain, in three round trips however many there are."""
        return self._domains.listing()

    def find(self, name: str) -> str:
        """The uuid of the domain of this name."""
        return self._domains.find(name)

    def domain(self, uuid: str) -> DomainSeen:
        """Look one domain up: state, flags and live XML."""
        return self._domains.seen(uuid)

    def domain_xml(self, uuid: str) -> str:
        """The live XML, without secrets."""
        return self._domains.xml(uuid)

    def domains_xml(
        self, uuids: Iterable[str], parallel: int = 5
    ) -> dict[str, str | VirtumancerError]:
        """The live XML of each, or what kept that one from being read.

        A domain undefined in the meantime is an UnknownVm. A host that is lost on the
        way raises.
        """
        return self._domains.xmls(uuids, lambda _uuid, xml: xml, parallel)

    def read_xml(
        self, uuids: Iterable[str], use: Callable[[str, str], T]
    ) -> dict[str, T | VirtumancerError]:
        """The same, of each only what ``use(uuid, xml)`` makes of it, in any thread."""
        return self._domains.xmls(uuids, use, 5)

    def block_sizes(self, uuid: str, targets: Iterable[str]) -> dict[str, BlockSize]:
        """Sizes by target (``vda``); disks that libvirt will not measure are left out.

        An empty CD-ROM or a file that is gone is such a disk.
        """
        return self._domains.block_sizes(uuid, targets)

    def power(
        self, uuid: str, action: str, about_to: Callable[[], object] = lambda: None
    ) -> None:
        """Do one of POWER_ACTIONS, or nothing if it is so already.

        Raises WrongState when the domain's state does not allow it. ``shutdown`` only
        asks the guest. ``about_to`` is called right before, and nothing is done if it
        raises.
        """
        power.power(self.link, self._domains, uuid, action, about_to)

    def set_title(self, uuid: str, text: str) -> None:
        """As it runs and for its next start; no text takes the title away."""
        edit.set_metadata(self.link, self._domains, uuid, "title", text)

    def set_description(self, uuid: str, text: str) -> None:
        edit.set_metadata(self.link, self._domains, uuid, "description", text)

    def set_autostart(self, uuid: str, on: int) -> None:
        """Whether the domain starts with its host: 1 or 0."""
        edit.set_autostart(self.link, self._domains, uuid, on)

    def ask_for_kvm(self) -> None:
        """Raises LibvirtRefused if QEMU has no KVM here."""
        ask_for_kvm(self.link)

    def capacity(self) -> Capacity:
        """What the host has to give, asked once: a host that reboots hangs up."""
        if self._capacity is None:
            self._capacity = capacity(self.link)
        return self._capacity

    def host_facts(self) -> HostFacts:
        """What GET …/info tells."""
        return host_facts(self.link)

    def stats(
        self,
        uuids: Iterable[str],
        groups: StatsGroup = StatsGroup.ALL,
        devices_of: Callable[[str], Devices] | None = None,
    ) -> dict[str, DomainStats]:
        """One bulk NOWAIT call for these, by uuid, but unknown and renamed domains.

        Where a driver's bulk answer lacks values, they are filled in by calls for that
        domain, under the same keys; disks and NICs only with ``devices_of``, which
        finds them in the domain's XML.
        """
        return stats_call.stats(self.link, self._domains, uuids, groups, devices_of)

    def fleet_stats(self, groups: StatsGroup) -> dict[str, DomainStats]:
        """One bulk NOWAIT call for every domain that is on, by uuid."""
        return stats_call.fleet_stats(self.link, groups)
