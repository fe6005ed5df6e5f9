"""``virtumancer overview``: the fleet in numbers."""

from common.shapes import Amount, HostOverview, Overview
from console import words
from console.tables import Cell, Column, Value
from console.terminal import Terminal

COLUMNS = (
    Column("HOST", style="bold"),
    Column("STATE"),
    Column("VMS", right=True),
    Column("RUNNING", right=True),
    Column("VCPUS", right=True),
    Column("OF CPUS", right=True),
    Column("MEMORY", right=True),
    Column("OF", right=True),
    Column("GIVEN OUT", right=True),
)
RUNNING = ("1", "2")


def overview(terminal: Terminal) -> None:
    """Count hosts and VMs; what is given out to VMs that are on, of what there is."""
    answer = terminal.api.get("/api/overview")
    if terminal.json:
        terminal.value(answer.body)
        return
    fleet = answer.of(Overview)
    rows = [_row(host) for host in fleet.by_host]
    total: list[Value] = [
        Cell("all", "bold"),
        _counts(fleet.hosts_by_state),
        fleet.vms,
        _running(fleet.vms_by_state),
        *_amounts(fleet.vcpus, fleet.memory_bytes, _share(fleet.by_host)),
    ]
    terminal.table(COLUMNS, [*rows, total])


def _row(host: HostOverview) -> list[Value]:
    return [
        host.id,
        words.state(host.state),
        host.vms,
        _running(host.vms_by_state),
        *_amounts(host.vcpus, host.memory_bytes, _share([host])),
    ]


def _running(states: dict[str, int]) -> int:
    return sum(states.get(number, 0) for number in RUNNING)


def _share(hosts: list[HostOverview]) -> float | None:
    """How much of the memory is given out, of hosts whose memory is known."""
    known = [host.memory_bytes for host in hosts if host.memory_bytes.there]
    there = sum(memory.there or 0 for memory in known)
    return sum(memory.active for memory in known) / there if there else None


def _amounts(vcpus: Amount, memory: Amount, share: float | None) -> list[Value]:
    return [
        vcpus.active,
        vcpus.there,
        words.size(memory.active),
        words.size(memory.there),
        "" if share is None else Cell(f"{share:.0%}", "red" if share > 1 else ""),
    ]


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
