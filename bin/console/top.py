"""``virtumancer top``: what the running VMs of the fleet take, as it is measured."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Final

import typer
from msgspec import Struct
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from common.shapes import VmStats, VmStatsPayload
from console import vms, words
from console.api import shaped
from console.failures import Unusable
from console.fleet import Fleet
from console.live import Cut, Frame, Linked, Socket
from console.tables import Cell, Column, Value, flat_table_of, plain, show_table, write
from console.terminal import Terminal

TICK_S: Final = 0.5
MOST: Final = 1000
"""The API lets a socket watch so many VMs."""
FIRST_S: Final = 5.0
"""One picture waits so long for a second sample of each VM, which its rates need."""
FRAME_LINES: Final = 4
RUNNING: Final = (1, 2)
SORTS: Final = ("cpu", "memory", "disk", "net", "name")

COLUMNS = (
    Column("HOST"),
    Column("VM", style="bold"),
    Column("CPU %", right=True),
    Column("OF", right=True),
    Column("MEMORY", right=True),
    Column("READ/s", right=True),
    Column("WRITE/s", right=True),
    Column("IN/s", right=True),
    Column("OUT/s", right=True),
)
Address = tuple[str, str]


class Load(Struct, frozen=True):
    """What one VM takes, with all its disks and NICs together."""

    cpu_percent: float | None
    memory_kib: int
    disk: tuple[float | None, float | None]
    net: tuple[float | None, float | None]
    stats: VmStats


def load_of(stats: VmStats) -> Load:
    disks, nics = stats.disk_stats, stats.net_stats
    return Load(
        stats.cpu_percent,
        stats.memory,
        (
            _sum([disk.read_bytes_per_s for disk in disks]),
            _sum([disk.write_bytes_per_s for disk in disks]),
        ),
        (
            _sum([nic.read_bytes_per_s for nic in nics]),
            _sum([nic.write_bytes_per_s for nic in nics]),
        ),
        stats,
    )


def _sum(rates: list[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


class Loads:
    """The last sample of every VM that runs, asked for as VMs start and end."""

    def __init__(self, fleet: Fleet) -> None:
        self.last: dict[Address, Load] = {}
        self._fleet = fleet
        self.watched: list[Address] = []
        self.left_out = 0

    def opening(self) -> list[Frame]:
        """What to send whenever the socket opens."""
        asked = [_asking("subscribe-vm-stats", vm) for vm in self.watched]
        return [self._fleet.subscription(["vms"]), *asked]

    def choose(self) -> list[Frame]:
        """Watch what runs now; what is to be said for that."""
        running = sorted(
            (vm.host_id, vm.name)
            for vm in self._fleet.vms.values()
            if vm.state in RUNNING
        )
        self.left_out = max(0, len(running) - MOST)
        wanted = running[:MOST]
        gone = set(self.watched).difference(wanted)
        new = set(wanted).difference(self.watched)
        self.watched = wanted
        for vm in gone:
            self.last.pop(vm, None)
        return [
            *(_asking("unsubscribe-vm-stats", vm) for vm in sorted(gone)),
            *(_asking("subscribe-vm-stats", vm) for vm in sorted(new)),
        ]

    def sampled(self, payload: Any) -> None:
        sample = shaped(payload, VmStatsPayload)
        address = (sample.host_id, sample.vm_name)
        if address in self.watched:
            self.last[address] = load_of(sample.stats)

    @property
    def complete(self) -> bool:
        """Whether the rates of all are known."""
        loads = [self.last.get(vm) for vm in self.watched]
        return all(load and load.cpu_percent is not None for load in loads)

    def rows(self, sort: str) -> list[list[Value]]:
        found = sorted(self.last.items(), key=lambda one: _key(sort, *one))
        return [_row(address, load) for address, load in found]


def _asking(kind: str, vm: Address) -> Frame:
    return {"type": kind, "payload": {"hostId": vm[0], "vmName": vm[1]}}


def _key(sort: str, address: Address, load: Load) -> tuple[Any, ...]:
    amount = {
        "cpu": load.cpu_percent,
        "memory": load.memory_kib,
        "disk": _sum(list(load.disk)),
        "net": _sum(list(load.net)),
        "name": 0,
    }[sort]
    return (-(amount or 0), address)


def _row(address: Address, load: Load) -> list[Value]:
    cpu = load.cpu_percent
    busy = cpu is not None and cpu > 80 * max(1, load.stats.vcpu)
    return [
        *address,
        "" if cpu is None else Cell(f"{cpu:.1f}", "bold red" if busy else ""),
        100 * load.stats.vcpu,
        words.size(load.memory_kib * 1024),
        *(words.size(rate) for rate in (*load.disk, *load.net)),
    ]


def top(
    terminal: Terminal,
    *,
    host: vms.Host = None,
    name: vms.Name = None,
    sort: Annotated[str, typer.Option(help="cpu, memory, disk, net or name.")] = "cpu",
    once: Annotated[
        bool, typer.Option("--once", help="One picture, as soon as rates are known.")
    ] = False,
) -> None:
    """Show what running VMs take, until Ctrl-C; into a pipe a table every few seconds.

    100 % is one virtual CPU that is busy all the time; READ and WRITE are of all its
    disks, IN and OUT of all its NICs.
    """
    if sort not in SORTS:
        raise Unusable(
            f"Nothing is sorted by {sort}", f"There are: {', '.join(SORTS)}."
        )
    fleet = Fleet(terminal.api, host, name)
    fleet.read()
    loads = Loads(fleet)
    loads.choose()
    with suppress(KeyboardInterrupt), Socket(terminal.api, loads.opening) as socket:
        feed = Feed(socket, loads, fleet)
        if once:
            _once(terminal, feed, sort)
        elif terminal.live:
            _screen(terminal, feed, sort)
        else:
            _stream(terminal, feed, sort)


class Feed:
    """What the socket tells, taken in."""

    def __init__(self, socket: Socket, loads: Loads, fleet: Fleet) -> None:
        self.loads = loads
        self.fleet = fleet
        self.cut: Cut | None = None
        self._socket = socket

    def turn(self) -> Iterator[Any]:
        """The samples of one tick; then VMs that started meanwhile are watched too."""
        until = time.monotonic() + TICK_S
        is_changed = False
        while (left_s := until - time.monotonic()) > 0:
            event = self._socket.next(left_s)
            if isinstance(event, Cut):
                self.cut = event
            elif isinstance(event, Linked):
                self.cut = None
            elif event and event["type"] == "vm-stats-updated":
                self.loads.sampled(event["payload"])
                yield event["payload"]
            elif event:
                self.fleet.told(event)
                is_changed = True
        if is_changed:
            for frame in self.loads.choose():
                self._socket.send(frame)


def _once(terminal: Terminal, feed: Feed, sort: str) -> None:
    until = time.monotonic() + FIRST_S
    samples: dict[Address, Any] = {}
    while not feed.loads.complete and time.monotonic() < until:
        for sample in feed.turn():
            samples[(sample["hostId"], sample["vmName"])] = sample
    if terminal.json:
        terminal.value(list(samples.values()))
    else:
        terminal.table(COLUMNS, feed.loads.rows(sort))
        if not feed.loads.watched:
            terminal.say("No VM runs.")


def _stream(terminal: Terminal, feed: Feed, sort: str) -> None:
    """Into a pipe: each sample as JSON, or a table now and then."""
    until = time.monotonic() + FIRST_S
    while True:
        for sample in feed.turn():
            if terminal.json:
                terminal.line(sample)
        if not terminal.json and time.monotonic() >= until:
            until += FIRST_S
            show_table(terminal.out, COLUMNS, feed.loads.rows(sort))
            write(terminal.out, [""])


def _screen(terminal: Terminal, feed: Feed, sort: str) -> None:
    def drawn() -> RenderableType:
        rows = feed.loads.rows(sort)
        room = max(3, terminal.out.height - FRAME_LINES)
        parts: list[RenderableType] = [_head(feed)]
        parts.append(flat_table_of(COLUMNS, rows[:room]))
        hidden = max(0, len(rows) - room) + feed.loads.left_out
        if hidden:
            parts.append(Text(f"… and {hidden} more; --host and --name show fewer"))
        return Group(*parts)

    with Live(drawn(), console=terminal.out, auto_refresh=False, screen=True) as live:
        while True:
            for _ in feed.turn():
                continue
            live.update(drawn(), refresh=True)


def _head(feed: Feed) -> Text:
    loads = feed.loads
    cpu = _sum([load.cpu_percent for load in loads.last.values()]) or 0
    memory = sum(load.memory_kib for load in loads.last.values()) * 1024
    all_vms = words.count(len(feed.fleet.vms), "VM")
    text = Text(
        f"{len(loads.watched) + loads.left_out} of {all_vms} run; together"
        f" {cpu:.0f} % CPU, {words.size(memory)}",
        style="bold",
    )
    if feed.cut:
        why = plain(feed.cut.why)
        text.append(f"  link lost, trying again: {why}", style="bold red")
    return text
