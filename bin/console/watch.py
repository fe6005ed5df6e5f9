"""``virtumancer watch``: the VMs of the fleet as they change, also over a cut."""

import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from common.power import VERBS
from common.shapes import Host, Task, Vm
from console import vms, words
from console.failures import Unusable
from console.fleet import Fleet
from console.live import Cut, Frame, Linked, Socket
from console.tables import Cell, Column, Value, flat_table_of, plain, write
from console.tasks import subject_of, what_of
from console.terminal import Terminal

TICK_S: Final = 0.25
RECENT: Final = 5
"""So many ended tasks are shown under the VMs."""
HOST_LINES: Final = 3
FRAME_LINES: Final = 5 + HOST_LINES
"""Of the screen, for everything that is no VM."""
COLUMNS = (
    Column("HOST"),
    Column("VM", style="bold"),
    Column("STATE"),
    Column("VCPUS", right=True),
    Column("MEMORY", right=True),
    Column("TASK"),
    Column("TITLE"),
)


def watch(
    terminal: Terminal,
    *,
    host: vms.Host = None,
    name: vms.Name = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="CURSOR", help="With --json: tell first what came after this."
        ),
    ] = None,
) -> None:
    """Show VMs as they change, until Ctrl-C; nothing is missed over a lost link.

    Behind a state, ? says that it is the last one known: the host does not answer.

    Into a pipe goes a line for each change; with --json each frame as the API sends it,
    whose `cursor` is what --since takes.
    """
    if name and terminal.json:
        raise Unusable("--name is not for --json", "", "Choose among the frames.")
    if since and not terminal.json:
        raise Unusable("--since is for --json", "", "Add --json.")
    fleet = Fleet(terminal.api, host, name)
    if terminal.json:
        _frames(terminal, fleet, since)
        return
    fleet.read()
    with (
        suppress(KeyboardInterrupt),
        Socket(terminal.api, lambda: [fleet.subscription()]) as socket,
    ):
        if terminal.live:
            _screen(terminal, socket, fleet)
        else:
            _lines(terminal, socket, fleet)


def _frames(terminal: Terminal, fleet: Fleet, since: str | None) -> None:
    fleet.cursor = since
    with (
        suppress(KeyboardInterrupt),
        Socket(terminal.api, lambda: [fleet.subscription()]) as socket,
    ):
        while True:
            event = socket.next(TICK_S)
            if not isinstance(event, dict) or event["type"] in _OF_THE_CONTRACT:
                continue
            if "cursor" in event:
                fleet.cursor = event["cursor"]
            terminal.line(event)


_OF_THE_CONTRACT: Final = ("hosts-changed", "vms-changed")
"""They only say that something has changed, which is told in full anyway."""


def _lines(terminal: Terminal, socket: Socket, fleet: Fleet) -> None:
    shown = {key: vm.state for key, vm in fleet.vms.items()}
    while True:
        event = socket.next(TICK_S)
        if isinstance(event, Cut):
            terminal.say(f"The link was lost ({event.why}); trying again.")
        if not isinstance(event, dict):
            continue
        changed = fleet.told(event)
        if changed is None:
            continue
        key = (changed.host_id, changed.uuid) if isinstance(changed, Vm) else None
        if isinstance(changed, Vm) and key:
            if key in fleet.vms and shown.get(key) == changed.state:
                continue
            shown[key] = changed.state
        line = _line(event, changed)
        write(terminal.out, [plain(f"{datetime.now():%F %T}  {line}")])


def _line(event: Frame, changed: Vm | Host | Task) -> str:
    gone = event["type"].endswith("-removed")
    match changed:
        case Vm():
            state = "removed" if gone else words.vm_state(changed.state).text
            return f"vm    {changed.host_id}/{changed.name}  {state}"
        case Host():
            return f"host  {changed.id}  {'removed' if gone else changed.state}"
        case Task():
            why = f"  {changed.problem.detail}" if changed.problem else ""
            subject = subject_of(changed)
            return f"task  {subject}  {what_of(changed)} {changed.state}{why}"


