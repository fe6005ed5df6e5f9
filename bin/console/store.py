"""The database itself, for what has to be possible before anybody has a token."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg.rows import dict_row

from common.db import Query
from console.failures import Failure, Unreachable
from embedded.options import TOP
from embedded.servers import Postgres
from embedded.state import default_state

T = TypeVar("T")

CONNECT_S: Final = 5


class Store:
    """One transaction."""

    def __init__(self, conn: psycopg.Connection[dict[str, Any]]) -> None:
        self._conn = conn

    def all(self, query: Query, shape: type[T], **params: object) -> list[T]:
        cursor = self._conn.execute(query.text, params)
        found: list[T] = msgspec.convert(cursor.fetchall(), list[shape])  # type: ignore[valid-type]
        return found

    def run(self, query: Query, **params: object) -> None:
        self._conn.execute(query.text, params)

    def one(self, query: Query, shape: type[T], **params: object) -> T | None:
        rows = self.all(query, shape, **params)
        return rows[0] if rows else None


@contextmanager
def opened() -> Iterator[Store]:
    """The database of the processes that are started with the same environment."""
    try:
        with psycopg.connect(
            database_url(), row_factory=dict_row, connect_timeout=CONNECT_S
        ) as conn:
            yield Store(conn)
    except psycopg.errors.UndefinedTable:
        raise Failure(
            "The database is not up to date",
            advice="Run bin/up once, or python -m common.migrate.",
        ) from None
    except psycopg.OperationalError as error:
        raise Unreachable(
            "The database cannot be reached",
            f"{error}".strip(),
            "Tokens are made where the database is: start bin/up, or set DATABASE_URL"
            " as for the processes.",
        ) from None


def database_url() -> str:
    """What the processes use: DATABASE_URL, or the private server of this bin/up."""
    folder = Path(os.environ.get("VIRTUMANCER_STATE") or default_state(TOP)).absolute()
    return os.environ.get("DATABASE_URL") or Postgres(folder / "postgres").url
