"""Every way to a host: it carries bytes, can be cut in every state, leaves nothing,
and says in a sentence of its own why it failed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConnectionFailed, HostTimeout, HostUnreachable
from common.uri import HostUri
from embedded.accounts import ordinary
from embedded.folders import scratch
from embedded.libvirtd import Libvirtd
from embedded.processes import alive, family
from tests.lab.hypervisors import behind_our_back, checked, hypervisor
from tests.lab.peers import full_queue, silent_tcp, silent_unix
from tests.lab.sshd import Sshd, free_port, make_key
from workers.hypervisor import ssh
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Timeouts

TRANSPORTS = ("unix", "tcp", "ssh")
SHORT_S = 0.5
# Logging in by ssh takes a moment; a frozen libvirtd does not answer in an hour.
OPEN_S = {"unix": SHORT_S, "tcp": SHORT_S, "ssh": 3.0}

Eventually = Callable[..., None]


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Libvirtd]:
    with hypervisor(server_folder / "transport") as server:
        yield server


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with scratch_of_ours() as folder, Sshd(folder / "sshd").running() as sshd:
        yield sshd


@contextmanager
def scratch_of_ours() -> Iterator[Path]:
    """A folder of whoever runs the tests; pytest's own paths are long."""
    with tempfile.TemporaryDirectory(prefix="vm-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def keys(sshd: Sshd) -> Path:
    return sshd.keys


@pytest.fixture
def uri_of(server: Libvirtd, sshd: Sshd) -> Callable[[str], HostUri]:
    texts = {
        "unix": server.uri("test", "default"),
        "tcp": server.tcp_uri("test", "default"),
        "ssh": sshd.uri(server.socket),
    }
    return lambda transport: checked(texts[transport], server.folder)


def children() -> list[int]:
    """The processes that carry bytes for us."""
    carriers = ("socat", "ssh", "setpriv")
    return [pid for pid in family(os.getpid()) if name_of(pid) in carriers]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def files() -> list[Path]:
    mine = f"virtumancer-links-{os.getpid()}-"
    return [
        file
        for folder in Path(tempfile.gettempdir()).glob(f"{mine}*")
        for file in folder.iterdir()
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_connection_leaves_no_process_and_no_file(
    transport: str, uri_of: Callable[[str], HostUri], keys: Path
) -> None:
    before = children()

    connection = Connection.open(uri_of(transport), keys)
    listing = connection.list_domains()
    carrying = children()
    connection.close()

    assert [domain.name for domain in listing.domains] == ["test"]
    assert len(carrying) > len(before)
    assert children() == before
    assert files() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_call_that_hangs_is_freed_at_its_deadline(
    transport: str, server: Libvirtd, uri_of: Callable[[str], HostUri], keys: Path
) -> None:
    connection = Connection.open(uri_of(transport), keys, Timeouts(call_s=SHORT_S))
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(HostTimeout):
            connection.list_domains()
        lasted = time.monotonic() - began
    finally:
        server.resume()

    assert SHORT_S <= lasted < SHORT_S + 3
    assert connection.broken
    with pytest.raises(HostTimeout):
        connection.list_domains()
    assert not connection.is_alive()
    connection.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_open_that_hangs_is_freed_at_its_deadline(
    transport: str, server: Libvirtd, uri_of: Callable[[str], HostUri], keys: Path
) -> None:
    before = children()
    limit_s = OPEN_S[transport]
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed) as failure:
            Connection.open(uri_of(transport), keys, Timeouts(open_s=limit_s))
        lasted = time.monotonic() - began
    finally:
        server.resume()

    assert failure.value.extra["step"] == "libvirt"
    assert limit_s <= lasted < limit_s + 3
    assert children() == before
    assert files() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_all_calls_that_hang_are_freed_together_and_no_thread_is_lost(
    transport: str,
    server: Libvirtd,
    uri_of: Callable[[str], HostUri],
    keys: Path,
    eventually: Eventually,
) -> None:
    connection = Connection.open(uri_of(transport), keys, Timeouts(call_s=SHORT_S))
    threads_before = threading.active_count()
    outcomes: list[type[BaseException] | None] = []

    def ask() -> None:
        try:
            connection.host_facts()
            outcomes.append(None)
        except HostUnreachable as error:
            outcomes.append(type(error))

    server.pause()
    try:
        for _ in range(8):
            threading.Thread(target=ask).start()
        eventually(lambda: len(outcomes) == 8, timeout_s=SHORT_S + 1)
    finally:
        server.resume()
    connection.close()

    assert None not in outcomes
    assert HostTimeout in outcomes
    eventually(lambda: threading.active_count() <= threads_before)


def test_a_deadline_covers_several_calls(
    server: Libvirtd, uri_of: Callable[[str], HostUri], keys: Path
) -> None:
    connection = Connection.open(uri_of("unix"), keys)
    with connection.deadline(5):
        connection.list_domains()

    with pytest.raises(HostTimeout), connection.deadline(0.3):
        while True:
            connection.list_domains()

    assert connection.broken
    connection.close()


def test_closing_frees_calls_that_hang(
    server: Libvirtd,
    uri_of: Callable[[str], HostUri],
    keys: Path,
    eventually: Eventually,
) -> None:
    connection = Connection.open(uri_of("unix"), keys, Timeouts(call_s=60))
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(HostUnreachable):
            connection.list_domains()
        ended.set()

    server.pause()
    try:
        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: connection.link.busy == 1)
        connection.close()
        assert ended.wait(5)
    finally:
        server.resume()

    asking.join()
    connection.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_host_that_dies_is_unreachable(
    transport: str, server_folder: Path, sshd: Sshd
) -> None:
    with hypervisor(server_folder / f"dies-{transport}") as server:
        uri = {
            "unix": server.uri("test", "default"),
            "tcp": server.tcp_uri("test", "default"),
            "ssh": sshd.uri(server.socket),
        }[transport]
        connection = Connection.open(checked(uri, server.folder), sshd.keys)
        connection.list_domains()
        server.kill()

        with pytest.raises(HostUnreachable) as failure:
            connection.list_domains()

    assert not isinstance(failure.value, HostTimeout)
    assert connection.broken
    connection.close()


