"""libvirt's own connection object, under deadlines; nothing above this folder sees it.

Whoever calls libvirt goes through ``Link.call``, so that every call has an end.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import libvirt
import structlog

from common import metrics, tracing
from common.errors import (
    ConnectionFailed,
    HostTimeout,
    HostUnreachable,
    VirtumancerError,
)
from common.refusals import LibvirtSilent
from common.uri import HostUri
from workers.hypervisor.codes import (
    FAILURES,
    NO_TEXT,
    refused_login,
    translate,
    words_of,
)
from workers.hypervisor.records import Timeouts
from workers.hypervisor.transport import NOWHERE, Transport
from workers.hypervisor.watchdog import WATCHDOG, Limit

_FAREWELL_S = 1.0
_RETRY_S = 0.002
# Asked first, for a line that is not wanted costs 5 us of 80.
_ROOT = logging.getLogger()
_UNTRACED: AbstractContextManager[Any] = nullcontext()


class Link:
    """An open libvirt connection, broken for good by the first deadline it misses."""

    def __init__(
        self,
        uri: HostUri,
        ssh_dir: Path,
        timeouts: Timeouts,
        host_id: str = "",
        tls_dir: Path = NOWHERE,
    ) -> None:
        """Connect, or raise ConnectionFailed."""
        self.uri = uri
        self._host_id = host_id
        self.timeouts = timeouts
        self.lost: HostUnreachable | None = None
        self.busy = 0
        self._idle = threading.Condition()
        self._counted: dict[str, Any] = {}
        """Looked up once a verb: that costs as much as all else beside a call."""
        began = time.monotonic()
        try:
            with self._traced("open"):
                self._connect(ssh_dir, tls_dir)
        finally:
            self._count("open", time.monotonic() - began)

    def _connect(self, ssh_dir: Path, tls_dir: Path) -> None:
        self._transport = Transport.open(
            self.uri, ssh_dir, self.timeouts.open_s, tls_dir
        )
        try:
            self._virt: Any = self._open()
        except BaseException:
            self._transport.close()
            raise

    def _open(self) -> Any:
        with WATCHDOG.limit(self._transport.left_s(), self._transport.cut) as limit:
            while True:
                try:
                    return _open(self.uri, self._transport.socket)
                except NO_TEXT as error:
                    raise ConnectionFailed(
                        f"What answers at {self.uri} does not speak in UTF-8. Is it "
                        "libvirtd that listens there?",
                        step="libvirt",
                    ) from error
                except libvirt.libvirtError as error:
                    # The far end of the socket is bound a moment before it listens.
                    early = _not_listening_yet(error) and self._transport.running
                    if limit.expired or not early:
                        raise self._why(error, limit) from error
                    time.sleep(_RETRY_S)

    def _why(self, error: libvirt.libvirtError, limit: Limit) -> ConnectionFailed:
        if limit.expired:
            return LibvirtSilent(
                f"libvirtd at {self.uri} accepted the connection and then did not "
                f"answer within {self.timeouts.open_s:g} seconds. Look whether it "
                "hangs, and whether it is libvirtd that listens there.",
                step="libvirt",
            )
        refused = self._transport.why_refused()
        if refused is not None:
            return refused
        words = words_of(error)
        if kind := refused_login(error):
            return kind(
                f"libvirtd at {self.uri} does not let us in: {words}. Give the user "
                "the right to manage libvirt (often the group libvirt).",
                step="permission",
            )
        return ConnectionFailed(
            f"libvirtd at {self.uri} refused the connection: {words}.",
            step="libvirt",
            libvirt_message=words,
        )

    @property
    def virt(self) -> Any:
        """libvirt's object; call its methods through call()."""
        if self._virt is None:
            raise self._lost()
        return self._virt

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call libvirt within the usual time."""
        return self.call_within(self.timeouts.call_s, function, *arguments)

    def call_within(
        self, seconds: float, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Call libvirt within so many seconds, or cut the connection."""
        with self.calls(seconds) as call:
            return call(function, *arguments)

    @contextmanager
    def calls(self, seconds: float) -> Iterator[Callable[..., Any]]:
        """Many calls in a row, each within so many seconds; spares the set-up."""
        self._enter()
        try:
            with self._limit(seconds, self._nudge) as limit:

                def call(function: Callable[..., Any], *arguments: Any) -> Any:
                    if self.lost is not None:
                        raise self._lost()
                    limit.renew(seconds)
                    return self._ask(function, arguments)

                yield call
        finally:
            self._leave()

    def _ask(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        verb = function.__name__
        began = time.monotonic()
        try:
            with self._traced(verb):
                return function(*arguments)
        except FAILURES as error:
            ours = translate(error)
            if isinstance(ours, HostUnreachable):
                self.lost = self.lost or ours
            raise ours from error
        finally:
            self._count(verb, time.monotonic() - began)

    def _traced(self, verb: str) -> AbstractContextManager[Any]:
        """A span of what is asked of the host, within a traced task."""
        if not tracing.traceparent():
            return _UNTRACED
        facts = {"virtumancer.host": self._host_id}
        return tracing.within(f"libvirt {verb}", "client", **facts)

    def _count(self, verb: str, seconds: float) -> None:
        counted = self._counted.get(verb)
        if counted is None:
            counted = metrics.CALL_SECONDS.labels(self._host_id, verb)
            self._counted[verb] = counted
        counted.observe(seconds)
        if _ROOT.isEnabledFor(logging.DEBUG):
            ms = round(seconds * 1000, 1)
            structlog.get_logger().debug(verb, host=self._host_id, ms=ms)

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """What is called in this block takes at most so long altogether."""
        with self._limit(seconds):
            yield

    @contextmanager
    def _limit(
        self, seconds: float, slow: Callable[[], None] | None = None
    ) -> Iterator[Limit]:
        def cut() -> None:
            self.lost = self.lost or HostTimeout(
                f"{self.uri} did not answer within {seconds:g} seconds."
            )
            self._transport.cut()

        with WATCHDOG.limit(seconds, cut, slow) as limit:
            try:
                yield limit
            except VirtumancerError as error:
                if limit.expired and error is not self.lost:
                    raise self._lost() from error
                raise
        if limit.expired:
            raise self._lost()

    def _nudge(self) -> None:
        """A call is slow: see to it that it was sent at all.

        Of threads that share a connection the first reads and sends for all. Before
        10.0 libvirt can fail to wake it for another one's call, which then lies there
        for as long as the first call takes ("rpc: fix race in waking up client event
        loop", 7d959c30). One more call wakes it.
        """
        if self.busy > 1:
            # Where no thread can be had, the deadline still ends it.
            with suppress(RuntimeError):
                threading.Thread(target=self._wake, name="nudge", daemon=True).start()

    def _wake(self) -> None:
        # It has no deadline: those of the calls that it is for cut it off too.
        with suppress(HostUnreachable):
            self._enter()
            try:
                try_to(self._virt.getLibVersion)
            finally:
                self._leave()

    def _lost(self) -> HostUnreachable:
        """A fresh copy of the first reason, since an exception carries a traceback."""
        lost = self.lost or HostUnreachable("The connection to the host is closed.")
        return type(lost)(lost.detail, **lost.extra)

    def _enter(self) -> None:
        with self._idle:
            if self.lost is not None:
                raise self._lost()
            self.busy += 1

    def _leave(self) -> None:
        with self._idle:
            self.busy -= 1
            if not self.busy:
                self._idle.notify_all()

    def cut(self) -> None:
        """End every call on this link now and refuse later ones."""
        self.lost = self.lost or HostUnreachable("The connection was closed.")
        self._transport.cut()

    def close(self, farewell: Callable[[], None]) -> None:
        """Refuse new calls, say farewell if the host still listens, and let go.

        libvirtd 9.0 can crash when a client that has registered for events vanishes
        in the middle of a call, so a healthy connection ends in order; but soon.
        """
        if self.lost is not None:
            self._transport.cut()
        self.lost = self.lost or HostUnreachable("The connection was closed.")
        with WATCHDOG.limit(_FAREWELL_S, self._transport.cut):
            if self._drained():
                farewell()
                virt, self._virt = self._virt, None
                try_to(virt.close)
        self._transport.close()

    def _drained(self) -> bool:
        """Wait for the calls of others, under which libvirt must not be freed."""
        with self._idle:
            return self._idle.wait_for(lambda: not self.busy, 2 * _FAREWELL_S)


def try_to(function: Callable[..., Any], *arguments: Any) -> None:
    """Call libvirt when it does not matter what it answers."""
    try:
        function(*arguments)
    except FAILURES:
        return


def _open(uri: HostUri, local: Path) -> Any:
    """Open by the local socket; no alias, no prompt, no parameter of anybody's."""
    address = f"{uri.driver}+unix:///{uri.path}?socket={quote(str(local))}"
    nobody: list[Any] = [[], lambda _credentials, _opaque: -1, None]
    return libvirt.openAuth(address, nobody, libvirt.VIR_CONNECT_NO_ALIASES)


def _not_listening_yet(error: libvirt.libvirtError) -> bool:
    words = error.get_error_message() or ""
    return "Failed to connect socket" in words and "refused" in words