class _Screen:
    """What is drawn: hosts that do not answer, VMs, tasks that have ended."""

    def __init__(self, terminal: Terminal, fleet: Fleet) -> None:
        self._out = terminal.out
        self._fleet = fleet
        self._changed: dict[object, float] = {}
        self._ended: deque[Task] = deque(maxlen=RECENT)
        self.cut: Cut | None = None

    def note(self, changed: Vm | Host | Task | None) -> None:
        if isinstance(changed, Vm):
            self._changed[(changed.host_id, changed.uuid)] = time.monotonic()
        elif isinstance(changed, Task) and changed.ended_at:
            self._ended.appendleft(changed)

    def drawn(self) -> RenderableType:
        shown, hidden = self._chosen()
        table = flat_table_of(COLUMNS, [self._row(vm) for vm in shown])
        parts: list[RenderableType] = [self._head(), *self._hosts(), table]
        if hidden:
            parts.append(Text(f"… and {hidden} more; --host and --name show fewer"))
        return Group(*parts, *self._tasks())

    def _chosen(self) -> tuple[list[Vm], int]:
        """As many VMs as the screen has room for: those that changed last."""
        room = max(3, self._out.height - FRAME_LINES - len(self._ended))
        found = sorted(self._fleet.vms.values(), key=lambda vm: (vm.host_id, vm.name))
        if len(found) > room:
            found.sort(key=lambda vm: -self._changed.get((vm.host_id, vm.uuid), 0))
        return found[:room], max(0, len(found) - room)

    def _row(self, vm: Vm) -> list[Value]:
        task = self._fleet.busy(vm)
        doing = f"{task.kind} {task.state}" if task and task.kind in VERBS else ""
        row = vms.row_of(vm)
        return [*row[:5], Cell(doing, "cyan"), vm.title]

    def _head(self) -> Text:
        fleet = self._fleet
        running = sum(vm.state in (1, 2) for vm in fleet.vms.values())
        hosts = words.count(len(fleet.hosts), "host")
        head = f"{words.count(len(fleet.vms), 'VM')}, {running} running, on {hosts}"
        text = Text(f"{datetime.now():%T}  {head}", style="bold")
        if self.cut:
            words_of_it = f"  link lost, trying again: {plain(self.cut.why)}"
            text.append(words_of_it, style="bold red")
        return text

    def _hosts(self) -> list[Text]:
        texts = []
        for host in self._fleet.hosts.values():
            if host.state != "connected":
                why = f": {host.error.detail}" if host.error else ""
                style = words.state(host.state).style
                texts.append(Text(plain(f"{host.id} is {host.state}{why}"), style))
        hidden = len(texts) - HOST_LINES
        more = [Text(f"… and {words.count(hidden, 'host')} more")] if hidden > 0 else []
        return texts[:HOST_LINES] + more

    def _tasks(self) -> list[Text]:
        texts = []
        for task in self._ended:
            why = f": {task.problem.detail}" if task.problem else ""
            said = f"{what_of(task)} of {subject_of(task)} {task.state}{why}"
            texts.append(Text(plain(said), words.state(task.state).style))
        return texts


def _screen(terminal: Terminal, socket: Socket, fleet: Fleet) -> None:
    screen = _Screen(terminal, fleet)
    live = Live(
        screen.drawn(),
        console=terminal.out,
        auto_refresh=False,
        screen=True,
        vertical_overflow="crop",
    )
    with live:
        while True:
            until = time.monotonic() + TICK_S
            while (left_s := until - time.monotonic()) > 0:
                event = socket.next(left_s)
                if isinstance(event, dict):
                    screen.note(fleet.told(event))
                elif isinstance(event, Cut):
                    screen.cut = event
                elif isinstance(event, Linked):
                    screen.cut = None
            live.update(screen.drawn(), refresh=True)