OPEN_AND_DIE = """
import os, sys
from pathlib import Path
from common.uri import parse
from common.uri_policy import UriPolicy
from workers.hypervisor.connection import Connection
uri = parse(sys.argv[1], UriPolicy((Path(sys.argv[2]),)))
connection = Connection.open(uri, Path(sys.argv[3]))
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_survives_a_process_that_is_killed(
    transport: str,
    server: Libvirtd,
    sshd: Sshd,
    uri_of: Callable[[str], HostUri],
    eventually: Eventually,
) -> None:
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [
            *(sys.executable, "-c", OPEN_AND_DIE),
            *(str(uri_of(transport)), str(server.folder), str(sshd.keys)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={"PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        carrying = set(family(process.pid)) - {process.pid}
        process.send_signal(signal.SIGKILL)

    assert carrying
    eventually(lambda: not any(map(alive, carrying)))


def test_folders_of_dead_processes_are_removed(
    server: Libvirtd, sshd: Sshd, uri_of: Callable[[str], HostUri]
) -> None:
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        left = Path(place) / "virtumancer-links-123-dead"
        left.mkdir()
        (left / "1.log").touch()
        os.utime(left, (1, 1))

        subprocess.run(
            [
                *(sys.executable, "-c", OPEN_AND_DIE),
                *(str(uri_of("unix")), str(server.folder), str(sshd.keys)),
            ],
            stdin=subprocess.DEVNULL,
            check=True,
            cwd=root,
            env={"PYTHONPATH": str(root), "TMPDIR": place},
        )

        assert list(Path(place).iterdir()) == []


# ---- Why it failed.


def failure_of(
    uri: str, keys: Path, *folders: Path, open_s: float = 5
) -> ConnectionFailed:
    with pytest.raises(ConnectionFailed) as failure:
        Connection.open(checked(uri, *folders), keys, Timeouts(open_s=open_s))
    assert children() == []
    assert files() == []
    return failure.value


def assert_says(failure: ConnectionFailed, kind: str, step: str, words: str) -> None:
    assert failure.type == kind, failure.detail
    assert failure.extra["step"] == step, failure.detail
    assert words in failure.detail


def unix_uri(path: Path) -> str:
    return f"test+unix:///default?socket={path}"


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    failure = failure_of(unix_uri(tmp_path / "s"), tmp_path, tmp_path)

    assert_says(failure, "no-libvirt", "socket", "There is no socket at")


def test_a_socket_nobody_listens_on() -> None:
    with scratch_of_ours() as folder:
        with socket.socket(socket.AF_UNIX) as forgotten:
            forgotten.bind(str(folder / "s"))
        failure = failure_of(unix_uri(folder / "s"), folder, folder)

    assert_says(failure, "no-libvirt", "socket", "Nobody listens")


def test_a_socket_whose_queue_is_full() -> None:
    with scratch_of_ours() as folder, full_queue(folder / "s") as path:
        failure = failure_of(unix_uri(path), folder, folder, open_s=SHORT_S)

    assert_says(failure, "libvirt-silent", "socket", "queue")


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    was = os.geteuid()
    os.seteuid(ordinary().uid)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_socket_that_we_may_not_open() -> None:
    with scratch_of_ours() as folder, silent_unix(folder / "s") as path:
        folder.chmod(0o755)
        path.chmod(0)
        uri = checked(unix_uri(path), folder)
        with as_ordinary_user(), pytest.raises(ConnectionFailed) as failure:
            Connection.open(uri, folder)

    assert_says(
        failure.value, "no-access-to-libvirt", "permission", "may not open the socket"
    )


def test_a_peer_that_never_says_a_word(tmp_path: Path) -> None:
    with silent_tcp() as port:
        uri = f"qemu+tcp://127.0.0.1:{port}/system"
        failure = failure_of(uri, tmp_path, open_s=SHORT_S)

    assert_says(failure, "libvirt-silent", "libvirt", "did not answer")


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    failure = failure_of("qemu+tcp://no-such-host.invalid/system", tmp_path)

    assert_says(failure, "host-name-unknown", "dns", "no-such-host.invalid")


def test_a_port_nobody_listens_on(tmp_path: Path) -> None:
    failure = failure_of(f"qemu+tcp://127.0.0.1:{free_port()}/system", tmp_path)

    assert_says(failure, "host-refuses", "tcp", "refuses connections")


def test_a_libvirtd_that_has_another_path(server: Libvirtd, tmp_path: Path) -> None:
    uri = server.uri("qemu", "system")

    failure = failure_of(uri, tmp_path, server.folder)

    assert_says(failure, "connection-failed", "libvirt", "qemu:///session")


def test_ssh_without_a_key(sshd: Sshd, tmp_path: Path) -> None:
    failure = failure_of(sshd.uri("/run/s"), tmp_path)

    assert_says(failure, "ssh-key-unusable", "ssh", "ssh-keygen -t ed25519")


@pytest.fixture
def other_keys(sshd: Sshd, tmp_path: Path) -> Path:
    """A key that the host does not accept; the host itself is known."""
    make_key(tmp_path / "id_ed25519")
    known = (sshd.keys / "known_hosts").read_text()
    (tmp_path / "known_hosts").write_text(known)
    return tmp_path


def test_ssh_with_a_key_that_is_not_accepted(sshd: Sshd, other_keys: Path) -> None:
    failure = failure_of(sshd.uri("/run/s"), other_keys)

    assert_says(
        failure, "authentication-failed", "permission", "accepts none of the keys"
    )


def test_ssh_to_a_host_whose_key_is_unknown(sshd: Sshd, other_keys: Path) -> None:
    (other_keys / "known_hosts").unlink()

    failure = failure_of(sshd.uri("/run/s"), other_keys)

    assert_says(
        failure, "host-key-unknown", "ssh", f"ssh-keyscan -p {sshd.port} 127.0.0.1"
    )


def test_ssh_to_a_host_whose_key_has_changed(sshd: Sshd, other_keys: Path) -> None:
    changed = make_key(other_keys / "changed")
    known = f"[127.0.0.1]:{sshd.port} {changed}"
    (other_keys / "known_hosts").write_text(known)

    failure = failure_of(sshd.uri("/run/s"), other_keys)

    assert_says(failure, "host-key-changed", "ssh", "is not the one in")


def test_ssh_with_a_key_that_others_can_read(sshd: Sshd, tmp_path: Path) -> None:
    careless = tmp_path / "keys"
    subprocess.run(["cp", "-a", "--", sshd.keys, careless], check=True)
    (careless / "id_ed25519").chmod(0o644)

    failure = failure_of(sshd.uri("/run/s"), careless)

    assert_says(failure, "ssh-key-unusable", "ssh", "chmod 600")


def test_ssh_to_a_port_nobody_listens_on(keys: Path) -> None:
    failure = failure_of(f"qemu+ssh://127.0.0.1:{free_port()}/system", keys)

    assert_says(failure, "host-refuses", "tcp", "refuses ssh connections")


def test_ssh_to_a_name_that_nobody_knows(keys: Path) -> None:
    failure = failure_of("qemu+ssh://no-such-host.invalid/system", keys)

    assert_says(failure, "host-name-unknown", "dns", "no-such-host.invalid")


def test_ssh_to_a_peer_that_never_says_a_word(keys: Path) -> None:
    with silent_tcp() as port:
        uri = f"qemu+ssh://127.0.0.1:{port}/system"
        failure = failure_of(uri, keys, open_s=SHORT_S)
        patient = failure_of(uri, keys, open_s=2)

    assert_says(failure, "host-silent", "ssh", "within 0.5 seconds")
    assert_says(patient, "host-silent", "tcp", "did not answer to ssh")


def test_ssh_to_a_socket_that_is_not_there(sshd: Sshd, keys: Path) -> None:
    failure = failure_of(sshd.uri("/run/no-such-folder/libvirt-sock"), keys)

    assert_says(
        failure, "no-libvirt", "socket", "There is no socket /run/no-such-folder"
    )


def test_ssh_to_something_that_is_not_a_socket(sshd: Sshd, keys: Path) -> None:
    failure = failure_of(sshd.uri(sshd.folder / "sshd_config"), keys)

    assert_says(failure, "no-libvirt", "socket", "is not a socket")


def test_ssh_to_a_socket_nobody_listens_on(sshd: Sshd, keys: Path) -> None:
    path = sshd.folder / "forgotten"
    with socket.socket(socket.AF_UNIX) as forgotten:
        forgotten.bind(str(path))

    failure = failure_of(sshd.uri(path), keys)

    assert_says(failure, "no-libvirt", "socket", "Nobody listens")


def test_ssh_where_forwarding_is_forbidden() -> None:
    with (
        scratch_of_ours() as folder,
        Sshd(folder / "sshd", forwarding="no").running() as sshd,
        silent_unix(folder / "s") as path,
    ):
        failure = failure_of(sshd.uri(path), sshd.keys)

    assert_says(failure, "no-libvirt", "socket", "AllowStreamLocalForwarding")


def test_what_is_asked_on_the_far_side_tells_the_cases_apart() -> None:
    with scratch() as folder, silent_unix(folder / "s") as path:
        path.chmod(0)
        forbidden = look(path)
        path.chmod(0o777)
        open_to_all = look(path)
        missing = look(folder / "missing")

    assert (forbidden, open_to_all, missing) == (83, 84, 81)
    assert "group" in ssh.LOOKED[83][2]


def look(path: Path) -> int:
    """Ask as an ordinary user, whom permissions concern."""
    me = ordinary()
    drop: dict[str, Any] = {}
    if os.geteuid() == 0:
        drop = {"user": me.uid, "group": me.gid, "extra_groups": []}
    return subprocess.run(["sh", "-c", ssh.LOOK.format(path)], **drop).returncode


def test_keys_in_a_folder_with_an_odd_name(
    sshd: Sshd, server: Libvirtd, uri_of: Callable[[str], HostUri]
) -> None:
    with scratch_of_ours() as folder, behind_our_back(server):
        odd = folder / 'a "%h" \\'
        subprocess.run(["cp", "-a", "--", sshd.keys, odd], check=True)

        connection = Connection.open(uri_of("ssh"), odd)

        assert connection.is_alive()
        connection.close()
