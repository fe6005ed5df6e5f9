"""What all benchmarks stand on: private servers, hypervisors, and our own processes."""

import contextlib
import io
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import libvirt

from bench.figures import Figure
from common.migrate import migrate
from embedded.folders import scratch
from embedded.libvirtd import Libvirtd
from embedded.servers import Postgres, Redis
from tests.lab.hypervisors import define
from tests.lab.system import System, Web, eventually, flush, system

TEMPLATE = "migrated"


class Rig:
    """Private servers as ``bin/up`` starts them, for one run of the benchmarks."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.folder = self._open.enter_context(scratch())
        self.postgres = self._open.enter_context(Postgres(self.folder / "pg"))
        self.redis = self._open.enter_context(Redis(self.folder / "redis"))
        migrate(self.postgres.create_database(TEMPLATE))
        self._numbers = iter(range(1, 1_000_000))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    @contextmanager
    def system(self, **variables: str) -> Iterator[System]:
        """Processes of ours on a database of their own; none is started yet."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        url = self.postgres.create_database(name, template=TEMPLATE)
        flush(self.redis.url)
        settings = {
            "DATABASE_URL": url,
            "REDIS_URL": self.redis.url,
            "VIRTUMANCER_URI_SOCKET_DIRS": str(self.folder),
        }
        with scratch() as folder:
            said = io.StringIO()
            try:
                with (
                    contextlib.redirect_stderr(said),
                    system(settings | variables, folder, url) as lab,
                ):
                    yield lab
            except BaseException:
                sys.stderr.write(said.getvalue())
                raise
        self.postgres.drop_database(name)

    @contextmanager
    def hypervisor(self) -> Iterator[Libvirtd]:
        folder = self.folder / f"v{next(self._numbers)}"
        with Libvirtd(folder, cache=self.folder / "cache") as server:
            yield server

    def socket(self) -> Path:
        """A path for a socket that a host's URI may name."""
        return self.folder / f"{next(self._numbers)}.sock"


@contextmanager
def domains(server: Libvirtd, count: int) -> Iterator[list[str]]:
    """So many domains of the test driver; their names.

    The connection stays open, for the driver forgets its domains with the last one.
    """
    connection = libvirt.open(server.uri("test", "default"))
    try:
        names = [f"vm-{number:05}" for number in range(count)]
        for name in names:
            define(connection, name)
        yield names
    finally:
        connection.close()


def port_of(web: Web) -> int:
    return int(web.url.rpartition(":")[2])


def settled(lab: System) -> None:
    """Wait until nothing is left to do, so that the system is idle."""
    quiet = 0
    while quiet < 3:
        eventually(lambda: not lab.unfinished(), 30, "the system does not come to rest")
        quiet += 1


def test_uri(socket: Path) -> str:
    return f"test+unix:///default?socket={socket}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything; a benchmark reads what it knows of."""

    rounds: int
    vms: int = 1
    hosts: int = 1
    clients: int = 1
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is run, at its real size and at the size of a toy."""

    run: Callable[[Rig, Size], list[Figure]]
    full: Size
    toy: Size

    def __call__(self, rig: Rig, *, toy: bool) -> list[Figure]:
        return self.run(rig, self.toy if toy else self.full)
