"""States, sizes and times in words."""

from datetime import UTC, datetime
from typing import Final

from console.tables import Cell

VM_STATES: Final = {
    0: Cell("no state", "yellow"),
    1: Cell("running", "green"),
    2: Cell("blocked", "green"),
    3: Cell("paused", "yellow"),
    4: Cell("shutting down", "yellow"),
    5: Cell("off", "dim"),
    6: Cell("crashed", "red"),
    7: Cell("asleep", "yellow"),
}
"""virDomainState's numbers."""

STYLES: Final = {
    "connected": "green",
    "connecting": "yellow",
    "unreachable": "red",
    "disabled": "dim",
    "queued": "yellow",
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "interrupted": "red",
    "cancelled": "dim",
}
"""Of hosts' and tasks' states."""


def vm_state(number: int) -> Cell:
    return VM_STATES.get(number, Cell(str(number)))


def vm_state_number(word: str) -> int | None:
    """The number of a state by its word, or by itself."""
    if word.isdecimal() and int(word) in VM_STATES:
        return int(word)
    for number, cell in VM_STATES.items():
        if cell.text.replace(" ", "-") == word.lower().replace(" ", "-"):
            return number
    return None


def state(word: str) -> Cell:
    return Cell(word, STYLES.get(word, ""))


def size(number: float | None) -> str:
    """Bytes, in the largest unit that leaves something before the point."""
    if number is None:
        return ""
    units = iter(("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    unit = next(units)
    while abs(number) >= 1000 and (larger := next(units, None)):
        number, unit = number / 1024, larger
    return f"{number:.0f} {unit}" if abs(number) >= 100 else f"{number:.3g} {unit}"


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def span(seconds: float) -> str:
    """So long, in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def ago(instant: datetime | None) -> str:
    if instant is None:
        return ""
    return f"{span((datetime.now(UTC) - instant).total_seconds())} ago"


YES: Final = {True: "yes", False: "no"}
