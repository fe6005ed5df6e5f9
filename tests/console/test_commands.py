"""Commands that end: what they do, what they print, how they exit."""

from pathlib import Path

import pytest

from embedded.libvirtd import Libvirtd
from tests.console.conftest import Run
from tests.lab.system import System

OFF, RUNNING = 5, 1


def test_hosts_are_listed_with_their_state(run: Run) -> None:
    listed = run("hosts")

    assert listed.code == 0
    assert listed.lines[0][:2] == ["HOST", "STATE"]
    assert ["kvm1", "connected"] in [line[:2] for line in listed.lines]


def test_a_host_comes_stands_aside_and_goes(run: Run, domains: Libvirtd) -> None:
    uri = domains.uri("test", "default")

    assert run("hosts", "add", "kvm2", uri).code == 0
    assert run("hosts", "disconnect", "kvm2").lines[1][:2] == ["kvm2", "disabled"]
    assert run("hosts", "connect", "kvm2", "--json").json["state"] == "connecting"
    assert run("hosts", "sync", "kvm2").code == 0
    assert run("hosts", "move", "kvm2", uri, "--json").json["uri"] == uri
    assert run("hosts", "rm", "kvm2").code == 0
    assert [host["id"] for host in run("hosts", "--json").json] == ["kvm1"]


def test_a_host_that_cannot_be_added_says_why_and_what_to_do(
    run: Run, hosts_folder: Path
) -> None:
    nowhere = f"test+unix:///default?socket={hosts_folder}/none"
    refused = run("hosts", "add", "kvm3", nowhere)

    assert refused.code == 1
    assert refused.out == ""
    assert "There is no socket at" in refused.err


def test_the_doctor_shows_each_step_and_its_fix(run: Run, hosts_folder: Path) -> None:
    sound = run("hosts", "check", "kvm1")
    broken = run("hosts", "check", f"qemu+unix:///session?socket={hosts_folder}/none")

    assert sound.code == 0
    assert ["ok", "socket"] in [line[:2] for line in sound.lines]
    assert "can be added" in sound.err
    assert broken.code == 1
    assert [line[:2] for line in broken.lines[1:]] == [
        ["FAILS", "socket"],
        ["fix", broken.lines[-1][1]],
    ]
    assert "systemctl" in broken.lines[-1][1]


def test_vms_that_fit_every_filter_are_listed(run: Run) -> None:
    named = run("vms", "--host", "kvm1", "--name", "*b", "--state", "off")
    found = run("search", "52:54:00")

    assert [line[1] for line in named.lines[1:]] == ["db", "web"]
    assert {line[1] for line in found.lines[1:]} >= {"web", "db", "lost"}
    assert run("vms", "--name", "none").lines == [named.lines[0]]


def test_json_is_what_the_api_answers(run: Run, lab: System) -> None:
    fields = ["--fields", "name,state", "--sort", "-name", "--host", "kvm1"]

    printed = run("vms", "--json", *fields).json

    asked = "/api/vms?fields=name,state&sort=-name&host=kvm1"
    assert printed == lab.api.get(asked).json()
    # The option may also stand before the command.
    assert run("--json", "vms", *fields).json == printed


def test_a_vm_is_shown_with_its_hardware_and_edited(run: Run) -> None:
    edited = run("edit", "kvm1/web", "--title", "The web \u202eserver", "--autostart")
    shown = run("show", "web")
    run("edit", "web", "--title", "", "--no-autostart")

    assert edited.code == 0
    assert ["autostart", "yes"] in shown.lines
    assert any(line[0] == "disk vda virtio" for line in shown.lines)
    # What would turn the line round is spelled out.
    assert ["title", "The web \\u202eserver"] in shown.lines
    assert "hardware" in run("show", "kvm1/web", "--json").json


