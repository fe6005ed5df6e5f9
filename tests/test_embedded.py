"""The private servers and the demo machines, with real servers and real QEMU."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import psycopg
import pytest
import redis

from embedded import FolderError, Libvirtd, Postgres, Redis, scratch
from embedded.accounts import ordinary
from embedded.boot import BYE, HELLO, boot_image, boot_sector
from embedded.machines import (
    NAMES,
    best_domain_type,
    define_demo,
    define_machine,
    machine_xml,
)
from embedded.processes import of_folder, program, wait_until

TOP = Path(__file__).parent.parent


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


@pytest.fixture(scope="module")
def hypervisor() -> Iterator[Libvirtd]:
    with scratch() as folder, Libvirtd(folder / "libvirtd") as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def connection(hypervisor: Libvirtd) -> Iterator[libvirt.virConnect]:
    connection = libvirt.open(hypervisor.url)
    yield connection
    connection.close()


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def test_postgres_keeps_its_rows_over_a_crash(folder: Path) -> None:
    with Postgres(folder / "pg", durable=False) as postgres:
        with psycopg.connect(postgres.url) as database:
            database.execute("create table kept as select 7 as number")

        postgres.kill()
        postgres.start()

        with psycopg.connect(postgres.url) as database:
            assert database.execute("select number from kept").fetchone() == (7,)
        assert owner(postgres.process.pid) == ordinary().uid
        assert ordinary().uid != 0
    assert not of_folder(folder)
    assert not postgres.socket.exists()


def test_postgres_starts_beside_a_lock_file_that_names_somebody_else(
    folder: Path,
) -> None:
    postgres = Postgres(folder / "pg", durable=False)
    postgres.prepare()
    (postgres.data / "postmaster.pid").write_text(f"{os.getppid()}\n{postgres.data}\n")

    with postgres:
        assert postgres.answers()


def test_redis_keeps_its_keys_over_a_crash(folder: Path) -> None:
    with Redis(folder / "redis") as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "7")
        # The append-only file is written before the reply, and synced each second.
        server.kill()
        server.start()

        assert client.get("kept") == b"7"


def test_a_paused_server_is_silent_and_comes_back(folder: Path) -> None:
    with Redis(folder / "redis", durable=False) as server:
        impatient = redis.Redis.from_url(server.url, socket_timeout=0.2)
        with impatient as client:
            client.ping()

            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.resume()

            assert wait_until(server.answers, 5)


def test_a_socket_path_that_is_too_long_is_refused(folder: Path) -> None:
    with pytest.raises(FolderError, match="107"):
        Redis(folder / ("x" * 100))


def test_everything_ends_with_the_process_that_started_it(folder: Path) -> None:
    starts = f"""
import sys, libvirt
sys.path.insert(0, {str(TOP / "bin")!r})
from pathlib import Path
from embedded import Libvirtd, Postgres, Redis
from embedded.machines import define_machine
folder = Path({str(folder)!r})
servers = [Postgres(folder / "pg", durable=False), Redis(folder / "redis")]
servers.append(Libvirtd(folder / "libvirtd"))
for server in servers:
    server.start()
