"""Postgres: the pools, the named queries of ``sql/queries``, rows as Structs.

Hides psycopg: what goes wrong in it becomes StoreUnavailable here, except the
violation of a constraint, which is an answer and not a failure.
"""

import asyncio
import logging
import re
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import aiosql
import msgspec
import psycopg
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from common.errors import StoreUnavailable
from common.log import Outage

SQL_DIR = Path(__file__).parent.parent / "sql"

Row = dict[str, Any]
Ask = Callable[..., Awaitable[tuple[object, ...] | None]]
"""Puts a statement with these parameters; the first row, bare."""
T = TypeVar("T")

set_json_dumps(msgspec.json.encode)
set_json_loads(msgspec.json.decode)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement from ``sql/queries/FILE.sql`` and its name there.

    Postgres plans a statement once for each connection, which is half of what a small
    one costs. One with filters that may be left out is planned for the very values:
    only then the indexes are used. ``prepare`` is what psycopg is to be told.
    """

    name: str
    text: str
    prepare: bool | None = None


# It guesses at what a statement returns; here the caller says.
logging.getLogger("aiosql").setLevel(logging.ERROR)


def _load(path: Path) -> SimpleNamespace:
    found = aiosql.from_path(path, "psycopg", mandatory_parameters=False)
    names = (n for n in found.available_queries if not n.endswith("_cursor"))
    return SimpleNamespace(
        **{n: _query(f"{path.stem}.{n}", getattr(found, n).sql) for n in names}
    )


_MAY_BE_LEFT_OUT = re.compile(r"%\(\w+\)s(::\w+)? is null or ")


def _query(name: str, text: str) -> Query:
    return Query(name, text, False if _MAY_BE_LEFT_OUT.search(text) else None)


sql: Any = SimpleNamespace(
    **{path.stem: _load(path) for path in sorted((SQL_DIR / "queries").glob("*.sql"))}
)
"""``sql.vms.observe`` is the query ``observe`` of ``sql/queries/vms.sql``."""

# Nothing here runs for so long that a compiled plan would pay.
_OPTIONS = (
    "-c timezone=UTC -c statement_timeout=10000 -c lock_timeout=5000"
    " -c idle_in_transaction_session_timeout=10000 -c jit=off"
)
_CONNECT: dict[str, Any] = {
    "autocommit": True,
    "row_factory": dict_row,
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
    "options": _OPTIONS,
}
_PATIENCE_S = 2.5
# A session that the server ended for being idle in a transaction is an InternalError.
_LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
READ_S = 2.8
"""After so long a read fails, whatever the server does."""

outage: Final = Outage("postgres")
"""What this process has noticed of Postgres."""

Pool = ConnectionPool[psycopg.Connection[Row]]
AsyncPool = AsyncConnectionPool[psycopg.AsyncConnection[Row]]


def _has_heard(conn: psycopg.Connection[Row] | psycopg.AsyncConnection[Row]) -> bool:
    """Whether the server said something unasked, as it does when it hangs up."""
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _check(conn: psycopg.Connection[Row]) -> None:
    """Raise if the connection is no good; a round trip only where there is doubt."""
    if _has_heard(conn):
        ConnectionPool.check_connection(conn)


async def _check_async(conn: psycopg.AsyncConnection[Row]) -> None:
    if _has_heard(conn):
        await AsyncConnectionPool.check_connection(conn)


def open_pool(url: str, process: str, max_size: int = 8) -> Pool:
    """A pool for threads; opens at once and connects in the background."""
    return ConnectionPool(
        url,
        kwargs={**_CONNECT, "application_name": process},
        min_size=1,
        max_size=max_size,
        timeout=_PATIENCE_S,
        reconnect_timeout=5,
        check=_check,
        open=True,
    )


def make_async_pool(url: str, process: str, max_size: int = 8) -> AsyncPool:
    """The same for the event loop; the caller opens and closes it."""
    return AsyncConnectionPool(
        url,
        kwargs={**_CONNECT, "application_name": process},
        min_size=1,
        max_size=max_size,
        timeout=_PATIENCE_S,
        reconnect_timeout=5,
        check=_check_async,
        open=False,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Turn a lost or absent database into StoreUnavailable."""
    try:
        yield
    except (*_LOST, PoolTimeout) as error:
        outage.began(error)
        raise StoreUnavailable(
            "The database does not answer. Try again shortly, and look first whether"
            " what you asked for was done; if it stays so, look at Postgres and"
            " DATABASE_URL."
        ) from error
    outage.ended()


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` on the database yields, or StoreUnavailable after so long.

    A cancelled statement waits for a silent server once more, so it is left behind.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        if not task.done():
            _left_behind.add(task)
            task.add_done_callback(_forget)
            task.cancel()
    with translated():
        raise PoolTimeout(f"no answer within {seconds} s")


_left_behind: set[asyncio.Future[Any]] = set()


def _forget(task: asyncio.Future[Any]) -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()


def all_of(cursor: psycopg.Cursor[Row], shape: type[T]) -> list[T]:
    return msgspec.convert(cursor.fetchall(), list[shape])  # type: ignore[valid-type]


class Reader:
    """Reads single statements, each on a connection of its own."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def all(self, query: Query, shape: type[T], **params: object) -> list[T]:
        with translated(), self._pool.connection() as conn:
            return all_of(
                conn.execute(query.text, params, prepare=query.prepare), shape
            )

    def one(self, query: Query, shape: type[T], **params: object) -> T | None:
        rows = self.all(query, shape, **params)
        return rows[0] if rows else None


class AsyncReader:
    """Reader's counterpart in the event loop."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    async def all(self, query: Query, shape: type[T], **params: object) -> list[T]:
        rows = await within(READ_S, self._rows(query, params))
        return msgspec.convert(rows, list[shape])  # type: ignore[valid-type]

    async def _rows(self, query: Query, params: Row) -> list[Row]:
        with translated():
            async with self._pool.connection() as conn:
                cursor = await conn.execute(query.text, params, prepare=query.prepare)
                return await cursor.fetchall()

    async def one(self, query: Query, shape: type[T], **params: object) -> T | None:
        rows = await self.all(query, shape, **params)
        return rows[0] if rows else None

    @asynccontextmanager
    async def asking(self, query: Query) -> AsyncIterator[Ask]:
        """One statement, many times on one connection; to be used ``within`` a time."""
        with translated():
            async with self._pool.connection() as conn:
                cursor = conn.cursor(row_factory=tuple_row)

                async def ask(**params: object) -> tuple[object, ...] | None:
                    await cursor.execute(query.text, params, prepare=query.prepare)
                    return await cursor.fetchone()

                yield ask
