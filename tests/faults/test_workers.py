"""What was asked for is done or ends, whatever happens to the workers."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import libvirt
import pytest

from embedded.libvirtd import Libvirtd
from tests.faults.conftest import Facts, Hosts, NewLab, uri
from tests.lab.hypervisors import behind_our_back, define
from tests.lab.proxy import PRESSES, STATE, XML, LibvirtProxy
from tests.lab.system import FINISHED, System, eventually

RUNNING, PAUSED, OFF = 1, 3, 5
BEFORE: Final = {"start": OFF, "resume": PAUSED}
"""The state to begin from, where it is not running."""
AFTER: Final = {"start": RUNNING, "suspend": PAUSED, "resume": RUNNING} | dict.fromkeys(
    ("shutdown", "destroy"), OFF
)
NEVER_TWICE: Final = ("reboot", "reset")
VERBS: Final = (*AFTER, *NEVER_TWICE)
MOMENTS: Final = ("before", "during", "after")
TAKEN_OVER_S: Final = 15


@dataclass
class Aftermath:
    """What became of every verb at every moment when a worker was killed."""

    tasks: dict[tuple[str, str], Facts] = field(default_factory=dict)
    took_s: dict[tuple[str, str], float] = field(default_factory=dict)
    rows: dict[tuple[str, str], Facts] = field(default_factory=dict)
    pressed: dict[tuple[str, str], int] = field(default_factory=dict)
    really: dict[tuple[str, str], int] = field(default_factory=dict)
    next_action: dict[tuple[str, str], int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def aftermath(new_lab: NewLab, domains: Libvirtd, hosts_folder: Path) -> Aftermath:
    """One worker is killed with 21 tasks: seven verbs, each held at three moments."""
    found = Aftermath()
    with ExitStack() as stack:
        behind = stack.enter_context(behind_our_back(domains))
        lab = stack.enter_context(new_lab(VIRTUMANCER_HOST_SHARE="8"))
        for moment in MOMENTS:
            for verb in VERBS:
                _prepare(behind, f"{moment}-{verb}", BEFORE.get(verb, RUNNING))
        lab.start()
        hosts = {
            moment: stack.enter_context(
                LibvirtProxy(domains.socket, hosts_folder / f"{moment}.sock")
            )
            for moment in MOMENTS
        }
        for moment, host in hosts.items():
            lab.add_host(moment, uri(host))
        eventually(lambda: not lab.unfinished(), 30)

        holds = [
            hosts["before"].hold_calls(*PRESSES),
            hosts["during"].hold_replies(*PRESSES),
            hosts["after"].hold_calls(XML),
        ]
        asked = {
            (moment, verb): lab.ask(moment, f"{moment}-{verb}", verb)
            for moment in MOMENTS
            for verb in VERBS
        }
        # The looks that the events ask for are held as well.
        eventually(lambda: all(hold.reached >= len(VERBS) for hold in holds), 10)
        eventually(lambda: len(_running(lab)) >= len(asked), 5)
        [victim] = lab.of("worker")
        lab.worker()
        victim.kill()
        killed_s = time.monotonic()
        for hold in holds:
            hold.release()

        while asked.keys() - found.tasks.keys():
            for case in asked.keys() - found.tasks.keys():
                task = lab.task(asked[case])
                if task["state"] in FINISHED or time.monotonic() > killed_s + 30:
                    found.tasks[case] = task
                    found.took_s[case] = time.monotonic() - killed_s
            time.sleep(0.1)
        eventually(lambda: not lab.unfinished(), 30)
        for moment, verb in asked:
            name = f"{moment}-{verb}"
            found.rows[moment, verb] = lab.vms(moment)[name]
            found.pressed[moment, verb] = hosts[moment].pressed[verb, name]
            found.really[moment, verb] = behind.lookupByName(name).state()[0]
            answer = lab.act(moment, name, "destroy")
            found.next_action[moment, verb] = answer.status_code
    return found


def _running(lab: System) -> list[Facts]:
    return [t for t in lab.unfinished() if t["state"] == "running"]


def _prepare(behind: libvirt.virConnect, name: str, state: int) -> None:
    domain = behind.lookupByUUIDString(define(behind, name))
    if state != OFF:
        domain.create()
    if state == PAUSED:
        domain.suspend()


@pytest.mark.parametrize("verb", AFTER)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_verb_is_done_after_its_worker_was_killed(
    moment: str, verb: str, aftermath: Aftermath
) -> None:
    case = moment, verb

    assert aftermath.tasks[case]["state"] == "done", aftermath.tasks[case]
    assert aftermath.took_s[case] <= TAKEN_OVER_S
    assert aftermath.really[case] == AFTER[verb]


@pytest.mark.parametrize("verb", NEVER_TWICE)
@pytest.mark.parametrize("moment", MOMENTS)
def test_reboot_and_reset_are_never_pressed_twice(
    moment: str, verb: str, aftermath: Aftermath
) -> None:
    case = moment, verb

    assert aftermath.tasks[case]["state"] == "interrupted", aftermath.tasks[case]
    assert "look at the VM" in aftermath.tasks[case]["problem"]["detail"]
    assert aftermath.took_s[case] <= TAKEN_OVER_S
    assert aftermath.pressed[case] == (0 if moment == "before" else 1)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_vm_is_looked_at_afresh_and_free_after_its_worker_was_killed(
    moment: str, verb: str, aftermath: Aftermath
) -> None:
    case = moment, verb

    assert aftermath.rows[case]["state"] == aftermath.really[case]
    assert aftermath.next_action[case] == 204


def test_tasks_wait_as_rows_while_all_workers_are_down_and_run_when_one_returns(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    names = [f"vm-{n}" for n in range(20)]
    for name in names:
        define(behind, name)
    lab.start(workers=2)
    [host] = hosts(1)
    lab.add_host("one", uri(host))
    for worker in lab.of("worker"):
        worker.kill()

    answers = [lab.act("one", name, "start", "wait=0.1") for name in names]
    assert {a.status_code for a in answers} == {202}
    tasks = [a.headers["Location"] for a in answers]
    assert {lab.task(path)["state"] for path in tasks} == {"queued"}
    eventually(lambda: lab.task(tasks[0])["waits_for"] == "a worker: none lives", 10)
    health = lab.api.get("/api/health").json()
    lab.worker()

    ended = [lab.ended(path, 10) for path in tasks]
    assert {task["state"] for task in ended} == {"done"}
    assert {task["attempts"] for task in ended} == {1}
    assert host.pressed == {("start", name): 1 for name in names}
    assert health["workers"]["answers"] is False
    assert any("No worker lives" in problem for problem in health["problems"])
    assert {task["waits_for"] for task in ended} == {None}


def test_a_stopped_worker_does_not_press_what_was_given_to_another_meanwhile(
    new_lab: NewLab, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    domain = behind.lookupByUUIDString(define(behind, "vm"))
    domain.create()
    patient = {"VIRTUMANCER_CALL_TIMEOUT_S": "60", "VIRTUMANCER_PROBE_INTERVAL_S": "60"}
    with new_lab(**patient) as lab:
        lab.start()
        [host] = hosts(1)
        lab.add_host("one", uri(host))
        eventually(lambda: not lab.unfinished(), 30)
        [stopped] = lab.of("worker")

        # It has looked at the VM, found it running, and is about to press.
        hold = host.hold_replies(STATE)
        task = lab.ask("one", "vm", "suspend")
        eventually(lambda: hold.reached, 5)
        stopped.stop()
        hold.release()
        lab.worker()
        assert lab.ended(task, TAKEN_OVER_S)["state"] == "done"
        assert lab.act("one", "vm", "resume").status_code == 204
        stopped.resume()

        eventually(lambda: stopped.said("was taken for dead; starting afresh"), 10)
        eventually(lambda: stopped.said("suspend"), 10)
        assert domain.state()[0] == RUNNING
        assert lab.state("one", "vm") == RUNNING
        assert host.pressed["suspend", "vm"] == 1
        assert lab.task(task)["state"] == "done"
