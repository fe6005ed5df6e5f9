"""What a worker does: one function a kind of task, and the frame they all run in.

Dramatiq brings a bell; the task is claimed from its row, done once, and its end is
written together with whoever waits being told.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar, get_args
from uuid import UUID

import dramatiq
import msgspec
import structlog
from msgspec import UNSET, Struct

from common import bus
from common.changes import Changes
from common.db import Reader, sql
from common.errors import (
    HostRemoved,
    HostUnreachable,
    Interrupted,
    StoreUnavailable,
    UnknownVm,
    VirtumancerError,
    problem_of,
)
from common.queue import ACTOR, QUEUE, WakeBroker
from common.shapes import EditVm, HostInfo, PowerAction, Problem, TaskKind, Vm
from workers import measured
from workers.claimed import ENDED, Claimed, end
from workers.connections import ConnectionKey, Connections
from workers.host_work import HostWork
from workers.hypervisor.connection import Connection
from workers.hypervisor.watchdog import WATCHDOG
from workers.lanes import LaneKey, Lanes
from workers.leases import Presence
from workers.sync import Also, Sync, nothing

_PAUSE_S: Final = 0.5
_LASTS_S: Final = 0.1
"""Of a task that ends sooner its end is news enough."""
_CLAIMED_S: Final = 10.0
"""By then whoever claimed a task knows of it."""

T = TypeVar("T")


class Patience:
    """Waits for an absent database in the middle of a task, until the process stops."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def outlast(self, work: Callable[[], T]) -> T:
        """``work`` again and again for as long as the database is away.

        It must do no harm when done twice. Raises StoreUnavailable when the process
        stops first; the task then falls to another worker.
        """
        while True:
            try:
                return work()
            except StoreUnavailable:
                if self._stopping.wait(_PAUSE_S):
                    raise

    def end(self) -> None:
        self._stopping.set()


class Work:
    """The kinds of task. Each takes the claimed task and returns its result."""

    def __init__(
        self,
        reader: Reader,
        changes: Changes,
        connections: Connections,
        sync: Sync,
        presence: Presence,
        patience: Patience,
    ) -> None:
        self._reader = reader
        self._connections = connections
        self._sync = sync
        self._presence = presence
        self._patience = patience
        self.kinds: dict[TaskKind, Callable[[Claimed], object]] = {
            **dict.fromkeys(get_args(PowerAction), self.power),
            **HostWork(changes, connections, sync).kinds,
            "edit": self.edit,
            "info": self.info,
            "sync_host": self.sync_host,
            "sync_vm": self.sync_vm,
        }

    def power(self, task: Claimed) -> object:
        """Press a button, then look at what it did."""
        connection, host_db_id = self._connection(task)
        assert task.vm_uuid
        also: Also = nothing
        looked = False
        try:
            connection.power(
                str(task.vm_uuid), task.kind, lambda: self._be_sure_of(task)
            )
            also = partial(end, task=task)
        finally:
            # A refused action too may have found the VM otherwise than its row says.
            # It waits for an absent database: pressing again would be no cure.
            if not connection.broken:
                looked = self._patience.outlast(
                    lambda: self._look(connection, task, host_db_id, also)
                )
        return ENDED if looked else None

    def _be_sure_of(self, task: Claimed) -> None:
        """Raise Interrupted if the task was given to another while we were silent.

        A worker that was stopped would press what nobody wants any more.
        """
        if self._presence.taken_for_dead and not self._patience.outlast(
            lambda: self._reader.all(
                sql.tasks.held, _Held, id=task.id, process_id=task.process_id
            )
        ):
            raise Interrupted("Another worker was given this task meanwhile.")

    def _look(
        self,
        connection: Connection,
        task: Claimed,
        host_db_id: int,
        also: Also = nothing,
    ) -> bool:
        """Whether the VM is there. A transient one is gone after it was shut down;
        that is no failure."""
        assert task.vm_uuid
        try:
            self._sync.vm(connection, task.host_id, host_db_id, task.vm_uuid, also)
        except UnknownVm:
            return False
        return True

    def edit(self, task: Claimed) -> Vm:
        """Change what is asked for, then look at the VM; its row is the result."""
        connection, host_db_id = self._connection(task)
        assert task.vm_uuid
        wanted = msgspec.convert(task.params, EditVm)
        uuid = str(task.vm_uuid)
        try:
            if wanted.title is not UNSET:
                connection.set_title(uuid, wanted.title)
            if wanted.description is not UNSET:
                connection.set_description(uuid, wanted.description)
            if wanted.autostart is not UNSET:
                connection.set_autostart(uuid, int(wanted.autostart))
        finally:
            if not connection.broken:
                self._patience.outlast(lambda: self._look(connection, task, host_db_id))
        return self._sync.row(task.host_id, task.vm_uuid)

    def info(self, task: Claimed) -> HostInfo:
        connection, _ = self._connection(task)
        facts = connection.host_facts()
        return HostInfo(
            hostname=facts.hostname,
            cpu=facts.cpus,
            memory=facts.memory_bytes,
            cores=facts.cores,
            threads=facts.threads,
            sockets=facts.sockets,
            nodes=facts.numa_nodes,
            mhz=facts.cpu_mhz,
            cpu_model=facts.cpu_model,
            free_memory_bytes=facts.free_memory_bytes,
            hypervisor=facts.hypervisor,
            hypervisor_version=facts.hypervisor_version,
            libvirt_version=facts.libvirt_version,
        )

    def sync_host(self, task: Claimed) -> object:
        connection, host_db_id = self._connection(task)
        also = partial(end, task=task)
        self._sync.host(connection, task.host_id, host_db_id, also)
        return ENDED

    def sync_vm(self, task: Claimed) -> object:
        connection, host_db_id = self._connection(task)
        assert task.vm_uuid
        also = partial(end, task=task)
        self._sync.vm(connection, task.host_id, host_db_id, task.vm_uuid, also)
        return ENDED

    def _connection(self, task: Claimed) -> tuple[Connection, int]:
        if task.host_db_id is None or task.host_uri is None:
            raise HostRemoved(f"The host {task.host_id} was removed.")
        if task.host_state in ("unreachable", "disabled"):
            # Its monitor tries again by itself; no worker waits for it meanwhile.
            why = task.host_error.detail if task.host_error else "It is disabled."
            raise HostUnreachable(f"{task.host_id} cannot be reached now. {why}")
        key = ConnectionKey(task.host_db_id, task.host_uri, task.host_id)
        return self._connections.get(key), task.host_db_id


