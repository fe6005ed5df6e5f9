"""Tasks about a host itself: it is checked, added, or goes on at another address."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from common import bus
from common.changes import Change, Changes
from common.db import Query, sql
from common.errors import HostIdTaken, HostRemoved, VirtumancerError
from common.shapes import Host, HostCheck, TaskKind
from workers.claimed import ENDED, Claimed, end
from workers.connections import ConnectionKey, Connections
from workers.hypervisor.connection import Connection
from workers.reading import HostSeen
from workers.sync import Sync


class _DbId(Struct):
    db_id: int


class HostWork:
    """What writes anything ends its task together with that."""

    def __init__(self, changes: Changes, connections: Connections, sync: Sync) -> None:
        self._changes = changes
        self._connections = connections
        self._sync = sync
        self.kinds: dict[TaskKind, Callable[[Claimed], object]] = {
            "connect": self.connect,
            "move": self.move,
            "check": self.check,
        }

    def connect(self, task: Claimed) -> object:
        """Read a new host, and only then store it with all its VMs."""
        taken = HostIdTaken(f"There is a host {task.host_id} already.")
        return self._take_up(task, sql.hosts.add, taken)

    def move(self, task: Claimed) -> object:
        """Read a host at its new address, and only then store that."""
        removed = HostRemoved(f"The host {task.host_id} was removed.")
        return self._take_up(task, sql.hosts.move, removed)

    def check(self, task: Claimed) -> HostCheck:
        """Try the way to a host, and store nothing of it."""
        assert task.uri
        steps = self._connections.examine(task.uri, task.host_id)
        # Without KVM a host is slow, and a host all the same.
        ok = all(step.ok for step in steps if step.name != "kvm")
        return HostCheck(uri=task.uri, ok=ok, steps=steps)

    def _take_up(
        self, task: Claimed, store: Query, obstacle: VirtumancerError
    ) -> object:
        """Raises ``obstacle`` where ``store`` stores nothing."""
        with self._opened(task) as connection:
            seen = self._sync.read_host(connection, 0)
            with self._changes.begin() as change:
                host = change.one(store, _DbId, id=task.host_id, uri=task.uri)
                if host is None:
                    raise obstacle
                self._write(change, task, host.db_id, seen)
        assert task.uri
        # Whatever is asked of the host next goes over the same connection.
        key = ConnectionKey(host.db_id, task.uri, task.host_id)
        self._connections.adopt(key, connection)
        self._sync.tidy(seen)
        return ENDED

    @contextmanager
    def _opened(self, task: Claimed) -> Iterator[Connection]:
        """A connection that is closed if it was for nothing."""
        assert task.uri
        connection = self._connections.open(task.uri, task.host_id)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise

    def _write(
        self, change: Change, task: Claimed, host_db_id: int, seen: HostSeen
    ) -> None:
        self._sync.write_host(change, task.host_id, host_db_id, seen)
        change.publish(*bus.hosts_changed(task.host_id))
        end(change, task, change.one(sql.hosts.get, Host, id=task.host_id))
