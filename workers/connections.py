"""One open connection a host in this process, opened when first needed."""

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import structlog

from common import metrics
from common.errors import HostTimeout, HostUnreachable, VirtumancerError
from common.shapes import CheckStep
from common.uri import parse
from common.uri_policy import UriPolicy
from workers.hypervisor.connection import Connection
from workers.hypervisor.doctor import examine
from workers.hypervisor.records import Timeouts
from workers.hypervisor.transport import NOWHERE


class ConnectionKey(NamedTuple):
    """A host that is removed and added again is another host."""

    host_db_id: int
    uri: str
    host_id: str = ""


class Connections:
    """Threads that want the same host at once share one attempt to open it."""

    def __init__(
        self,
        policy: UriPolicy,
        ssh_dir: Path,
        timeouts: Timeouts,
        tls_dir: Path = NOWHERE,
    ) -> None:
        self._policy = policy
        self._ssh_dir = ssh_dir
        self._tls_dir = tls_dir
        self._timeouts = timeouts
        self._open: dict[ConnectionKey, Future[Connection]] = {}
        self._lock = threading.Lock()

    def open(self, uri: str, host_id: str = "") -> Connection:
        """A connection of the caller's own; raises ConnectionFailed, UriNotAllowed."""
        address = parse(uri, self._policy)
        return Connection.open(
            address, self._ssh_dir, self._timeouts, host_id, self._tls_dir
        )

    def examine(self, uri: str, host_id: str) -> list[CheckStep]:
        """Try the way to a host step by step; raises UriNotAllowed."""
        address = parse(uri, self._policy)
        return list(
            examine(
                address, self._ssh_dir, self._timeouts, lambda: self.open(uri, host_id)
            )
        )

    def get(self, key: ConnectionKey) -> Connection:
        """The live connection to a host; raises HostUnreachable."""
        with self._lock:
            future = self._open.get(key)
            mine = future is None or (future.done() and not _usable(future))
            if mine:
                stale, future = future, Future()
                self._open[key] = future
        assert future is not None
        if mine:
            if stale is not None:
                _close(stale)
            self._fill(key, future)
        connection = future.result()
        try:
            connection.ping()
        except HostTimeout:
            # It was given its time; a new connection would hang as long again.
            self._drop(key, future)
            raise
        except HostUnreachable:
            self._drop(key, future)
            return self.get(key)
        return connection

    def adopt(self, key: ConnectionKey, connection: Connection) -> None:
        """Use this open connection for the host from now on."""
        future: Future[Connection] = Future()
        future.set_result(connection)
        with self._lock:
            known = self._open.setdefault(key, future)
        if known is not future:
            connection.close()

    def _fill(self, key: ConnectionKey, future: "Future[Connection]") -> None:
        try:
            future.set_result(self.open(key.uri, key.host_id))
        except VirtumancerError as error:
            self._drop(key, future)
            future.set_exception(HostUnreachable(error.detail, **error.extra))

    def _drop(self, key: ConnectionKey, future: "Future[Connection]") -> None:
        with self._lock:
            if self._open.get(key) is future:
                del self._open[key]
        _close(future)

    def keep_only(self, in_use: set[tuple[int, str]]) -> None:
        """Close the connections to hosts that were removed, moved or disabled."""
        with self._lock:
            gone = [k for k in self._open if (k.host_db_id, k.uri) not in in_use]
            futures = [self._open.pop(k) for k in gone]
        # A host that hangs takes a second, and all of them no more than one does.
        closing = [threading.Thread(target=_close, args=(f,)) for f in futures]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        for key in gone:
            metrics.forget_host(key.host_id)
            structlog.get_logger().info("disconnected", uri=key.uri)

    def close(self) -> None:
        self.keep_only(set())


def _usable(future: "Future[Connection]") -> bool:
    return future.exception() is None and not future.result().broken


def _close(future: "Future[Connection]") -> None:
    if future.done() and future.exception() is None:
        future.result().close()
