"""``virtumancer hosts``: the physical machines."""

from typing import Annotated

import typer

from common.shapes import Host, HostCheck, Task
from console import completion, words
from console.api import path_of, shaped
from console.commands import command, default, group
from console.failures import ExitCode
from console.tables import Cell, Column
from console.tasks import follow
from console.terminal import Terminal

app = group(help="Hosts: list, add, check, connect, remove.")

HostId = Annotated[str, typer.Argument(metavar="HOST", autocompletion=completion.hosts)]
Uri = Annotated[str, typer.Argument(metavar="URI", help="For example qemu+ssh://…")]

COLUMNS = (
    Column("HOST", style="bold"),
    Column("STATE"),
    Column("SINCE"),
    Column("URI"),
    Column("PROBLEM"),
)


@command(app, "list")
def list_hosts(terminal: Terminal) -> None:
    """List the hosts, and how the link to each stands."""
    answer = terminal.api.all("/api/hosts")
    if terminal.json:
        terminal.value(answer.body)
        return
    terminal.table(COLUMNS, [_row(host) for host in answer.of(list[Host])])


default(app, list_hosts)


def _row(host: Host) -> list[Cell | str]:
    return [
        host.id,
        words.state(host.state),
        words.ago(host.state_since),
        host.uri,
        host.error.detail if host.error else "",
    ]


def _show(terminal: Terminal, host: Host, body: object) -> None:
    if terminal.json:
        terminal.value(body)
        return
    terminal.table(COLUMNS, [_row(host)])


@command(app, "add")
def add(terminal: Terminal, host: HostId, uri: Uri) -> None:
    """Connect to a host and keep it."""
    answer = terminal.api.change("POST", "/api/hosts", {"id": host, "uri": uri})
    if answer.status == 202:
        follow(terminal, answer.of(Task), f"connecting to {host}")
        answer = terminal.api.get(path_of("hosts", host))
    _show(terminal, answer.of(Host), answer.body)


@command(app, "move")
def move(terminal: Terminal, host: HostId, uri: Uri) -> None:
    """Reach the same host by another URI; if that fails, all stays as it was."""
    path = path_of("hosts", host)
    answer = terminal.api.change("PATCH", path, {"uri": uri})
    if answer.status == 202:
        follow(terminal, answer.of(Task), f"connecting to {host}")
        answer = terminal.api.get(path)
    _show(terminal, answer.of(Host), answer.body)


@command(app, "rm")
def remove(terminal: Terminal, host: HostId) -> None:
    """Forget a host; nothing on it is changed."""
    terminal.api.change("DELETE", path_of("hosts", host))
    terminal.say(f"{host} is removed.")


@command(app, "connect")
def connect(terminal: Terminal, host: HostId) -> None:
    """Use a host again that was disconnected."""
    answer = terminal.api.change("POST", path_of("hosts", host, "connect"))
    _show(terminal, answer.of(Host), answer.body)


@command(app, "disconnect")
def disconnect(terminal: Terminal, host: HostId) -> None:
    """Leave a host alone until `connect`."""
    answer = terminal.api.change("POST", path_of("hosts", host, "disconnect"))
    _show(terminal, answer.of(Host), answer.body)


@command(app, "sync")
def sync(terminal: Terminal, host: HostId) -> None:
    """Look at all VMs of a host now."""
    answer = terminal.api.change("POST", path_of("hosts", host, "sync"))
    if answer.status == 202:
        follow(terminal, answer.of(Task), f"looking at {host}")
    terminal.say(f"All VMs of {host} have been looked at.")


@command(app, "check")
def check(
    terminal: Terminal,
    uri: Annotated[
        str, typer.Argument(metavar="URI|HOST", autocompletion=completion.hosts)
    ],
) -> None:
    """Try every step on the way to a host, and say what to do where it ends.

    Nothing is saved. In place of the URI the id of a host that is there may stand.
    """
    api = terminal.api
    if "://" not in uri:
        uri = api.get(path_of("hosts", uri)).of(Host).uri
    answer = api.change("POST", "/api/hosts/check", {"uri": uri})
    body = answer.body
    if answer.status == 202:
        body = follow(terminal, answer.of(Task), f"checking {uri}").result
    checked = shaped(body, HostCheck)
    if terminal.json:
        terminal.value(body)
    else:
        _steps(terminal, checked)
    if not checked.ok:
        raise typer.Exit(ExitCode.FAILED)


def _steps(terminal: Terminal, checked: HostCheck) -> None:
    lacking = Cell("lacks", "yellow") if checked.ok else Cell("FAILS", "bold red")
    rows: list[list[Cell | str]] = []
    for step in checked.steps:
        mark = Cell("ok", "green") if step.ok else lacking
        rows.append([mark, step.name, step.detail])
        if step.fix:
            rows.append(["", "fix", Cell(step.fix, "bold")])
    terminal.table((Column(""), Column("STEP", style="bold"), Column("")), rows)
    if checked.ok:
        terminal.say("The host can be added.")
