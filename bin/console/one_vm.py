"""``virtumancer show`` and ``edit``: one VM."""

from typing import Annotated, Any

import typer

from common.shapes import Task, Vm, VmHardware
from console import completion, words
from console.api import path_of
from console.failures import Unusable
from console.tables import Value
from console.tasks import follow
from console.terminal import Terminal
from console.vms import one

Named = Annotated[
    str, typer.Argument(metavar="[HOST/]VM", autocompletion=completion.vms)
]
Facts = list[tuple[str, Value]]


def show(terminal: Terminal, vm: Named) -> None:
    """Look at a VM and its hardware."""
    host, name = one(terminal.api, vm)
    found = terminal.api.get(path_of("hosts", host, "vms", name))
    hardware = terminal.api.get(path_of("hosts", host, "vms", name, "hardware"))
    if terminal.json:
        terminal.value(found.body | {"hardware": hardware.body})
        return
    terminal.facts([*_facts(found.of(Vm)), *_hardware(hardware.of(VmHardware))])


def _facts(vm: Vm) -> Facts:
    seen = f"{vm.observed_at:%F %T} ({words.ago(vm.observed_at)})"
    return [
        ("host", vm.host_id),
        ("name", vm.name),
        ("title", vm.title),
        ("description", vm.description),
        ("uuid", str(vm.uuid)),
        ("state", words.vm_state(vm.state)),
        ("vcpus", vm.vcpu_count),
        ("memory", words.size(vm.memory_bytes)),
        ("autostart", words.YES[vm.autostart]),
        ("persistent", words.YES[vm.persistent]),
        ("as of", f"{seen}; the host does not answer" if vm.stale else seen),
    ]


def _hardware(hardware: VmHardware) -> Facts:
    rows: Facts = [
        ("type", hardware.hypervisor),
        ("machine", _joined(hardware.os.arch, hardware.os.machine)),
        ("firmware", hardware.os.firmware),
        ("cpu", _joined(hardware.cpu.mode, hardware.cpu.model)),
    ]
    for disk in hardware.disks:
        size = words.size(disk.capacity_bytes)
        drive = _joined(disk.device, disk.target.dev, disk.target.bus, disk.driver.type)
        rows.append((drive, _joined(disk.path, size)))
    for nic in hardware.networks:
        source = nic.source.network or nic.source.bridge or nic.source.dev
        what = _joined("nic", nic.target.dev, nic.model.model_type)
        rows.append((what, _joined(nic.mac.address, nic.type, source)))
    for screen in hardware.graphics:
        place = f"{screen.listen or ''}:{screen.port}" if screen.port else None
        rows.append(("graphics", _joined(screen.type, place)))
    return rows


def _joined(*words_of_it: str | None) -> str:
    return " ".join(word for word in words_of_it if word)


def edit(
    terminal: Terminal,
    vm: Named,
    *,
    autostart: Annotated[
        bool | None,
        typer.Option(
            "--autostart/--no-autostart",
            help="Whether the host starts it when the host begins.",
            show_default=False,
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="An empty one takes it away.")
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="An empty one takes it away.")
    ] = None,
) -> None:
    """Change whether a VM starts with its host, its title, its description."""
    wanted: dict[str, Any] = {
        "autostart": autostart,
        "title": title,
        "description": description,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given:
        raise Unusable("Nothing to edit", "Say --autostart, --title or --description.")
    host, name = one(terminal.api, vm)
    path = path_of("hosts", host, "vms", name)
    answer = terminal.api.change("PATCH", path, given)
    if answer.status == 202:
        follow(terminal, answer.of(Task), f"editing {host}/{name}")
        answer = terminal.api.get(path)
    if terminal.json:
        terminal.value(answer.body)
        return
    terminal.facts(_facts(answer.of(Vm)))
