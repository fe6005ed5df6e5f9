"""``virtumancer vms``, ``search``, ``show``: the virtual machines of all hosts."""

from typing import Annotated, Any

import typer

from common.shapes import Vm
from console import completion, words
from console.commands import Command, command
from console.failures import Unusable
from console.tables import Column, Value
from console.terminal import Terminal

MOST = 1000

Host = Annotated[
    str | None, typer.Option(help="Of this host.", autocompletion=completion.hosts)
]
Name = Annotated[str | None, typer.Option(help="Of this name; * stands for anything.")]
State = Annotated[
    str | None,
    typer.Option(
        help="running, paused, off, …, or libvirt's number.",
        autocompletion=completion.states,
    ),
]
Uuid = Annotated[str | None, typer.Option(help="With this UUID.")]
Mac = Annotated[str | None, typer.Option(help="With a NIC of this MAC.")]
Disk = Annotated[
    str | None, typer.Option(help="With this disk: its path, or its like, in full.")
]
Network = Annotated[
    str | None, typer.Option(help="In this network, on this bridge or device.")
]
Words = Annotated[
    str | None,
    typer.Option("-q", "--matching", help="Where any of what is known has this."),
]

COLUMNS = (
    Column("HOST"),
    Column("VM", style="bold"),
    Column("STATE"),
    Column("VCPUS", right=True),
    Column("MEMORY", right=True),
    Column("AUTOSTART"),
    Column("TITLE"),
)


def list_vms(
    terminal: Terminal,
    host: Host = None,
    name: Name = None,
    state: State = None,
    uuid: Uuid = None,
    mac: Mac = None,
    disk: Disk = None,
    network: Network = None,
    q: Words = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="name, host_id, state, vcpu_count, memory_bytes; -name downwards."
        ),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(help="Of each VM, separated by commas; for --json."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="So many at most.")
    ] = None,
) -> None:
    """List VMs of all hosts: those that fit every filter."""
    wanted = filter_of(
        host=host,
        name=name,
        state=state,
        uuid=uuid,
        mac=mac,
        disk=disk,
        network=network,
        q=q,
    )
    if fields and not terminal.json:
        raise Unusable("--fields is for --json", "", "Add --json.")
    ask = terminal.api.get if limit else terminal.api.all
    answer = ask("/api/vms", **wanted, sort=sort, fields=fields, limit=limit)
    if terminal.json:
        terminal.value(answer.body)
        return
    vms = answer.of(list[Vm])
    if sort is None:
        vms.sort(key=lambda vm: (vm.host_id, vm.name))
    terminal.table(COLUMNS, [row_of(vm) for vm in vms])


def filter_of(**options: str | None) -> dict[str, Any]:
    """What was asked for, as the API filters VMs."""
    wanted: dict[str, Any] = {n: v for n, v in options.items() if v is not None}
    if "state" in wanted:
        number = words.vm_state_number(wanted["state"])
        if number is None:
            known = ", ".join(cell.text for cell in words.VM_STATES.values())
            raise Unusable(
                f"{wanted['state']} is no state of a VM", f"There are: {known}."
            )
        wanted["state"] = number
    return wanted


def row_of(vm: Vm) -> list[Value]:
    state = words.vm_state(vm.state)
    return [
        vm.host_id,
        vm.name,
        state._replace(text=f"{state.text}?") if vm.stale else state,
        vm.vcpu_count,
        words.size(vm.memory_bytes),
        words.YES[vm.autostart],
        vm.title,
    ]


def search(
    terminal: Terminal,
    wanted: Annotated[
        str, typer.Argument(metavar="WORDS", help="* stands for anything.")
    ],
) -> None:
    """Find VMs by name, title, description, UUID, host, MAC, disk or network."""
    list_vms(terminal, q=wanted)


def declare(app: typer.Typer) -> None:
    commands: dict[str, Command[Any]] = {"vms": list_vms, "search": search}
    for name, run in commands.items():
        command(app, name)(run)
