"""The domains of a host: listed, looked up, described, in few round trips."""

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, TypeVar

import libvirt

from common.errors import (
    BrokenDomain,
    HostNotBelieved,
    HostUnreachable,
    LibvirtRefused,
    UnknownVm,
    VirtumancerError,
    WrongState,
)
from workers.hypervisor import listed
from workers.hypervisor.link import Link
from workers.hypervisor.records import (
    MAX_COUNT,
    BlockSize,
    DomainSeen,
    ListedDomain,
    Listing,
)

_INACTIVE_ID = -1
_PILE: Final = 128 * 1024
_STATE = libvirt.VIR_DOMAIN_STATS_STATE
# Rarer than persistent ones, so that the answer is short.
_TRANSIENT = libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT
_AUTOSTART = libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART


Call = Callable[..., Any]
T = TypeVar("T")


class Domains:
    """The domains behind one link.

    libvirt's handles are kept by uuid: a handle is a name and a uuid and outlives
    most changes, while looking one up costs a round trip.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._handles: dict[str, Any] = {}

    def forget(self) -> None:
        """Let go of every handle; each of them holds the connection."""
        self._handles = {}

    def listing(self) -> Listing:
        """Every domain, in three round trips."""
        virt = self._link.virt
        transient = self._uuids(_TRANSIENT)
        autostart = self._uuids(_AUTOSTART)
        found = self._link.call(virt.getAllDomainStats, _STATE, 0)
        listing = Listing([], {})
        handles: dict[str, Any] = {}
        for handle, stats in found:
            uuid = handle.UUIDString()
            handles[uuid] = handle
            name = name_of(handle)
            if name is None:
                listing.unreadable[uuid] = BrokenDomain(
                    "The domain's name is not in UTF-8."
                )
                continue
            listing.domains.append(
                ListedDomain(
                    uuid=uuid,
                    name=name,
                    libvirt_id=_libvirt_id(handle),
                    active=_libvirt_id(handle) is not None,
                    persistent=uuid not in transient,
                    autostart=uuid in autostart,
                    state=stats.get("state.state", libvirt.VIR_DOMAIN_NOSTATE),
                    state_reason=stats.get("state.reason", 0),
                )
            )
        self._handles = handles
        return listing

    def _uuids(self, flag: int) -> set[str]:
        found: set[str] = self._link.call(listed.uuids, self._link.virt, flag)
        return found

    def find(self, name: str) -> str:
        """The uuid of the domain of this name."""
        if "\0" in name:
            raise UnknownVm("No name of a VM holds a zero byte.")
        handle = self._link.call(self._link.virt.lookupByName, name)
        uuid: str = handle.UUIDString()
        self._handles[uuid] = handle
        return uuid

    def look_up(self, uuid: str) -> Any:
        """A fresh handle, which knows the domain's name and number of now."""
        try:
            handle = self._link.call(self._link.virt.lookupByUUIDString, uuid)
        except LibvirtRefused as error:
            if error.extra.get("libvirt_code") == libvirt.VIR_ERR_INVALID_ARG:
                raise UnknownVm(f"{uuid!r} is not the uuid of a VM.") from error
            raise
        self._handles[uuid] = handle
        return handle

    def handle(self, uuid: str) -> Any:
        """A handle that may be old."""
        return self._handles.get(uuid) or self.look_up(uuid)

    def seen(self, uuid: str) -> DomainSeen:
        """One domain looked up: state, flags and live XML."""
        call = self._link.call
        handle = self.look_up(uuid)
        name = name_of(handle)
        if name is None:
            raise BrokenDomain("The domain's name is not in UTF-8.")
        state, reason = call(handle.state)
        listed = ListedDomain(
            uuid=uuid,
            name=name,
            libvirt_id=_libvirt_id(handle),
            active=_libvirt_id(handle) is not None,
            persistent=bool(call(handle.isPersistent)),
            autostart=bool(call(handle.autostart)),
            state=state,
            state_reason=reason,
        )
        return DomainSeen(listed, call(handle.XMLDesc, 0))

    def xml(self, uuid: str) -> str:
        """The live XML, without secrets."""
        xml: str = self._link.call(self.handle(uuid).XMLDesc, 0)
        return xml

    def xmls(
        self, uuids: Iterable[str], use: Callable[[str, str], T], parallel: int
    ) -> dict[str, T | VirtumancerError]:
        """``use(uuid, xml)`` of each, several at a time, or what kept one from it."""
        pile = Pile(use)

        def read(call: Call, uuid: str) -> None:
            handle = self._handles.get(uuid) or self.look_up(uuid)
            pile.put(uuid, call(handle.XMLDesc, 0))

        read_or_not = each_of(self._link, uuids, read, parallel)
        pile.use_up()
        kept_from = {u: e for u, e in read_or_not.items() if e is not None}
        return pile.answers | kept_from

    def block_sizes(self, uuid: str, targets: Iterable[str]) -> dict[str, BlockSize]:
        """Sizes by target; disks that libvirt will not measure are left out."""
        handle = self.handle(uuid)
        sizes = {}
        for target in targets:
            try:
                size = self._link.call(handle.blockInfo, target)
            except (LibvirtRefused, WrongState):
                # An empty drive, a file that is gone, a disk of a host's own kind.
                continue
            if all(0 <= part <= MAX_COUNT for part in size):
                sizes[target] = BlockSize(*size)
        return sizes


