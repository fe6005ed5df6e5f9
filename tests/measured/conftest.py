"""The same systems and hypervisors as the fault laboratory's, here to be measured."""

from tests.faults.conftest import (  # noqa: F401
    behind,
    domains,
    hosts,
    hosts_folder,
    lab,
    new_lab,
)
