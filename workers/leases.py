"""Who is alive and who owns which host. Hides the clock: only Postgres's counts."""

import os
import socket
import threading
import time
from typing import Final, Literal
from uuid import UUID

import structlog
from msgspec import Struct
from uuid_utils.compat import uuid7

from common.changes import Changes
from common.db import sql
from common.errors import StoreUnavailable

BEAT_S: Final = 1.0
SILENT_S: Final = 6.0
"""A process that has not beaten for so long is taken for dead."""


class _Id(Struct):
    id: UUID


class Buried(Struct):
    id: UUID
    kind: str
    machine: str
    pid: int


class OwnedHost(Struct, frozen=True):
    """A host as its monitor needs it."""

    db_id: int
    id: str
    uri: str


class Presence:
    """This process's row: proof that it lives, and the name it holds things under.

    A process that was taken for dead gets a new id, for what it held under the old
    one belongs to others now.
    """

    def __init__(
        self,
        changes: Changes,
        kind: Literal["worker", "monitor"],
        stop: threading.Event,
    ) -> None:
        """Waits for the database, until ``stop`` is set."""
        self._changes = changes
        self._kind = kind
        self._beaten_at = time.monotonic()
        while True:
            try:
                self.id = self._register()
                return
            except StoreUnavailable as error:
                if stop.wait(BEAT_S):
                    raise SystemExit(0) from error

    def _register(self) -> UUID:
        new_id = uuid7()
        with self._changes.begin() as change:
            change.run(
                sql.processes.register,
                id=new_id,
                kind=self._kind,
                machine=socket.gethostname(),
                pid=os.getpid(),
            )
        self._beaten_at = time.monotonic()
        structlog.get_logger().info("registered", process_id=str(new_id))
        return new_id

    def beat(self) -> None:
        """Say that this process lives; raises StoreUnavailable."""
        began = time.monotonic()
        with self._changes.begin() as change:
            known = change.one(sql.processes.beat, _Id, id=self.id, silent_s=SILENT_S)
        if known:
            self._beaten_at = began
        else:
            structlog.get_logger().warning("was taken for dead; starting afresh")
            self.id = self._register()

    @property
    def taken_for_dead(self) -> bool:
        """No beat got through for so long that others may have taken over."""
        return time.monotonic() - self._beaten_at > SILENT_S

    def leave(self) -> None:
        """Give back everything this process holds."""
        try:
            with self._changes.begin() as change:
                change.run(sql.processes.leave, id=self.id)
        except StoreUnavailable as error:
            structlog.get_logger().warning("left in silence", reason=error.detail)


class Leases:
    """The hosts of one monitor."""

    def __init__(self, changes: Changes, presence: Presence) -> None:
        self._changes = changes
        self._presence = presence

    def balance(self) -> list[OwnedHost]:
        """Bury the dead, take free hosts up to the fair share, give up the surplus.

        Returns the hosts that this monitor owns now.
        """
        mine = {"process_id": self._presence.id}
        with self._changes.begin() as change:
            buried = change.all(sql.processes.bury, Buried, silent_s=SILENT_S, **mine)
        with self._changes.begin() as change:
            change.run(sql.processes.give_up_surplus, **mine)
            change.run(sql.processes.take_free, **mine)
            owned = change.all(sql.processes.owned, OwnedHost, **mine)
        for process in buried:
            structlog.get_logger().warning(
                "a process died",
                kind=process.kind,
                machine=process.machine,
                pid=process.pid,
            )
        return owned
