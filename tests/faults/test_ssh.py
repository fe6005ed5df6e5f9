"""An ssh host that cannot be had says why, and what to do about it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from embedded.folders import scratch
from embedded.libvirtd import Libvirtd
from tests.faults.conftest import NewLab
from tests.lab.sshd import Sshd, make_key
from tests.lab.system import System, eventually

LOST_S = 20


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with scratch() as folder:
        yield Sshd(folder / "ssh")


@contextmanager
def lab_of(new_lab: NewLab, sshd: Sshd) -> Iterator[System]:
    with new_lab(VIRTUMANCER_SSH_DIR=str(sshd.keys)) as lab:
        lab.start()
        yield lab


def add(lab: System, sshd: Sshd, socket: Path | str) -> httpx.Response:
    return lab.api.post("/api/hosts", json={"id": "far", "uri": sshd.uri(socket)})


def test_what_is_wrong_with_an_ssh_host_is_said_and_nothing_stored(
    new_lab: NewLab, sshd: Sshd, domains: Libvirtd, tmp_path: Path
) -> None:
    known_hosts = sshd.keys / "known_hosts"
    right = known_hosts.read_text()
    with lab_of(new_lab, sshd) as lab, sshd.running():
        known_hosts.write_text("")
        unknown = add(lab, sshd, domains.socket)
        sshd.know(make_key(tmp_path / "another"))
        changed = add(lab, sshd, domains.socket)
        known_hosts.write_text(right)
        key = sshd.keys / "id_ed25519"
        good = key.read_text()
        key.unlink()
        make_key(key.with_name("id_other"))
        wrong_key = add(lab, sshd, domains.socket)
        key.write_text(good)
        key.chmod(0o600)
        no_socket = add(lab, sshd, "/nowhere/libvirt-sock")

        assert lab.api.get("/api/hosts").json() == []
        assert add(lab, sshd, domains.socket).status_code == 200

    for answer in (unknown, changed, wrong_key, no_socket):
        assert answer.status_code == 500
    assert "known_hosts" in unknown.json()["detail"]
    assert unknown.json()["detail"] != changed.json()["detail"]
    assert "authorized_keys" in wrong_key.json()["detail"]
    assert "/nowhere/libvirt-sock" in no_socket.json()["detail"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use any socket")
def test_a_socket_without_permission_is_said(
    new_lab: NewLab, sshd: Sshd, domains: Libvirtd
) -> None:
    with lab_of(new_lab, sshd) as lab, sshd.running():
        mode = domains.socket.stat().st_mode
        domains.socket.chmod(0)
        try:
            answer = add(lab, sshd, domains.socket)
        finally:
            domains.socket.chmod(mode & 0o777)

    assert answer.status_code == 500
    assert answer.json()["step"] == "permission"


def test_an_sshd_that_goes_is_told_and_taken_up_again(
    new_lab: NewLab, sshd: Sshd, domains: Libvirtd
) -> None:
    with lab_of(new_lab, sshd) as lab:
        with sshd.running():
            lab.add_host("far", sshd.uri(domains.socket))
            sshd.crash()
        eventually(lambda: lab.host("far")["state"] == "unreachable", LOST_S)
        assert str(sshd.port) in lab.host("far")["error"]["detail"]
        with sshd.running():
            eventually(lambda: lab.host("far")["state"] == "connected", 8)
            assert lab.act("far", "test", "start").status_code == 204