class Pile(Generic[T]):
    """XML that was read, put by until there is enough of it to be looked into.

    To look into each as it comes would have the reading threads wait for each other
    at every one of them, which takes as long as the looking. No more is put by than a
    hostile host may fill.
    """

    def __init__(self, use: Callable[[str, str], T]) -> None:
        self.answers: dict[str, T | VirtumancerError] = {}
        self._use = use
        self._in_use = threading.Lock()
        self._changing = threading.Lock()
        self._xmls: dict[str, str] = {}
        self._size = 0

    def put(self, uuid: str, xml: str) -> None:
        with self._changing:
            self._xmls[uuid] = xml
            self._size += len(xml)
            full = self._size >= _PILE
        if full:
            self.use_up()

    def use_up(self) -> None:
        """Look into all that lies there; one thread at a time."""
        with self._in_use:
            with self._changing:
                xmls, self._xmls, self._size = self._xmls, {}, 0
            for uuid, xml in xmls.items():
                try:
                    self.answers[uuid] = self._use(uuid, xml)
                except HostNotBelieved:
                    raise
                except VirtumancerError as error:
                    self.answers[uuid] = error


def name_of(handle: Any) -> str | None:
    """None if it is not in UTF-8."""
    try:
        name: str = handle.name()
    except UnicodeDecodeError:
        return None
    return name


def _libvirt_id(handle: Any) -> int | None:
    number: int = handle.ID()
    return None if number == _INACTIVE_ID else number


def each_of(
    link: Link, uuids: Iterable[str], read: Callable[[Call, str], T], parallel: int
) -> dict[str, T | VirtumancerError]:
    """What ``read`` says of each, several at a time, with a call() of its thread's own.

    An error that concerns one alone is its answer; a host that is lost, or not believed
    any longer, raises.
    """
    wanted = list(uuids)
    waiting = iter(wanted)
    lock = threading.Lock()
    answers: dict[str, T | VirtumancerError] = {}

    def work() -> None:
        with link.calls(link.timeouts.call_s) as call:
            # A future per domain would cost as much as the round trip.
            while True:
                with lock:
                    uuid = next(waiting, None)
                if uuid is None:
                    return
                answers[uuid] = _answer(call, uuid)

    def _answer(call: Call, uuid: str) -> T | VirtumancerError:
        try:
            return read(call, uuid)
        except (HostNotBelieved, HostUnreachable):
            raise
        except VirtumancerError as error:
            return error

    if len(wanted) == 1 or parallel == 1:
        work()
        return answers
    threads = min(parallel, len(wanted))
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="xml") as pool:
        # Each thread goes on in the caller's log context and trace.
        contexts = [contextvars.copy_context() for _ in range(threads)]
        for running in [pool.submit(c.run, work) for c in contexts]:
            running.result()
    return answers
