"""One connection a host, shared, and opened anew when it is lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import HostTimeout, HostUnreachable
from common.uri_policy import UriPolicy
from embedded import Libvirtd
from tests.lab.hypervisors import hypervisor
from workers.connections import ConnectionKey, Connections
from workers.hypervisor.records import Timeouts


@pytest.fixture
def server(server_folder: Path) -> Iterator[Libvirtd]:
    with hypervisor(server_folder / "lv-connections") as server:
        yield server


@pytest.fixture
def connections(server: Libvirtd, tmp_path: Path) -> Iterator[Connections]:
    policy = UriPolicy((server.folder,))
    connections = Connections(policy, tmp_path, Timeouts(open_s=5, call_s=0.5))
    yield connections
    connections.close()


@pytest.fixture
def key(server: Libvirtd) -> ConnectionKey:
    return ConnectionKey(1, server.uri("test", "default"))


def test_threads_share_one_connection(
    connections: Connections, key: ConnectionKey
) -> None:
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(connections.get(key)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, got))) == 1


def test_a_lost_connection_is_opened_anew(
    connections: Connections, key: ConnectionKey, server: Libvirtd
) -> None:
    before = connections.get(key)
    server.kill()
    server.start()

    after = connections.get(key)

    assert after is not before
    assert after.list_domains().domains


def test_a_host_that_is_gone_is_said_to_be(
    connections: Connections, key: ConnectionKey, server: Libvirtd
) -> None:
    connections.get(key)
    server.stop()

    with pytest.raises(HostUnreachable):
        connections.get(key)


def test_a_silent_host_is_given_its_time_once(
    connections: Connections, key: ConnectionKey, server: Libvirtd
) -> None:
    connections.get(key)
    server.pause()
    try:
        with pytest.raises(HostTimeout):
            connections.get(key)
    finally:
        server.resume()

    assert connections.get(key).list_domains().domains


def test_a_removed_hosts_connection_is_closed(
    connections: Connections, key: ConnectionKey
) -> None:
    connection = connections.get(key)

    connections.keep_only(set())

    assert connection.broken
