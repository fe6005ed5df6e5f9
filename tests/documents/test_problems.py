"""One catalogue: the same failure has the same name wherever one meets it."""

from pathlib import Path
from typing import Any

import libvirt
import pytest

from common.catalogue import catalogue, kinds
from common.errors import VirtumancerError
from embedded.libvirtd import Libvirtd
from embedded.machines import define_machine
from tests.faults.conftest import NewLab, hosts, uri
from tests.lab.hypervisors import behind_our_back
from tests.lab.system import eventually

__all__ = ["hosts"]

Facts = dict[str, Any]


def name(problem: Facts) -> str:
    """The problem's name, which the catalogue explains."""
    kind = str(problem["type"].rpartition("/")[2])
    known = catalogue()[kind]
    told = (problem["title"], problem["status"], problem["advice"])
    assert told == (known.title, known.status, known.advice)
    return kind


def test_a_failed_task_names_the_same_problem_everywhere(
    new_lab: NewLab, domains: Libvirtd
) -> None:
    with behind_our_back(domains, "qemu") as behind, new_lab() as system:
        machine = define_machine(behind, "hollow", domains.folder / "hollow")
        Path(domains.folder / "hollow" / "hollow.img").unlink()
        system.start()
        listener = system.listen()
        listener.send({"type": "subscribe", "payload": {"topics": ["tasks"]}})
        listener.wait(5, "subscribed")
        system.add_host("kvm1", domains.uri("qemu", "session"))

        answer = system.act("kvm1", machine.name(), "start").json()

        task = system.task(f"/api/tasks/{answer['task']}")
        frame = eventually(
            lambda: [
                frame["payload"]["problem"]
                for frame in listener.since(0, "task-updated", id=answer["task"])
                if frame["payload"]["problem"]
            ],
            5,
        )[0]
        told = {name(problem) for problem in (answer, task["problem"], frame)}
        assert told == {"disk-missing"}


def test_a_host_that_is_lost_says_so_by_its_name(new_lab: NewLab, hosts: Any) -> None:
    [host] = hosts(1)
    with new_lab() as system:
        system.start()
        system.add_host("kvm1", uri(host))
        host.refuse()

        # The first word may be of the link that broke; the last is of the reason.
        eventually(lambda: system.host("kvm1")["error"], 20)
        eventually(lambda: name(system.host("kvm1")["error"]) == "no-libvirt", 60)


def test_a_refused_frame_has_a_code_of_the_catalogue(new_lab: NewLab) -> None:
    with new_lab() as system:
        system.web()
        listener = system.listen()
        address = {"hostId": "nobody", "vmName": "web"}
        listener.send({"type": "subscribe-vm-stats", "payload": address})
        listener.send({"type": "dance"})

        listener.wait(5, "error", code="invalid-request")
        codes = {frame["payload"]["code"] for frame in listener.since(0, "error")}

        assert codes == {"unknown-host", "invalid-request"}
        assert codes <= set(catalogue())


def test_no_code_of_libvirt_means_two_things() -> None:
    named = [code for kind in kinds(VirtumancerError) for code in kind.libvirt]

    assert len(set(named)) == len(named)
    assert {code for code in named if not hasattr(libvirt, code)} == set()


@pytest.mark.parametrize("kind", kinds(VirtumancerError))
def test_advice_is_a_sentence(kind: type[VirtumancerError]) -> None:
    assert kind.advice.endswith("."), kind
    assert not kind.title.endswith("."), kind
