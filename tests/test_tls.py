"""tls to a real libvirtd: both sides are checked, and it can be cut like the others."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.errors import ConnectionFailed, HostTimeout
from common.refusals import CertificateUntrusted, CertificateUnusable, HostSilent
from embedded.folders import scratch
from embedded.libvirtd import Libvirtd
from embedded.processes import family
from tests.lab.hypervisors import behind_our_back, checked, define
from tests.lab.peers import silent_tcp
from tests.lab.pki import Authority
from tests.lab.sshd import free_port
from workers.hypervisor.connection import Connection
from workers.hypervisor.doctor import examine
from workers.hypervisor.events import start_event_loop, subscribe
from workers.hypervisor.records import Event, Timeouts

NO_KEYS = Path("/nonexistent")
Eventually = Callable[..., None]


@pytest.fixture(scope="module")
def pki() -> Iterator[Path]:
    """``client``, ``stranger`` (of another CA) and ``gullible`` (trusts another)."""
    with scratch() as folder:
        lab, other = Authority(folder / "lab"), Authority(folder / "other")
        lab.sign("host", "IP:127.0.0.1", "server", trusted=lab)
        lab.sign("elsewhere", "DNS:other.example", "server", trusted=lab)
        lab.sign("client", "DNS:virtumancer", "client", trusted=lab)
        other.sign("stranger", "DNS:virtumancer", "client", trusted=lab)
        lab.sign("gullible", "DNS:virtumancer", "client", trusted=other)
        yield folder


@contextmanager
def libvirtd(folder: Path, certificates: Path) -> Iterator[Libvirtd]:
    with Libvirtd(folder, listen_tls=(free_port(), certificates)) as server:
        yield server


@pytest.fixture(scope="module")
def server(server_folder: Path, pki: Path) -> Iterator[Libvirtd]:
    with libvirtd(server_folder / "tls", pki / "lab" / "host") as server:
        yield server


def uri_of(server: Libvirtd, scheme: str = "test+tls") -> str:
    assert server.listen_tls
    return f"{scheme}://127.0.0.1:{server.listen_tls[0]}/default"


def open_tls(
    uri: str, certificates: Path, timeouts: Timeouts | None = None
) -> Connection:
    timeouts = timeouts or Timeouts()
    return Connection.open(checked(uri), NO_KEYS, timeouts, tls_dir=certificates)


@pytest.mark.parametrize("scheme", ["test+tls", "test"])
def test_a_host_is_reached_by_tls(scheme: str, server: Libvirtd, pki: Path) -> None:
    before = family(os.getpid())
    with behind_our_back(server) as virsh:
        for number in range(30):
            define(virsh, f"vm-{number}")

        connection = open_tls(uri_of(server, scheme), pki / "lab" / "client")
        listing = connection.list_domains()
        xmls = connection.domains_xml([d.uuid for d in listing.domains])
        connection.close()

    assert len(listing.domains) == 31
    assert all(isinstance(xml, str) for xml in xmls.values())
    assert family(os.getpid()) == before


def test_many_calls_at_once_all_get_their_answer(server: Libvirtd, pki: Path) -> None:
    """libvirtd overlooks a message that shares its record of TLS with another."""
    connection = open_tls(uri_of(server), pki / "lab" / "client")
    ask = connection.link.virt.getLibVersion

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: connection.link.call(ask), range(1000)))
    connection.close()

    assert len(set(answers)) == 1


def test_events_come_through_tls(
    server: Libvirtd, pki: Path, eventually: Eventually
) -> None:
    start_event_loop()
    seen: list[Event] = []
    connection = open_tls(uri_of(server), pki / "lab" / "client")
    subscribe(connection, seen.append)

    with behind_our_back(server) as virsh:
        uuid = define(virsh, "announced")
        eventually(lambda: any(event.uuid == uuid for event in seen))
    connection.close()


def test_a_call_that_hangs_in_tls_is_cut(server: Libvirtd, pki: Path) -> None:
    times = Timeouts(call_s=0.5)
    connection = open_tls(uri_of(server), pki / "lab" / "client", times)
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(HostTimeout):
            connection.list_domains()
    finally:
        server.resume()

    assert time.monotonic() - began < 5
    connection.close()


def test_a_host_of_another_ca_is_not_trusted(server: Libvirtd, pki: Path) -> None:
    with pytest.raises(CertificateUntrusted) as failure:
        open_tls(uri_of(server), pki / "lab" / "gullible")

    assert failure.value.extra["step"] == "tls"
    assert "cacert.pem" in failure.value.detail


def test_a_certificate_for_another_name_is_not_trusted(
    server_folder: Path, pki: Path
) -> None:
    with (
        libvirtd(server_folder / "tls2", pki / "lab" / "elsewhere") as server,
        pytest.raises(CertificateUntrusted) as failure,
    ):
        open_tls(uri_of(server), pki / "lab" / "client")

    assert "127.0.0.1" in failure.value.detail


def test_the_host_decides_whether_it_trusts_us(server: Libvirtd, pki: Path) -> None:
    with pytest.raises(CertificateUntrusted) as failure:
        open_tls(uri_of(server), pki / "other" / "stranger")

    assert "clientcert.pem" in failure.value.detail


def test_certificates_that_are_not_there_are_asked_for(
    server: Libvirtd, tmp_path: Path
) -> None:
    with pytest.raises(CertificateUnusable) as failure:
        open_tls(uri_of(server), tmp_path)

    assert str(tmp_path) in failure.value.detail


def test_a_peer_that_says_nothing_is_given_up(pki: Path) -> None:
    with silent_tcp() as port, pytest.raises(HostSilent):
        open_tls(
            f"test+tls://127.0.0.1:{port}/default",
            pki / "lab" / "client",
            Timeouts(open_s=0.5),
        )


@pytest.mark.parametrize("word", [b"\0", b"\2", b""])
def test_a_host_that_does_not_confirm_is_not_spoken_to(word: bytes, pki: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    host = pki / "lab" / "host"
    context.load_cert_chain(host / "servercert.pem", host / "serverkey.pem")
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with context.wrap_socket(server.accept()[0], server_side=True) as peer:
                peer.send(word) if word else None
                if word:
                    said.append(peer.recv(100))

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionFailed):
            open_tls(
                f"test+tls://127.0.0.1:{server.getsockname()[1]}/default",
                pki / "lab" / "client",
            )
        thread.join(5)

    assert not any(said)


def test_the_doctor_names_what_is_wrong_with_a_certificate(
    server: Libvirtd, pki: Path
) -> None:
    def steps(certificates: Path) -> dict[str, bool]:
        uri = uri_of(server)
        found = examine(
            checked(uri), NO_KEYS, Timeouts(), lambda: open_tls(uri, certificates)
        )
        return {step.name: step.ok for step in found}

    assert steps(pki / "lab" / "client") == {
        "dns": True,
        "tcp": True,
        "tls": True,
        "libvirt": True,
    }
    assert steps(pki / "lab" / "gullible") == {"dns": True, "tcp": True, "tls": False}