connection = libvirt.open(servers[-1].url)
define_machine(connection, "orphan", folder / "disks").create()
print("started", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", starts], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        programs = {program(pid) for pid in of_folder(folder)}

        starter.kill()

        assert {"postgres", "libvirtd", "qemu-system-x86_64"} <= programs
        assert wait_until(lambda: not of_folder(folder), 10)


def test_one_libvirtd_serves_qemu_tcp_and_the_test_driver(folder: Path) -> None:
    with Libvirtd(folder / "libvirtd", listen_tcp=free_port()) as hypervisor:
        for uri in (hypervisor.tcp_uri(), hypervisor.uri("test", "default")):
            connection = libvirt.open(uri)
            names = [domain.name() for domain in connection.listAllDomains()]
            assert names == (["test"] if "test" in uri else [])
            connection.close()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        number: int = listening.getsockname()[1]
        return number


def test_the_boot_sector_is_one_sector() -> None:
    sector = boot_sector()

    assert len(sector) == 512
    assert sector.endswith(b"\x55\xaa")
    # The texts lie behind the code and do not run into each other.
    assert sector[0x90:].startswith(HELLO.encode() + b"\0")
    assert sector[0xD0:].startswith(BYE.encode() + b"\0")
    assert sector[0x7D] == 0xC3
    assert not any(sector[0x7E:0x90])


def test_a_demo_machine_works_reboots_and_shuts_down(
    hypervisor: Libvirtd, connection: libvirt.virConnect
) -> None:
    spoken = hypervisor.folder / "spoken"
    disk = boot_image(hypervisor.folder / "talker.img")
    xml = machine_xml("talker", str(uuid.uuid4()), disk)
    file = f"<serial type='file'><source path='{spoken}'/></serial>"
    assert "<serial type='pty'/>" in xml
    xml = xml.replace("<serial type='pty'/>", file).replace("<console type='pty'/>", "")
    domain = connection.defineXML(xml)

    def says(text: str, times: int) -> bool:
        return spoken.exists() and spoken.read_text().count(text.strip()) >= times

    domain.create()
    assert wait_until(lambda: says(HELLO, 1), 20)
    before, (reads, *_) = domain.info()[4], domain.blockStats("vda")
    assert wait_until(lambda: domain.info()[4] > before, 10)
    assert wait_until(lambda: domain.blockStats("vda")[0] > reads, 10)

    domain.reboot()
    assert wait_until(lambda: says(HELLO, 2), 20)
    assert domain.isActive()

    domain.shutdown()
    assert wait_until(lambda: not domain.isActive(), 20)
    assert says(BYE, 2)


def test_machines_outlive_a_crash_of_libvirtd_and_not_its_stop(folder: Path) -> None:
    with Libvirtd(folder / "libvirtd") as hypervisor:
        connection = libvirt.open(hypervisor.url)
        define_machine(connection, "tough", folder / "disks").create()
        (machine,) = hypervisor.machines()
        connection.close()

        hypervisor.kill()
        hypervisor.start()

        assert "running" in hypervisor.virsh("domstate", "tough")
        assert hypervisor.machines() == [machine]
    assert not of_folder(folder)
    assert not hypervisor.socket.exists()


def test_a_hypervisor_in_a_deep_folder_starts_machines_all_the_same(
    folder: Path,
) -> None:
    deep = folder / ("a-long-name-" * 5)
    with Libvirtd(deep) as hypervisor:
        connection = libvirt.open(hypervisor.url)
        define_machine(connection, "deep-down", deep / "disks").create()
        connection.close()

        link = Path(hypervisor.environment()["XDG_RUNTIME_DIR"]).parent
        assert link.is_symlink()
        assert link.resolve() == deep
        assert len(hypervisor.machines()) == 1
    assert not hypervisor.machines()
    assert not link.is_symlink()


def test_demo_machines_are_made_once(
    hypervisor: Libvirtd, connection: libvirt.virConnect
) -> None:
    assert define_demo(hypervisor) == list(NAMES)
    connection.lookupByName(NAMES[0]).undefine()

    assert define_demo(hypervisor) == []

    names = {domain.name() for domain in connection.listAllDomains()}
    assert not names.isdisjoint(NAMES[1:])
    assert NAMES[0] not in names


@pytest.mark.parametrize(
    ("kinds", "best"), [("qemu kvm", "kvm"), ("qemu", "qemu"), ("", "qemu")]
)
def test_kvm_is_taken_where_the_hypervisor_offers_it(kinds: str, best: str) -> None:
    domains = "".join(f"<domain type='{kind}'/>" for kind in kinds.split())
    capabilities = f"""
        <capabilities><guest><arch name='x86_64'>{domains}</arch></guest>
        <guest><arch name='i686'><domain type='kvm'/></arch></guest></capabilities>"""

    assert best_domain_type(capabilities) == best


def test_a_server_that_ends_at_once_says_why(folder: Path) -> None:
    server = Redis(folder / "redis")
    server.prepare()
    server.socket.mkdir()  # Redis cannot put its socket there.

    with pytest.raises(Exception, match="redis ended") as caught:
        server.start()

    assert "unix" in str(caught.value).lower()
    assert not server.running


def test_kill_can_be_followed_by_stop(folder: Path) -> None:
    server = Redis(folder / "redis", durable=False).start()
    os.kill(server.process.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.running, 5)

    server.stop()

    assert not server.socket.exists()
