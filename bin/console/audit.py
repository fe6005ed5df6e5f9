"""``virtumancer audit``: who did what to which VM, and how it ended."""

from typing import Annotated

import typer

from common.shapes import AuditEntry
from console import completion, words
from console.tables import Cell, Column, Value
from console.terminal import Terminal

COLUMNS = (
    Column("WHEN", whole=True),
    Column("WHO", style="bold"),
    Column("FROM"),
    Column("WHAT"),
    Column("OF"),
    Column("HOW"),
)
STYLES = {"refused": "red", "outside": "yellow"}


def audit(
    terminal: Terminal,
    by: Annotated[str | None, typer.Option(help="By the token of this name.")] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Of this host.", autocompletion=completion.hosts),
    ] = None,
    vm: Annotated[str | None, typer.Option(help="Of this VM: name or UUID.")] = None,
    event: Annotated[
        str | None, typer.Option(help="asked, ended, done, refused, outside.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many.")] = 50,
) -> None:
    """Who did what, the newest first; `outside`: somebody else did."""
    filters = {"token": by, "host": host, "vm": vm, "event": event}
    answer = terminal.api.get("/api/audit", **filters, limit=limit)
    if terminal.json:
        terminal.value(answer.body)
        return
    terminal.table(COLUMNS, [_row(entry) for entry in answer.of(list[AuditEntry])])
    if answer.following:
        terminal.say(f"There are more; --limit shows more than {limit}.")


def _row(entry: AuditEntry) -> list[Value]:
    times = f" ({entry.times} times)" if entry.times > 1 else ""
    return [
        words.ago(entry.at),
        entry.token or ("virsh?" if entry.event == "outside" else "a stranger"),
        entry.address,
        (entry.action or f"{entry.method or ''} {entry.route or ''}".strip()) + times,
        "/".join(filter(None, (entry.host_id, entry.vm_name))),
        _how(entry),
    ]


def _how(entry: AuditEntry) -> Cell:
    facts = (entry.outcome or entry.event, entry.problem, entry.detail)
    text = ": ".join(fact for fact in facts if fact)
    return Cell(text, STYLES.get(entry.event, ""))
