"""Floors and clients are processes of their own, asked line by line.

``serve`` runs in the script, ``Script`` is its other end.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

TOP = Path(__file__).parent.parent.parent


class Script:
    """``python -m bench.scripts.NAME`` with its arguments; ends with the block."""

    def __init__(self, name: str, *arguments: object) -> None:
        path = [str(TOP), str(TOP / "bin")]
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *(sys.executable, "-m", f"bench.scripts.{name}", *map(str, arguments)),
            ],
            cwd=TOP,
            env={**os.environ, "PYTHONPATH": ":".join(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hello: Any = self._read()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: str, **parameters: object) -> Any:
        self.tell(what, **parameters)
        return self._read()

    def tell(self, what: str, **parameters: object) -> None:
        """Ask, and fetch the answer later with ``answer``."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([what, parameters]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the script ended; what it said stands above"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        # Closes the pipes too.
        self._process.communicate()


def serve(hello: Any = None, **answers: Callable[..., Any]) -> None:
    """Say hello, then answer each line until the other end is gone."""
    say(hello)
    for line in sys.stdin:
        what, parameters = json.loads(line)
        say(answers[what](**parameters))


def say(value: Any) -> None:
    """To the other end."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


CPU_CLOCK = 2
"""CPUCLOCK_SCHED of posix-timers.h: all threads of a process, also those that ended."""


def cpu_s(pid: int) -> float:
    """The CPU time that a process has taken, its threads together."""
    return time.clock_gettime(~pid << 3 | CPU_CLOCK)


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024
