"""``virtumancer start``, ``shutdown``, …: one action on many VMs, as one task."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import msgspec
import typer

from common.shapes import DryRun, PowerAction, Task
from console import completion, vms, words
from console.api import Api
from console.commands import Command, command
from console.failures import ExitCode, Unusable
from console.tables import Cell, Column, Value
from console.tasks import awaited
from console.terminal import Terminal

COMMANDS: Final[dict[str, tuple[PowerAction, str]]] = {
    "start": ("start", "Start VMs that are off."),
    "shutdown": ("shutdown", "Ask VMs to shut down, by their power button."),
    "stop": ("shutdown", "The same as shutdown."),
    "reboot": ("reboot", "Ask VMs to boot again."),
    "suspend": ("suspend", "Pause VMs where they are."),
    "resume": ("resume", "Let paused VMs go on."),
    "reset": ("reset", "Press the reset button of VMs: what is not saved is lost."),
    "destroy": ("destroy", "Pull the plug of VMs: what is not saved is lost."),
}
LOSING: Final = ("reset", "destroy")
BODY_BYTES: Final = 60_000
"""The API takes bodies of 64 KiB, and a thousand VMs in one."""
MOST: Final = 1000

Named = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[HOST/]VM…",
        help="Names; * stands for anything: kvm1/web*, */db.",
        autocompletion=completion.vms,
        show_default=False,
    ),
]


def _of(action: PowerAction, help: str) -> Command[Any]:
    def act(
        terminal: Terminal,
        named: Named = None,
        *,
        host: vms.Host = None,
        name: vms.Name = None,
        state: vms.State = None,
        uuid: vms.Uuid = None,
        mac: vms.Mac = None,
        disk: vms.Disk = None,
        network: vms.Network = None,
        q: vms.Words = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would happen; do nothing.")
        ] = False,
        per_host: Annotated[
            int | None,
            typer.Option(min=1, max=100, help="So many at a time on each host."),
        ] = None,
        no_wait: Annotated[
            bool, typer.Option("--no-wait", help="Ask, print the task, and leave.")
        ] = False,
        yes: Annotated[
            bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")
        ] = False,
    ) -> None:
        wanted = vms.filter_of(
            host=host,
            name=name,
            state=state,
            uuid=uuid,
            mac=mac,
            disk=disk,
            network=network,
            q=q,
        )
        orders = list(_orders(terminal.api, action, named or [], wanted))
        if per_host:
            orders = [order | {"per_host": per_host} for order in orders]
        if dry_run:
            _foresee(terminal, orders)
            return
        is_open = bool(wanted) or any("*" in word for word in named or [])
        if action in LOSING and is_open and not yes:
            orders = _confirmed(terminal, action, orders)
        _act(terminal, action, orders, wait=not no_wait)

    act.__doc__ = help
    return act


def _orders(
    api: Api, action: str, named: list[str], wanted: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The bodies to send: mostly one, more if so many are named."""
    if named and wanted:
        raise Unusable(
            "Name VMs or say filters, not both",
            "A name may hold filters of its own: HOST/web*.",
        )
    if wanted:
        yield {"action": action, "filter": wanted}
        return
    if not named:
        raise Unusable(
            "Which VMs?", "Name them (HOST/NAME, HOST/web*), or say --host, --name, …"
        )
    found = [reference for word in named for reference in vms.meant(api, word)]
    for references in _parcels(found):
        yield {"action": action, "vms": references}


def _parcels(references: Iterable[vms.Reference]) -> Iterator[list[vms.Reference]]:
    parcel: list[vms.Reference] = []
    size = 0
    for reference in references:
        length = len(msgspec.json.encode(reference)) + 1
        if parcel and (size + length > BODY_BYTES or len(parcel) == MOST):
            yield parcel
            parcel, size = [], 0
        parcel.append(reference)
        size += length
    yield parcel


