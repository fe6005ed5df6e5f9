"""``virtumancer vms``, ``search``, ``show``: the virtual machines of all hosts."""

import re
from typing import Annotated, Any

import typer

from common.shapes import Vm
from console import completion, words
from console.api import Api
from console.failures import Failure, Unusable
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
    """List VMs of all hosts: those that fit every filter.

    Behind a state, ? says that it is the last one known: the host does not answer.
    """
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


Reference = dict[str, str]


def meant(api: Api, word: str) -> list[Reference]:
    """The VMs that ``HOST/NAME`` or ``NAME`` means, with * for anything in both."""
    host, slash, name = word.partition("/")
    if not slash:
        host, name = "*", word
    if "*" not in word and slash:
        return [{"host": host, "name": name}]
    answer = api.all(
        "/api/vms",
        host=None if "*" in host else host,
        name=name,
        fields="host_id,name,uuid",
    )
    fits = re.compile(".*".join(map(re.escape, host.split("*"))))
    found = [vm for vm in answer.body if fits.fullmatch(vm["host_id"])]
    if not found:
        raise Failure(f"There is no VM {word}", "", "virtumancer vms lists them.")
    if not slash and "*" not in word and len(found) > 1:
        places = ", ".join(f"{vm['host_id']}/{vm['name']}" for vm in found)
        raise Unusable(
            f"Several hosts have a VM {word}",
            f"{places}.",
            f"Say which, or */{word} for all of them.",
        )
    return [{"host": vm["host_id"], "name": vm["uuid"]} for vm in found]


def one(api: Api, word: str) -> tuple[str, str]:
    """The host of the one VM that is meant, and its name or UUID."""
    found = meant(api, word)
    if len(found) > 1:
        raise Unusable(f"{word} are {len(found)} VMs", "", "Name one of them.")
    return found[0]["host"], found[0]["name"]
