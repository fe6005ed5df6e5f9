"""What each process counted, put where any web process finds it for a scrape.

One row a process, overwritten every few seconds. A dead process leaves a row that
soon counts as nobody's, and whoever writes next takes it away.
"""

import asyncio
import os
import socket
import threading
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from common import metrics
from common.changes import AsyncChanges, Changes
from common.db import AsyncReader, sql
from common.errors import StoreUnavailable
from common.metrics import Family

PUBLISH_S: Final = 5.0
FRESH_S: Final = 20.0
"""What was not written anew for so long is a dead process's."""


class Measured(Struct, frozen=True):
    """A process and what it counted; ``process`` reads ``worker@machine:pid``."""

    process: str
    families: list[Family]


def process_name(kind: str, machine: str, pid: int) -> str:
    return f"{kind}@{machine}:{pid}"


def of_this_process(kind: str) -> Measured:
    name = process_name(kind, socket.gethostname(), os.getpid())
    return Measured(name, metrics.families())


def _row(kind: str) -> dict[str, object]:
    measured = of_this_process(kind)
    return {
        "process": measured.process,
        "families": msgspec.json.encode(measured.families).decode(),
    }


class Publisher:
    """Tells, from a thread, what a worker or monitor counts."""

    def __init__(self, changes: Changes, kind: str) -> None:
        self._changes = changes
        self._kind = kind
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell no more; takes a moment at most."""
        self._stopping.set()
        self._thread.join(1)

    def _run(self) -> None:
        while not self._stopping.is_set():
            # Said by the outage itself; the next row makes up for this one.
            with suppress(StoreUnavailable), self._changes.begin() as change:
                change.run(sql.metrics.publish, **_row(self._kind))
            self._stopping.wait(PUBLISH_S)


async def publish(changes: AsyncChanges, kind: str) -> None:
    """Tell what a web process counts, until cancelled."""
    while True:
        with suppress(StoreUnavailable):
            async with changes.begin() as change:
                await change.run(sql.metrics.publish, **_row(kind))
        await asyncio.sleep(PUBLISH_S)


async def of_all(rows: AsyncReader, kind: str) -> list[Measured]:
    """What every living process counted: this one until now, the others lately."""
    mine = of_this_process(kind)
    others = await rows.all(
        sql.metrics.others, Measured, process=mine.process, fresh_s=FRESH_S
    )
    return [mine, *others]
