"""``python -m common.migrate`` brings the database up to ``sql/migrations``.

Each file is applied once, in the order of names, in one transaction with its record.
Machines that start together wait for each other.
"""

import hashlib
import sys
from pathlib import Path

import psycopg

from common import settings
from common.db import SQL_DIR, sql

MIGRATIONS = SQL_DIR / "migrations"


class MigrationError(Exception):
    """The database cannot be brought up to date; the words say what to do."""


def migrate(url: str, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is new in ``folder``; the names of the files applied now."""
    files = sorted(folder.glob("*.sql"))
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute(sql.migrations.lock.text)
        conn.execute(sql.migrations.create_record.text)
        applied: dict[str, str] = dict(conn.execute(sql.migrations.applied.text))
        new = [file for file in files if not _is_applied(file, applied)]
        for file in new:
            _apply(conn, file)
    return [file.name for file in new]


def _is_applied(file: Path, applied: dict[str, str]) -> bool:
    known = applied.get(file.name)
    if known is not None and known != _checksum(file):
        raise MigrationError(
            f"{file.name} was changed after it had been applied to this database."
            " Restore the file, and write what is new into a file of its own."
        )
    return known is not None


def _apply(conn: psycopg.Connection, file: Path) -> None:
    record = {"name": file.name, "checksum": _checksum(file)}
    try:
        with conn.transaction():
            # Bytes, for these are statements of ours and hold no parameters.
            conn.execute(file.read_bytes())
            conn.execute(sql.migrations.record.text, record)
    except psycopg.Error as error:
        raise MigrationError(f"{file.name} was not applied: {error}") from error


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    url = settings.from_environment().database_url
    try:
        applied = migrate(url)
    except MigrationError as error:
        sys.exit(f"Migration refused: {error}")
    except psycopg.OperationalError as error:
        sys.exit(f"Migration failed: the database cannot be reached: {error}")
    done = f"applied {', '.join(applied)}" if applied else "nothing to apply"
    sys.stdout.write(f"Migrations: {done}.\n")


if __name__ == "__main__":
    main()
