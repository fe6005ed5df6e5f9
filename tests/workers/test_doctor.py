"""The doctor, on real daemons: what is wrong, and a fix that puts it right."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.shapes import CheckStep
from common.uri_policy import UriPolicy
from embedded.folders import scratch
from embedded.libvirtd import Libvirtd
from tests.lab.hypervisors import hypervisor
from tests.lab.sshd import Sshd, free_port, make_key
from workers.connections import Connections
from workers.hypervisor.records import Timeouts

SSH_WAY = ["dns", "tcp", "host-key", "ssh", "socket", "libvirt"]


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Libvirtd]:
    with hypervisor(server_folder / "doctor") as server:
        yield server


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with scratch() as folder, Sshd(folder / "sshd").running() as sshd:
        yield sshd


def examine(uri: str, keys: Path, folder: Path) -> list[CheckStep]:
    doctor = Connections(UriPolicy((folder,)), keys, Timeouts(5, 5))
    return doctor.examine(uri, "one")


def names(steps: list[CheckStep]) -> list[str]:
    assert all(step.ok == (step.fix is None) for step in steps)
    return [step.name for step in steps]


def test_a_sound_host_passes_every_step(server: Libvirtd, sshd: Sshd) -> None:
    steps = examine(sshd.uri(server.socket), sshd.keys, server.folder)

    assert names(steps) == SSH_WAY
    assert all(step.ok for step in steps)
    assert "SHA256:" in steps[2].detail


def test_a_unix_socket_and_kvm(server: Libvirtd, tmp_path: Path) -> None:
    uri = f"qemu+unix:///session?socket={server.socket}"

    steps = examine(uri, tmp_path, server.folder)

    assert names(steps)[:2] == ["socket", "libvirt"]
    assert "QEMU" in steps[1].detail
    assert steps[2].name == "kvm"
    assert steps[2].ok == Path("/dev/kvm").exists() or not steps[2].ok


def test_a_key_that_is_not_known_is_shown_and_its_fix_pins_it(
    server: Libvirtd, sshd: Sshd
) -> None:
    (sshd.keys / "known_hosts").unlink()
    uri = sshd.uri(server.socket)
    printed = subprocess.run(
        ["ssh-keygen", "-lf", sshd.folder / "host_key.pub"],
        capture_output=True,
        text=True,
    ).stdout.split()[1]

    steps = examine(uri, sshd.keys, server.folder)
    assert not (sshd.keys / "known_hosts").exists()
    assert steps[-1].fix
    subprocess.run(steps[-1].fix, shell=True, check=True)
    cured = examine(uri, sshd.keys, server.folder)

    assert names(steps) == ["dns", "tcp", "host-key"]
    assert not steps[-1].ok
    assert printed in steps[-1].detail
    assert names(cured) == SSH_WAY
    assert cured[-1].ok


def test_a_changed_key_is_told_from_an_unknown_one(
    server: Libvirtd, sshd: Sshd
) -> None:
    sshd.know(make_key(sshd.folder / "other"))
    uri = sshd.uri(server.socket)

    steps = examine(uri, sshd.keys, server.folder)
    assert steps[-1].fix
    subprocess.run(steps[-1].fix, shell=True, check=True, capture_output=True)

    assert steps[-1].name == "host-key"
    assert "another key" in steps[-1].detail
    assert examine(uri, sshd.keys, server.folder)[-1].ok


def test_a_login_that_is_refused_says_whom_to_let_in(
    server: Libvirtd, sshd: Sshd
) -> None:
    (sshd.folder / "authorized_keys").write_text("")

    steps = examine(sshd.uri(server.socket), sshd.keys, server.folder)

    assert names(steps) == ["dns", "tcp", "host-key", "ssh"]
    public = sshd.keys / "id_ed25519.pub"
    host = f"{sshd.user}@127.0.0.1"
    assert steps[-1].fix == f"ssh-copy-id -i {public} -p {sshd.port} {host}"


def test_a_missing_key_is_made(server: Libvirtd, sshd: Sshd) -> None:
    (sshd.keys / "id_ed25519").unlink()

    steps = examine(sshd.uri(server.socket), sshd.keys, server.folder)

    assert names(steps)[-1] == "ssh"
    assert "ssh-keygen -t ed25519" in str(steps[-1].fix)


def test_a_socket_that_is_not_there(sshd: Sshd, tmp_path: Path) -> None:
    steps = examine(sshd.uri("/nowhere/libvirt-sock"), sshd.keys, tmp_path)

    assert names(steps) == ["dns", "tcp", "host-key", "ssh", "socket"]
    assert not steps[-1].ok
    assert "libvirtd.socket" in str(steps[-1].fix)


def test_a_port_where_nobody_listens(tmp_path: Path) -> None:
    port = free_port()

    for uri, listener in (
        (f"qemu+ssh://root@127.0.0.1:{port}/system", "sshd"),
        (f"qemu+tcp://127.0.0.1:{port}/system", "libvirtd"),
    ):
        steps = examine(uri, tmp_path, tmp_path)

        assert names(steps) == ["dns", "tcp"]
        assert f"Does {listener} listen" in steps[-1].detail
        assert "systemctl enable --now" in str(steps[-1].fix)


def test_a_name_that_is_not_known(tmp_path: Path) -> None:
    steps = examine("qemu+ssh://root@nobody.invalid/system", tmp_path, tmp_path)

    assert names(steps) == ["dns"]
    assert "nobody.invalid" in str(steps[0].fix)


def test_a_tcp_host(server: Libvirtd, tmp_path: Path) -> None:
    uri = f"test+tcp://127.0.0.1:{server.listen_tcp}/default"

    steps = examine(uri, tmp_path, server.folder)

    assert names(steps) == ["dns", "tcp", "libvirt"]
    assert all(step.ok for step in steps)
