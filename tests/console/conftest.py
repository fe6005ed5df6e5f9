"""The command line against a whole running system.

``running``: a whole system, and the host kvm1 with the VMs web, db and lost.
``run``: one command line in this process: ``run("vms", "--json")``.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from console.app import app
from embedded.libvirtd import Libvirtd
from tests.faults.conftest import NewLab, domains, hosts_folder, new_lab
from tests.lab.hypervisors import behind_our_back, define
from tests.lab.system import System

__all__ = ["domains", "hosts_folder", "new_lab"]

VMS = ("web", "db", "lost")


@pytest.fixture(scope="package")
def behind(domains: Libvirtd) -> Iterator[Any]:
    with behind_our_back(domains) as connection:
        for name in VMS:
            define(connection, name)
        yield connection


@pytest.fixture(scope="package")
def running(new_lab: NewLab, domains: Libvirtd, behind: Any) -> Iterator[System]:
    with new_lab(VIRTUMANCER_STATS_INTERVAL_S="0.3") as system:
        system.start()
        system.add_host("kvm1", domains.uri("test", "default"))
        yield system


@pytest.fixture
def lab(running: System, behind: Any) -> System:
    """The same with all VMs off, as far as they are ours."""
    everything = {"action": "destroy", "filter": {"host": "kvm1"}}
    answer = running.api.post("/api/actions", json=everything)
    assert answer.json()["state"] == "done", answer.text
    return running


class Outcome:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[list[str]]:
        """Each line's cells, which two spaces keep apart."""
        return [
            [cell.strip() for cell in line.split("  ") if cell.strip()]
            for line in self.out.splitlines()
        ]


Run = Callable[..., Outcome]


def command(url: str, *words: str, **variables: str) -> Outcome:
    environment = {"VIRTUMANCER_URL": url, "VIRTUMANCER_TOKEN": "", **variables}
    result = CliRunner().invoke(
        app, [*words], env=environment, prog_name="virtumancer", catch_exceptions=False
    )
    outcome = Outcome(result.exit_code, result.stdout, result.stderr)
    print(f"$ virtumancer {shlex.join(words)}\n{outcome.out}{outcome.err}")  # noqa: T201
    assert "Traceback" not in outcome.err
    return outcome


@pytest.fixture
def run(lab: System) -> Run:
    def run(*words: str, **variables: str) -> Outcome:
        return command(lab.webs[0].url, *words, **variables)

    return run