class _Held(Struct):
    id: UUID


class Tasks:
    """Claims tasks and ends them."""

    def __init__(
        self,
        changes: Changes,
        presence: Presence,
        kinds: dict[TaskKind, Callable[[Claimed], object]],
        patience: Patience,
    ) -> None:
        self._changes = changes
        self._presence = presence
        self._kinds = kinds
        self._patience = patience
        self._known: set[UUID] = set()

    def run_next(self, key: LaneKey) -> bool:
        """Claim and do the next task of a lane; False when none is left.

        Who comes after it was claimed rings by itself.
        """
        try:
            task = self._claim(key)
            if task is None:
                return False
            self._known.add(task.id)
            with measured.under_way(task):
                self._run(task)
            self._known.discard(task.id)
        except StoreUnavailable:
            # What is queued is rung again, what is held falls to another worker.
            return False
        return task.others_wait

    def let_go(self) -> None:
        """Give up what was claimed in a transaction whose answer was lost."""
        with self._changes.begin() as change:
            change.run(
                sql.tasks.let_go,
                process_id=self._presence.id,
                known=list(self._known),
                after_s=_CLAIMED_S,
            )

    def _claim(self, key: LaneKey) -> Claimed | None:
        with self._changes.begin_single() as change:
            return change.one(
                sql.tasks.claim, Claimed, process_id=self._presence.id, **key._asdict()
            )

    def _run(self, task: Claimed) -> None:
        began = time.monotonic()
        with WATCHDOG.limit(_LASTS_S, self._tell_it_lasts):
            result, problem = self._outcome(task)
        measured.count(task, time.monotonic() - began, problem)
        if result is not ENDED:
            self._patience.outlast(lambda: self._end(task, result, problem))
        structlog.get_logger().info(
            task.kind,
            host=task.host_id,
            vm=task.vm_name or (task.vm_uuid and str(task.vm_uuid)),
            ended=problem.detail if problem else "done",
            ms=round((time.monotonic() - began) * 1000, 1),
        )

    def _tell_it_lasts(self) -> None:
        """Have whoever follows the tasks hear of one that is running for a while."""
        tell = partial(self._changes.tell, bus.news())
        with suppress(RuntimeError):
            # No thread can be had; the end will be told.
            threading.Thread(target=tell, name="news", daemon=True).start()

    def _outcome(self, task: Claimed) -> tuple[object, Problem | None]:
        try:
            return self._patience.outlast(lambda: self._kinds[task.kind](task)), None
        except StoreUnavailable:
            raise
        except VirtumancerError as error:
            return None, problem_of(error, task.id)
        except Exception:  # noqa: BLE001 (the frame of all work: a task always ends)
            structlog.get_logger().exception("a task failed by a fault of ours")
            fault = VirtumancerError(
                "A fault of ours; the worker's log has it under this task's id."
            )
            return None, problem_of(fault, task.id)

    def _end(self, task: Claimed, result: object, problem: Problem | None) -> None:
        with self._changes.begin_single() as change:
            end(change, task, result, problem)


def declare(broker: WakeBroker, lanes: Lanes) -> None:
    """The one Dramatiq actor: it hands the bell on to the lane of the task's host."""

    def ring(host_id: str, lane: str) -> None:
        lanes.ring(LaneKey(host_id, lane))

    dramatiq.Actor(
        ring,
        broker=broker,
        actor_name=ACTOR,
        queue_name=QUEUE,
        priority=0,
        options={},
    )
