"""Migrations against a real Postgres."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from common.migrate import MigrationError, migrate
from embedded.servers import Postgres


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    name = f"empty_{uuid.uuid4().hex}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


def test_files_are_applied_once_and_in_order(
    empty_database_url: str, tmp_path: Path
) -> None:
    folder = write(
        tmp_path, _2="insert into a values (1);", _1="create table a (b int);"
    )

    first = migrate(empty_database_url, folder)
    second = migrate(empty_database_url, folder)

    assert first == ["_1.sql", "_2.sql"]
    assert second == []


def test_a_changed_file_is_refused_before_anything_is_applied(
    empty_database_url: str, tmp_path: Path
) -> None:
    migrate(empty_database_url, write(tmp_path, _1="create table a (b int);"))

    folder = write(tmp_path, _1="create table a (c int);", _2="create table d ();")
    with pytest.raises(MigrationError, match=r"_1\.sql was changed"):
        migrate(empty_database_url, folder)

    with psycopg.connect(empty_database_url) as conn:
        assert conn.execute("select to_regclass('d')").fetchone() == (None,)


def test_a_broken_file_leaves_nothing_behind(
    empty_database_url: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, _1="create table a (b int); create table a (b int);")

    with pytest.raises(MigrationError, match=r"_1\.sql was not applied"):
        migrate(empty_database_url, folder)

    assert migrate(empty_database_url, write(folder, _1="create table a ();"))


def test_many_at_once_apply_each_file_once(
    empty_database_url: str, tmp_path: Path
) -> None:
    folder = write(
        tmp_path, _1="create table a (); select pg_sleep(0.1);", _2="select 1"
    )

    with ThreadPoolExecutor(4) as threads:
        runs = list(threads.map(migrate, [empty_database_url] * 4, [folder] * 4))

    assert sorted(runs) == [[], [], [], ["_1.sql", "_2.sql"]]


def test_the_command_ends_with_one_line_of_what_it_did(empty_database_url: str) -> None:
    environment = {"DATABASE_URL": empty_database_url, "REDIS_URL": "unix:///none"}
    command = [sys.executable, "-m", "common.migrate"]

    runs = [
        subprocess.run(command, env=environment, capture_output=True, text=True)
        for _ in range(2)
    ]

    assert [run.returncode for run in runs] == [0, 0]
    assert runs[0].stdout.startswith("Migrations: applied 0001_")
    assert runs[1].stdout == "Migrations: nothing to apply.\n"