def test_several_vms_are_acted_on_and_each_has_its_outcome(
    run: Run, lab: System
) -> None:
    started = run("start", "kvm1/web", "db", "kvm1/none")

    assert started.code == 1
    assert ["kvm1/web", "done"] in started.lines
    assert ["kvm1/db", "done"] in started.lines
    assert started.lines[-1][:2] == ["kvm1/none", "failed"]
    assert "no VM none" in started.lines[-1][2]
    assert lab.state("kvm1", "db") == RUNNING


def test_wildcards_and_filters_choose_vms(run: Run, lab: System) -> None:
    assert run("start", "k*/*b").code == 0
    assert [lab.state("kvm1", name) for name in ("web", "db", "lost")] == [1, 1, 5]

    ended = run("suspend", "--host", "kvm1", "--state", "running", "--json").json

    assert [task["state"] for task in ended["tasks"]] == ["done"]
    paused = {child["vm_name"]: child["state"] for child in ended["vms"]}
    assert paused.items() >= {"web": "done", "db": "done"}.items()
    assert "lost" not in paused


def test_a_dry_run_says_what_would_happen_and_does_nothing(
    run: Run, lab: System
) -> None:
    run("start", "web")

    dry = run("suspend", "kvm1/web", "kvm1/db", "--dry-run")
    sure = run("start", "kvm1/web", "kvm1/db", "--dry-run", "--json")

    assert ["kvm1/web", "would suspend"] in dry.lines
    assert ["kvm1/db", "would refuse"] in [line[:2] for line in dry.lines]
    assert dry.code == 1
    assert sure.code == 0
    assert sure.json["acts"] == 1
    assert lab.state("kvm1", "web") == RUNNING


def test_pulling_many_plugs_wants_a_yes(run: Run, lab: System) -> None:
    run("start", "kvm1/web")

    asked = run("destroy", "kvm1/w*")
    assert asked.code == 2
    assert "--yes" in asked.err
    assert lab.state("kvm1", "web") == RUNNING

    assert run("destroy", "kvm1/w*", "--yes").code == 0
    assert lab.state("kvm1", "web") == OFF


def test_what_is_asked_without_waiting_is_a_task(run: Run) -> None:
    asked = run("start", "web", "--no-wait").out.strip()

    shown = run("tasks", "show", asked, "--wait")
    cancelled = run("tasks", "cancel", asked)

    assert ["state", "done"] in shown.lines
    assert ["progress", "of 1: 1 done"] in shown.lines
    assert cancelled.code == 1
    assert "can no longer be cancelled" in cancelled.err
    children = run("tasks", "list", "--parent", asked)
    assert children.lines[1][1:4] == ["start", "kvm1/web", "done"]
    assert [asked, "start", "1 VM"] in [line[:3] for line in run("tasks").lines]


def test_the_fleet_in_numbers(run: Run, lab: System) -> None:
    run("start", "web")

    counted = run("overview")

    assert counted.lines[1][:4] == ["kvm1", "connected", "4", "1"]
    assert counted.lines[-1][:2] == ["all", "1 connected"]
    assert run("overview", "--json").json == lab.api.get("/api/overview").json()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vms", "--state", "flying"], "no state of a VM"),
        (["start"], "Which VMs?"),
        (["start", "web", "--host", "kvm1"], "not both"),
        (["show", "*"], "Name one"),
        (["edit", "web"], "Nothing to edit"),
        (["hosts", "frobnicate"], "No such command"),
        (["top", "--sort", "luck"], "sorted by luck"),
        (["hosts", "--url", "ftp://kvm1"], "no URL"),
    ],
)
def test_a_wrong_command_line_exits_with_two(
    run: Run, words: list[str], said: str
) -> None:
    wrong = run(*words)

    assert wrong.code == 2
    assert wrong.out == ""
    assert said in wrong.err


def test_a_refusal_says_what_to_do_also_to_programs(run: Run) -> None:
    told = run("hosts", "rm", "kvm9")
    coded = run("hosts", "rm", "kvm9", "--json")

    assert (told.code, coded.code) == (1, 1)
    assert "There is no host kvm9" in told.err
    assert '"type":"/api/problems/unknown-host"' in coded.err
    assert coded.out == ""
