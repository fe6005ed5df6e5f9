"""``virtumancer tasks``: what was asked of the hosts, and how it ended."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from common.shapes import Problem, Task
from console import completion, words
from console.api import path_of
from console.commands import command, default, group
from console.failures import Refused
from console.tables import Column, Value
from console.terminal import Terminal

app = group(help="Tasks: list, look at, wait for, cancel.")

TaskId = Annotated[str, typer.Argument(metavar="TASK")]

COLUMNS = (
    Column("TASK", whole=True),
    Column("WHAT", style="bold"),
    Column("OF"),
    Column("STATE"),
    Column("ASKED"),
    Column("BY"),
    Column("PROBLEM"),
)


@command(app, "list")
def list_tasks(
    terminal: Terminal,
    host: Annotated[
        str | None,
        typer.Option(help="Of this host.", autocompletion=completion.hosts),
    ] = None,
    vm: Annotated[str | None, typer.Option(help="Of this VM: name or UUID.")] = None,
    state: Annotated[
        str | None,
        typer.Option(help="queued, running, done, failed, interrupted, cancelled."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="start, sync_host, …")] = None,
    parent: Annotated[
        str | None, typer.Option(help="The children of this task.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many.")] = 30,
) -> None:
    """List what was asked, the newest first."""
    answer = terminal.api.get(
        "/api/tasks",
        host=host,
        vm=vm,
        state=state,
        kind=kind,
        parent=parent,
        limit=limit,
    )
    if terminal.json:
        terminal.value(answer.body)
        return
    terminal.table(COLUMNS, [row_of(task) for task in answer.of(list[Task])])
    if answer.following:
        terminal.say(f"There are more; --limit shows more than {limit}.")


default(app, list_tasks)


def row_of(task: Task) -> list[Value]:
    return [
        str(task.id),
        what_of(task),
        subject_of(task),
        words.state(task.state),
        words.ago(task.created_at),
        task.requested_by,
        task.problem.detail if task.problem else task.waits_for,
    ]


def what_of(task: Task) -> str:
    """What is done; of many VMs, what is done to each."""
    return (task.progress and task.progress.action) or task.kind


def subject_of(task: Task) -> str:
    """What a task is about."""
    if task.progress:
        return words.count(task.progress.total, "VM")
    return f"{task.host_id}/{task.vm_name}" if task.vm_name else task.host_id


@command(app, "show")
def show(
    terminal: Terminal,
    task: TaskId,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
) -> None:
    """Look at a task."""
    found = terminal.api.get(path_of("tasks", task)).of(Task)
    if wait:
        [found] = awaited(terminal, [found], found.kind)
    if terminal.json:
        terminal.value(found)
        return
    facts: Sequence[tuple[str, Value]] = (
        ("task", str(found.id)),
        ("what", what_of(found)),
        ("of", subject_of(found)),
        ("state", words.state(found.state)),
        ("asked by", found.requested_by),
        ("asked", f"{found.created_at:%F %T} ({words.ago(found.created_at)})"),
        ("begun", words.ago(found.started_at)),
        ("ended", words.ago(found.ended_at)),
        ("waits for", found.waits_for),
        ("part of", str(found.parent_id or "")),
        ("progress", _progress_of(found)),
        ("attempts", found.attempts),
        ("problem", found.problem.title if found.problem else ""),
        ("", found.problem.detail if found.problem else ""),
        ("what to do", (found.problem.advice or "") if found.problem else ""),
    )
    terminal.facts(facts)


def _progress_of(task: Task) -> str:
    p = task.progress
    if p is None:
        return ""
    counts = {
        "done": p.done,
        "failed": p.failed,
        "interrupted": p.interrupted,
        "cancelled": p.cancelled,
    }
    ended = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"of {p.total}: {ended or 'none has ended'}"


@command(app, "cancel")
def cancel(terminal: Terminal, task: TaskId) -> None:
    """Cancel what has not begun: a task, or those of its children that wait."""
    answer = terminal.api.change("DELETE", path_of("tasks", task))
    if terminal.json:
        terminal.value(answer.body)
    else:
        terminal.table(COLUMNS, [row_of(answer.of(Task))])


def awaited(terminal: Terminal, tasks: Sequence[Task], what: str) -> list[Task]:
    """The tasks when they have ended, with one bar for all meanwhile."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[counts]}", markup=False),
        console=terminal.err,
        transient=True,
        disable=terminal.json or not terminal.err.is_terminal,
    )
    with bar:
        line = bar.add_task(what, total=None, counts="")
        known = list(tasks)
        for at, task in enumerate(tasks):
            for known[at] in terminal.api.wait(task, interval_s=0.3):
                bar.update(line, **_measure(known))
    return known


def _measure(tasks: Sequence[Task]) -> dict[str, Any]:
    """How far the bar is, and the words behind it."""
    counted = [task.progress for task in tasks if task.progress]
    if not counted:
        waits = {task.waits_for for task in tasks if task.waits_for}
        return {"counts": ", ".join(sorted(waits))}
    total = sum(p.total for p in counted)
    done = sum(p.done for p in counted)
    ended = done + sum(p.failed + p.interrupted + p.cancelled for p in counted)
    bad = f", {ended - done} not done" if ended > done else ""
    return {"total": total, "completed": ended, "counts": f"{ended} of {total}{bad}"}


def follow(terminal: Terminal, task: Task, what: str) -> Task:
    """The task when it is done; a failure if it does not get there."""
    [ended] = awaited(terminal, [task], what)
    if ended.state != "done":
        raise Refused(ended.problem or _unexplained(ended))
    return ended


def _unexplained(task: Task) -> Problem:
    return Problem(
        type="", title=f"The task is {task.state}", status=500, detail=str(task.id)
    )
