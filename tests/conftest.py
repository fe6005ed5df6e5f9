"""Fixtures for every test: real servers, one fresh database and an empty Redis each.

``postgres``, ``redis``: the private servers, started once per run
    (``embedded.servers``); whoever stops one starts it again before the test ends.
``database_url``: a migrated database of this test's own.
``redis_url``: the address of ``redis``, emptied before the test.
``environment``: the variables that a process of ours needs to use both.
``eventually``: wait for a condition with a deadline.
"""

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_client

from common.migrate import migrate
from embedded.folders import scratch
from embedded.servers import Postgres, Redis

TEMPLATE = "migrated"

# Whoever runs the tests in the background may ignore Ctrl-C; what we start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A short path of its own: unix sockets allow 107 bytes."""
    with scratch() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[Postgres]:
    with Postgres(server_folder / "pg", durable=False) as server:
        migrate(server.create_database(TEMPLATE))
        yield server


@pytest.fixture(scope="session")
def redis(server_folder: Path) -> Iterator[Redis]:
    with Redis(server_folder / "redis", durable=False) as server:
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    yield postgres.create_database(name, template=TEMPLATE)
    postgres.drop_database(name)


@pytest.fixture
def redis_url(redis: Redis) -> str:
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushall()
    return redis.url


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


@pytest.fixture
def eventually() -> Callable[..., None]:
    """``eventually(condition, timeout_s=5)`` fails when it does not come true."""

    def wait(condition: Callable[[], object], timeout_s: float = 5) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s"
            time.sleep(0.01)

    return wait
