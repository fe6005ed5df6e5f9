"""The fault laboratory: a whole system, hypervisors and proxies, all ours to hurt.

``lab``: a fresh system on a database of its own, with nothing started yet;
    ``lab.start()`` starts one of each. No process may leave a traceback in its log.
``new_lab``: makes such systems for tests that share one, or start it differently.
``domains``: a hypervisor with the test driver, shared by all tests; ``behind`` is a
    plain connection to it, which takes away what was defined by it.
``hosts``: proxies in front of it, each a host of its own: ``hosts(3)``.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from embedded.folders import scratch
from embedded.libvirtd import Libvirtd
from embedded.servers import Postgres, Redis
from tests.conftest import TEMPLATE
from tests.lab.hypervisors import behind_our_back, hypervisor
from tests.lab.proxy import LibvirtProxy
from tests.lab.system import System, flush, system

Facts = dict[str, Any]
NewLab = Callable[..., AbstractContextManager[System]]


@pytest.fixture(scope="session")
def hosts_folder() -> Iterator[Path]:
    """Where the hypervisors' and proxies' sockets lie."""
    with scratch() as folder:
        yield folder


@pytest.fixture(scope="session")
def new_lab(postgres: Postgres, redis: Redis, hosts_folder: Path) -> NewLab:
    """``with new_lab(VARIABLE="value") as lab: …``

    One at a time: they share Redis, and would hear each other's bells.
    """
    taken = threading.Lock()

    @contextmanager
    def make(**variables: str) -> Iterator[System]:
        assert taken.acquire(blocking=False), "another lab is still open"
        try:
            with empty(**variables) as lab:
                yield lab
        finally:
            taken.release()

    @contextmanager
    def empty(**variables: str) -> Iterator[System]:
        name = f"lab_{uuid.uuid4().hex}"
        url = postgres.create_database(name, template=TEMPLATE)
        flush(redis.url)
        settings = {
            "DATABASE_URL": url,
            "REDIS_URL": redis.url,
            "VIRTUMANCER_URI_SOCKET_DIRS": str(hosts_folder),
        }
        with scratch() as folder, system(settings | variables, folder, url) as lab:
            yield lab
            assert lab.faults() == []
        postgres.drop_database(name)

    return make


@pytest.fixture
def lab(new_lab: NewLab) -> Iterator[System]:
    with new_lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def domains(hosts_folder: Path) -> Iterator[Libvirtd]:
    """A hypervisor for domains of the test driver, which cost nothing."""
    with hypervisor(hosts_folder / "domains") as server:
        yield server


@pytest.fixture
def behind(domains: Libvirtd) -> Iterator[Any]:
    with behind_our_back(domains) as connection:
        yield connection


class Hosts:
    """Makes proxies; ``folder`` is where their sockets lie."""

    def __init__(self, target: Path, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._target = target
        self._stack = stack

    def __call__(self, count: int) -> list[LibvirtProxy]:
        return [self._one() for _ in range(count)]

    def _one(self) -> LibvirtProxy:
        listen = self.folder / f"{uuid.uuid4().hex[:8]}.sock"
        return self._stack.enter_context(LibvirtProxy(self._target, listen))


@pytest.fixture
def hosts(domains: Libvirtd, hosts_folder: Path) -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(domains.socket, hosts_folder, stack)


def uri(host: LibvirtProxy, driver: str = "test", path: str = "default") -> str:
    return f"{driver}+unix:///{path}?socket={host.listen}"
