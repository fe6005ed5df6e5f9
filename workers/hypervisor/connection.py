"""An open connection to one host: all that the floors above may ask of libvirt."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from common.errors import VirtumancerError
from common.uri import HostUri
from workers.hypervisor.records import (
    DEFAULT_TIMEOUTS,
    BlockSize,
    DomainSeen,
    DomainStats,
    HostFacts,
    Listing,
    StatsGroup,
    Timeouts,
)

POWER_ACTIONS = frozenset(
    {"start", "shutdown", "reboot", "destroy", "reset", "suspend", "resume"}
)


class Connection:
    """One libvirt connection, safe to share between threads, five calls at a time.

    Every method talks to libvirt under a deadline of ``timeouts.call_s`` a call. A
    call that overruns is cut off: it raises HostTimeout, the connection is broken for
    good, and every later call raises HostUnreachable at once. Methods may raise
    HostUnreachable, LibvirtRefused, and UnknownVm where they take a uuid.
    """

    @classmethod
    def open(
        cls, uri: HostUri, ssh_dir: Path, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> Self:
        """Connect within ``timeouts.open_s``, or raise ConnectionFailed.

        ``ssh_dir`` holds the keys (``id_*``) and ``known_hosts`` for ssh.
        """
        raise NotImplementedError

    @property
    def uri(self) -> HostUri:
        raise NotImplementedError

    @property
    def broken(self) -> bool:
        """Known to be dead, without asking: true after a cut, a loss or close()."""
        raise NotImplementedError

    def is_alive(self) -> bool:
        """Ask the far side for a word (one round trip)."""
        raise NotImplementedError

    def deadline(self, seconds: float) -> AbstractContextManager[None]:
        """All of this thread's calls in the block together take at most so long.

        On overrun the whole connection is cut, and HostTimeout raised.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything; never hangs, never raises, may be called twice."""
        raise NotImplementedError

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call this once at the beginning of close()."""
        raise NotImplementedError

    def list_domains(self) -> Listing:
        """Every domain, in a handful of round trips however many there are."""
        raise NotImplementedError

    def find(self, name: str) -> str:
        """The uuid of the domain of this name."""
        raise NotImplementedError

    def domain(self, uuid: str) -> DomainSeen:
        """Look one domain up: state, flags and live XML."""
        raise NotImplementedError

    def domain_xml(self, uuid: str) -> str:
        """The live XML, without secrets."""
        raise NotImplementedError

    def domains_xml(
        self, uuids: Iterable[str], parallel: int = 5
    ) -> dict[str, str | VirtumancerError]:
        """The live XML of each, or what kept that one from being read.

        A domain undefined in the meantime is an UnknownVm. A host that is lost on the
        way raises.
        """
        raise NotImplementedError

    def block_sizes(self, uuid: str, targets: Iterable[str]) -> dict[str, BlockSize]:
        """Sizes by target (``vda``); disks that libvirt will not measure are left out.

        An empty CD-ROM or a file that is gone is such a disk.
        """
        raise NotImplementedError

    def power(self, uuid: str, action: str) -> None:
        """Do one of POWER_ACTIONS, or nothing if it is so already.

        Raises WrongState when the domain's state does not allow it. ``shutdown`` only
        asks the guest.
        """
        raise NotImplementedError

    def host_facts(self) -> HostFacts:
        """What GET …/info tells."""
        raise NotImplementedError

    def stats(
        self, uuids: Iterable[str], groups: StatsGroup = StatsGroup.ALL
    ) -> dict[str, DomainStats]:
        """One bulk NOWAIT call for these domains, by uuid; unknown ones are left out.

        Domains that are off are included with ``state.*`` (and what else libvirt
        tells). Where a driver's bulk answer lacks values, they are filled in by calls
        for that domain, under the same keys.
        """
        raise NotImplementedError
