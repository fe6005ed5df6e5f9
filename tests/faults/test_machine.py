"""The machine itself fails: the disk is full, or a clock is wrong."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import libvirt
import pytest

from common.migrate import migrate
from embedded.folders import scratch
from embedded.servers import Postgres, Redis
from tests.faults.conftest import Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.system import System, eventually, flush, system

RUNNING, OFF = 1, 5
CLOCK = Path(__file__).parent.parent / "lab" / "clock.c"
OFF_BY_S = (3600, -3600)
KEPT_BYTES = 256 * 1024


@contextmanager
def small_disk(mebibytes: int) -> Iterator[Path]:
    with scratch() as folder:
        options = f"size={mebibytes}m,mode=711"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "virtumancer-test", folder],
            check=True,
        )
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave next to no room, also while others write; the file that takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        while True:
            free = os.statvfs(folder)
            size = free.f_bavail * free.f_bsize - KEPT_BYTES
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_writes_nothing_wrong_and_is_recovered_from(
    redis: Redis, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    names = [f"vm-{number}" for number in range(300)]
    for name in names:
        define(behind, name)
    with (
        small_disk(160) as disk,
        Postgres(disk / "pg", durable=False) as postgres,
        scratch() as folder,
    ):
        url = postgres.create_database("small")
        migrate(url)
        flush(redis.url)
        settings = {
            "DATABASE_URL": url,
            "REDIS_URL": redis.url,
            "VIRTUMANCER_URI_SOCKET_DIRS": str(hosts.folder),
        }
        with system(settings, folder, url) as lab:
            lab.start()
            [host] = hosts(1)
            lab.add_host("one", uri(host))
            ballast = fill(disk)
            statuses = [
                lab.act("one", name, "start", "wait=1").status_code
                for name in names
                if postgres.running
            ]
            ballast.unlink()
            if not postgres.running:
                postgres.start()

            assert set(statuses) <= {202, 204, 503}
            eventually(lambda: works(lab), 30)
            eventually(lambda: not lab.unfinished(), 30)
            eventually(
                lambda: (
                    {name: vm["state"] for name, vm in lab.vms("one").items()}
                    == {d.name(): d.state()[0] for d in behind.listAllDomains()}
                ),
                15,
            )
            assert set(host.pressed.values()) == {1}


def works(lab: System) -> bool:
    return lab.act("one", "vm-0", "start").status_code == 204


@pytest.fixture(scope="module")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that puts the clock of whoever preloads it wrong."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, CLOCK], check=True)
    return library


def test_processes_whose_clocks_are_off_by_an_hour_do_their_work_and_no_harm(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, wrong_clock: Path
) -> None:
    define(behind, "vm")
    lab.web()
    for off_by_s in OFF_BY_S:
        wrong = {"LD_PRELOAD": str(wrong_clock), "CLOCK_OFF_S": str(off_by_s)}
        lab.worker(**wrong)
        lab.monitor(**wrong)
    for number, host in enumerate(hosts(2)):
        lab.add_host(f"host-{number}", uri(host))
    # Longer than it takes for somebody silent to be taken for dead.
    time.sleep(10)

    for worker, off_by_s in zip(lab.of("worker"), OFF_BY_S, strict=True):
        told = datetime.fromisoformat(worker.lines()[0]["timestamp"])
        assert abs((told - datetime.now(UTC)).total_seconds() - off_by_s) < 60
    assert not lab.said("a process died")
    assert len(lab.rows("select distinct process_id from leases")) == 2
    assert lab.act("host-0", "vm", "start").status_code == 204
    eventually(lambda: states(lab) == {RUNNING}, 5)
    [task] = lab.rows(
        "select ended_at - created_at as lasted from tasks where kind = 'start'"
    )
    assert 0 <= task["lasted"].total_seconds() < 60
    lab.of("monitor")[0].kill()
    behind.lookupByName("vm").destroy()
    eventually(lambda: states(lab) == {OFF}, 12)


def states(lab: System) -> set[int | None]:
    return {lab.state(host_id, "vm") for host_id in ("host-0", "host-1")}
