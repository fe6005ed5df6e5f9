"""One host, watched by its owner: connected, listened to, looked at again.

Everything that happens on the host becomes a task to look again; the watch itself
reads nothing of a VM.
"""

import queue
import random
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final
from uuid import UUID

import structlog
from msgspec import Struct
from psycopg.types.json import Jsonb

from common import bus
from common.changes import Changes
from common.db import sql
from common.errors import (
    HostUnreachable,
    StoreUnavailable,
    VirtumancerError,
    problem_of,
)
from common.shapes import HostsChanged
from common.shapes.resources import HostState
from workers.connections import Connections
from workers.hypervisor import events
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Event
from workers.leases import OwnedHost, Presence
from workers.sync import ask_look

_FIRST_RETRY_S: Final = 0.5
# With its jitter and a full sync, a host that is back is taken up within five seconds.
_LONGEST_RETRY_S: Final = 3.0
# Events are handed on at once; of a storm, those of a quarter of a second as one.
_GATHER_S: Final = 0.01
_GATHER_IN_STORM_S: Final = 0.25
_STORM_EVENTS: Final = 10
"""So many events within a second are a storm."""
_AGAIN_S: Final = 1.0
"""How long to wait for a database that could not be told."""
_FEW_LOOKS: Final = 2
"""So many looks at one VM each cost as much as a full sync of an empty host."""
_VMS_A_LOOK: Final = 60
"""So many VMs in a full sync cost as much as one more look."""


class _Changed(Struct):
    changed: bool


class _Count(Struct):
    vms: int


class Watch:
    """Keeps one host's connection and hands on what it announces."""

    def __init__(
        self,
        host: OwnedHost,
        changes: Changes,
        connections: Connections,
        presence: Presence,
        probe_interval_s: float,
        sweep_interval_s: float,
    ) -> None:
        self.host = host
        self._changes = changes
        self._connections = connections
        self._presence = presence
        self._probe_interval_s = probe_interval_s
        self._sweep_interval_s = sweep_interval_s
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lately: deque[float] = deque(maxlen=_STORM_EVENTS)
        self._stopping = threading.Event()
        self._log = structlog.get_logger().bind(host=host.id)
        self._thread = threading.Thread(
            target=self._run, name=f"watch {host.id}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let go of the host; returns at once, join() waits."""
        self._stopping.set()
        self._events.put(Event("stopped", None))

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        told = ""
        while not self._stopping.is_set():
            try:
                connection = self._connections.open(self.host.uri, self.host.id)
            except VirtumancerError as error:
                told = self._lost(error, retry_s, told)
                retry_s = min(retry_s * 2, _LONGEST_RETRY_S)
                continue
            try:
                self._follow(connection)
            except VirtumancerError as error:
                # Most often it is lost; but a host may answer anything to anything.
                retry_s = _FIRST_RETRY_S
                told = self._lost(error, retry_s, "")
            finally:
                connection.close()

    def _lost(self, error: VirtumancerError, retry_s: float, told: str) -> str:
        """Say why the host is out of reach, each reason once, and wait."""
        if error.detail != told:
            self._log.warning("host unreachable", reason=error.detail)
        wait_s = retry_s * random.uniform(0.75, 1.25)
        with suppress(StoreUnavailable):
            self._tell("unreachable", error, wait_s)
        self._stopping.wait(wait_s)
        return error.detail

    def _tell(
        self,
        state: HostState,
        error: VirtumancerError | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        with self._changes.begin() as change:
            told = change.one(
                sql.hosts.set_state,
                _Changed,
                db_id=self.host.db_id,
                process_id=self._presence.id,
                state=state,
                error=Jsonb(problem_of(error)) if error else None,
                retry_in_s=retry_in_s,
            )
            if told and told.changed:
                host_id = self.host.id
                change.publish(bus.frame(host_id, HostsChanged()))
                change.publish(bus.vms_changed(host_id))

    def _follow(self, connection: Connection) -> None:
        """Listen until the host is lost (raises HostUnreachable) or let go of."""
        self._events = queue.SimpleQueue()
        events.subscribe(connection, self._events.put)
        self._log.info("host connected")
        # Until it is told, this connection and all its VMs are news.
        untold = True
        sweep_at = time.monotonic() + self._sweep_interval_s
        seen: list[Event] = []
        while not self._stopping.is_set():
            if time.monotonic() >= sweep_at:
                untold = True
                sweep_at = time.monotonic() + self._sweep_interval_s
            untold = not self._hand_on(untold, seen)
            seen = self._gather(_AGAIN_S if untold else self._probe_interval_s)
            if any(event.kind == "closed" for event in seen):
                raise HostUnreachable("The host closed the connection.")
            if not seen and not connection.is_alive():
                raise HostUnreachable("The host no longer answers.")

    def _hand_on(self, all_is_news: object, seen: list[Event]) -> bool:
        """Have looked at what changed; False if the database is away."""
        uuids = {event.uuid for event in seen if event.uuid}
        try:
            if all_is_news or self._are_many(uuids):
                self._tell("connected")
                with self._changes.begin() as change:
                    ask_look(change, "sync_host", self.host.id)
            elif uuids:
                with self._changes.begin() as change:
                    looks = [
                        ask_look(change, "sync_vm", self.host.id, UUID(uuid))
                        for uuid in uuids
                    ]
                    age_s = time.monotonic() - min(event.at_s for event in seen)
                    change.run(sql.metrics.noticed, ids=looks, age_s=age_s)
                    if rebooted := {e.uuid for e in seen if e.kind == "reboot"}:
                        where = {"host_id": self.host.id, "uuids": list(rebooted)}
                        change.run(sql.audit.rebooted, **where)
        except StoreUnavailable:
            # What could not be told is made up for by a look at everything.
            return False
        return True

    def _are_many(self, uuids: set[str]) -> bool:
        """Whether to look at the whole host costs less than to look at each of them."""
        if len(uuids) <= _FEW_LOOKS:
            return False
        with self._changes.begin_single() as change:
            known = change.one(sql.vms.count, _Count, host_db_id=self.host.db_id)
        assert known
        return len(uuids) > _FEW_LOOKS + known.vms / _VMS_A_LOOK

    def _gather(self, patience_s: float) -> list[Event]:
        """The events of the next moment; none after a quiet interval."""
        seen: list[Event] = []
        with suppress(queue.Empty):
            seen.append(self._events.get(timeout=patience_s))
            until = time.monotonic() + self._moment_s()
            while (left_s := until - time.monotonic()) > 0:
                seen.append(self._events.get(timeout=left_s))
        self._lately.extend(event.at_s for event in seen)
        return seen

    def _moment_s(self) -> float:
        lately = self._lately
        storm = len(lately) == _STORM_EVENTS and time.monotonic() - lately[0] < 1
        return _GATHER_IN_STORM_S if storm else _GATHER_S
