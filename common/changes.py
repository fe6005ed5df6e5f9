"""Commit, then tell: rows, frames and messages leave through one Change.

Nothing is published and no bell is rung unless the transaction committed; a rollback
is silent.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import msgspec
import psycopg

from common import tracing
from common.bus import AsyncBus, Bus, Published
from common.db import AsyncPool, Pool, Query, Row, all_of, sql, translated
from common.queue import Bell, Queue

T = TypeVar("T")


class _Outbox:
    """What is told after the commit."""

    def __init__(self) -> None:
        self.published: list[Published] = []
        self.rung: list[Bell] = []

    def publish(self, *messages: Published) -> None:
        self.published.extend(messages)

    def ring(self, bells: Iterable[Bell]) -> None:
        """Tell the workers that these tasks are queued."""
        self.rung.extend(bells)

    def trace(self) -> dict[str, object] | None:
        """What joins the rung tasks to the trace that is under way, if one is."""
        traceparent = self.rung and tracing.traceparent()
        ids = [bell.id for bell in self.rung]
        return {"ids": ids, "traceparent": traceparent} if traceparent else None


class Change(_Outbox):
    """One transaction of a thread, and what it tells."""

    def __init__(self, conn: psycopg.Connection[Row]) -> None:
        super().__init__()
        self._conn = conn

    def all(self, query: Query, shape: type[T], **params: object) -> list[T]:
        return all_of(
            self._conn.execute(query.text, params, prepare=query.prepare), shape
        )

    def one(self, query: Query, shape: type[T], **params: object) -> T | None:
        rows = self.all(query, shape, **params)
        return rows[0] if rows else None

    def all_if_unique(self, query: Query, shape: type[T], **params: object) -> list[T]:
        """Like all(); nothing is done where a row of somebody else's is in the way."""
        try:
            with self._conn.transaction():
                return self.all(query, shape, **params)
        except psycopg.errors.UniqueViolation:
            return []

    def run(self, query: Query, **params: object) -> int:
        """Run a statement that returns nothing; the number of rows it touched."""
        return self._conn.execute(query.text, params, prepare=query.prepare).rowcount


class Changes:
    """Begins Changes in threads."""

    def __init__(self, pool: Pool, bus: Bus, queue: Queue) -> None:
        self._pool = pool
        self._bus = bus
        self._queue = queue

    @contextmanager
    def begin(self) -> Iterator[Change]:
        with translated(), self._pool.connection() as conn, conn.transaction():
            change = Change(conn)
            yield change
            if trace := change.trace():
                change.run(sql.metrics.trace, **trace)
        self._tell(change)

    @contextmanager
    def begin_single(self) -> Iterator[Change]:
        """A Change of one statement, which is a transaction by itself.

        It spares the two round trips of its beginning and end.
        """
        if tracing.traceparent():
            # The trace is a second statement.
            with self.begin() as change:
                yield change
            return
        with translated(), self._pool.connection() as conn:
            change = Change(conn)
            yield change
        self._tell(change)

    def tell(self, *messages: Published) -> None:
        """Publish what was committed a while ago."""
        self._bus.publish(messages)

    def _tell(self, change: Change) -> None:
        if change.published:
            self._bus.publish(change.published)
        if change.rung:
            self._queue.ring(change.rung)


class AsyncChange(_Outbox):
    """Change's counterpart in the event loop."""

    def __init__(self, conn: psycopg.AsyncConnection[Row]) -> None:
        super().__init__()
        self._conn = conn

    async def all(self, query: Query, shape: type[T], **params: object) -> list[T]:
        cursor = await self._conn.execute(query.text, params, prepare=query.prepare)
        rows = await cursor.fetchall()
        return msgspec.convert(rows, list[shape])  # type: ignore[valid-type]

    async def one(self, query: Query, shape: type[T], **params: object) -> T | None:
        rows = await self.all(query, shape, **params)
        return rows[0] if rows else None

    async def run(self, query: Query, **params: object) -> int:
        return (
            await self._conn.execute(query.text, params, prepare=query.prepare)
        ).rowcount


class AsyncChanges:
    """Begins Changes in the event loop; bells are rung from ``bell_threads``."""

    def __init__(
        self, pool: AsyncPool, bus: AsyncBus, queue: Queue, bell_threads: Executor
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._queue = queue
        self._bell_threads = bell_threads

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncChange]:
        with translated():
            async with self._pool.connection() as conn, conn.transaction():
                change = AsyncChange(conn)
                yield change
                if trace := change.trace():
                    await change.run(sql.metrics.trace, **trace)
        await self._tell(change)

    @asynccontextmanager
    async def begin_single(self) -> AsyncIterator[AsyncChange]:
        """A Change of one statement, as in threads."""
        if tracing.traceparent():
            async with self.begin() as change:
                yield change
            return
        with translated():
            async with self._pool.connection() as conn:
                change = AsyncChange(conn)
                yield change
        await self._tell(change)

    async def _tell(self, change: AsyncChange) -> None:
        if change.published:
            await self._bus.publish(change.published)
        if change.rung:
            await asyncio.get_running_loop().run_in_executor(
                self._bell_threads, self._queue.ring, change.rung
            )