def _foreseen(api: Api, orders: list[dict[str, Any]]) -> DryRun:
    runs = [
        api.change("POST", "/api/actions", order | {"dry_run": True}).of(DryRun)
        for order in orders
    ]
    return DryRun(
        action=runs[0].action,
        total=sum(run.total for run in runs),
        acts=sum(run.acts for run in runs),
        refused=sum(run.refused for run in runs),
        vms=[vm for run in runs for vm in run.vms],
    )


def _foresee(terminal: Terminal, orders: list[dict[str, Any]]) -> None:
    foreseen = _foreseen(terminal.api, orders)
    if terminal.json:
        terminal.value(foreseen)
    else:
        rows: list[list[Value]] = []
        for vm in foreseen.vms:
            would = Cell(f"would {foreseen.action}", "cyan")
            if not vm.acts:
                would = Cell("is so already", "dim")
            if vm.problem:
                would = Cell("would refuse", "red")
            why = vm.problem.detail if vm.problem else ""
            rows.append([f"{vm.host_id}/{vm.vm_name}", would, why])
        terminal.table((Column("VM", style="bold"), Column(""), Column("")), rows)
        terminal.say(
            f"Nothing was done: of {words.count(foreseen.total, 'VM')}"
            f" {foreseen.acts} would {foreseen.action},"
            f" {foreseen.refused} would refuse."
        )
    if foreseen.refused:
        raise typer.Exit(ExitCode.FAILED)


def _confirmed(
    terminal: Terminal, action: str, orders: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What loses something is asked about once, and then holds for these VMs alone."""
    foreseen = _foreseen(terminal.api, orders)
    if not foreseen.vms:
        return orders
    hosts = {vm.host_id for vm in foreseen.vms}
    question = (
        f"{action} {foreseen.acts} of {words.count(foreseen.total, 'VM')} on"
        f" {words.count(len(hosts), 'host')}"
    )
    if not terminal.asks:
        raise Unusable(
            f"Not done: {question}", "What is not saved would be lost.", "Add --yes."
        )
    typer.confirm(f"{question}?", abort=True, err=True)
    kept = {name: value for name, value in orders[0].items() if name != "filter"}
    references = [
        {"host": vm.host_id, "name": str(vm.vm_uuid or vm.vm_name)}
        for vm in foreseen.vms
    ]
    return [kept | {"vms": parcel} for parcel in _parcels(references)]


def _act(
    terminal: Terminal, action: str, orders: list[dict[str, Any]], *, wait: bool
) -> None:
    api = terminal.api
    tasks = [
        api.change("POST", "/api/actions", order, prefer="respond-async").of(Task)
        for order in orders
    ]
    if not wait:
        for task in tasks:
            terminal.result(task, str(task.id))
        return
    try:
        tasks = awaited(terminal, tasks, action)
    except KeyboardInterrupt:
        for task in tasks:
            terminal.say(f"It goes on: virtumancer tasks show --wait {task.id}")
            terminal.say(f"What has not begun: virtumancer tasks cancel {task.id}")
        raise
    children = [
        child
        for task in tasks
        for child in api.all("/api/tasks", parent=task.id, limit=MOST).body
    ]
    if terminal.json:
        terminal.value({"tasks": tasks, "vms": children})
    else:
        _show(terminal, msgspec.convert(children, list[Task]))
    if any(child["state"] != "done" for child in children):
        raise typer.Exit(ExitCode.FAILED)


def _show(terminal: Terminal, children: list[Task]) -> None:
    """Each VM and how it ended, what went wrong last, where it is seen."""
    children.sort(key=lambda c: (c.state != "done", c.host_id, c.vm_name or ""))
    rows: list[list[Value]] = []
    for child in children:
        why = child.problem.detail if child.problem else ""
        vm = f"{child.host_id}/{child.vm_name}"
        rows.append([vm, words.state(child.state), why])
    if not rows:
        terminal.say("No VM fits.")
        return
    terminal.table((Column("VM", style="bold"), Column("STATE"), Column("")), rows)
    advice = {c.problem.advice for c in children if c.problem and c.problem.advice}
    for words_of_it in sorted(advice):
        terminal.say(words_of_it)


def declare(app: typer.Typer) -> None:
    for name, (action, help) in COMMANDS.items():
        command(app, name)(_of(action, help))
