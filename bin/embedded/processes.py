"""Processes seen from outside: families, leftovers, signals, conditions."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PROC = Path("/proc")


def wait_until(condition: Callable[[], object], timeout_s: float) -> bool:
    """Whether the condition came true in time; looks every few milliseconds."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.002
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)
    return True


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    state = _stat(pid)
    return state is not None and state[0] not in "ZX"


def family(pid: int) -> list[int]:
    """The process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for other in _pids():
        if state := _stat(other):
            children.setdefault(int(state[1]), []).append(other)
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def of_folder(folder: Path) -> list[int]:
    """Processes that work in the folder or have their HOME in it.

    Two marks, since Postgres and Redis overwrite their environment with a title,
    and libvirt starts QEMU in `/` with a HOME beside its sockets.
    """
    return [
        pid
        for pid in _pids()
        if pid != os.getpid()
        and alive(pid)
        and (_inside(_working_folder(pid), folder) or _inside(_home(pid), folder))
    ]


def tagged(name: str, value: str) -> list[int]:
    """Processes that were started with this variable in their environment."""
    mark = f"{name}={value}".encode()
    return [
        pid
        for pid in _pids()
        if pid != os.getpid() and alive(pid) and mark in _environment(pid)
    ]


def program(pid: int) -> str:
    """The file name of the program a process runs, empty when it is gone."""
    try:
        return (PROC / str(pid) / "exe").readlink().name
    except OSError:
        return ""


def send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(find: Callable[[], list[int]], patience_s: float) -> None:
    """SIGTERM to what `find` finds, and SIGKILL to what is still there then."""
    send(find(), signal.SIGTERM)
    if not wait_until(lambda: not find(), patience_s):
        send(find(), signal.SIGKILL)
        wait_until(lambda: not find(), patience_s)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208


def _stat(pid: int) -> list[str] | None:
    """State, parent and so on: what follows the name in /proc/PID/stat."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _working_folder(pid: int) -> Path | None:
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _home(pid: int) -> Path | None:
    for entry in _environment(pid):
        if entry.startswith(b"HOME="):
            return Path(os.fsdecode(entry[5:]))
    return None


def _inside(path: Path | None, folder: Path) -> bool:
    return path is not None and (path == folder or folder in path.parents)
