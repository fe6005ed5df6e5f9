"""A running system with a host of the test driver, for what its documents say of it."""

from collections.abc import Iterator

import pytest

from embedded.libvirtd import Libvirtd
from tests.faults.conftest import NewLab, domains, hosts_folder, new_lab
from tests.lab.hypervisors import behind_our_back, define
from tests.lab.system import System

__all__ = ["domains", "hosts_folder", "new_lab"]


@pytest.fixture(scope="package")
def running(new_lab: NewLab, domains: Libvirtd) -> Iterator[System]:
    """A web, a worker and a monitor, and the host kvm1 with the VMs web and db."""
    with behind_our_back(domains) as behind, new_lab(VIRTUMANCER_WAIT_S="5") as system:
        for name in ("web", "db"):
            define(behind, name)
        system.start()
        system.add_host("kvm1", domains.uri("test", "default"))
        yield system


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record", action="store_true", help="write api/examples.json anew"
    )
