"""What all private servers have in common: a folder, a process, a beginning, an end.

They run as an ordinary user, die with the process (in fact the thread) that started
them, and start again from the same folder after `kill -9`.
"""

import signal
import subprocess
from pathlib import Path
from typing import IO, Self

from embedded.accounts import dropping, ordinary
from embedded.folders import private
from embedded.processes import (
    alive,
    end,
    family,
    of_folder,
    program,
    send,
    wait_until,
)

# A log longer than this is dropped at the next start.
LOG_BYTES = 4 * 1024 * 1024


class ServerError(Exception):
    """A private server that does not start; the words hold its last lines."""


class Server:
    """One server process with a folder of its own.

    Subclasses say how to prepare the folder, the command that runs in the
    foreground, and how to tell that it answers.
    """

    name: str
    stop_signal = signal.SIGTERM
    start_timeout_s = 60.0
    stop_timeout_s = 5.0

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self.log = self.folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Bring the folder into a state from which `launch` can go ahead."""
        private(self.folder)
        end(self.leftovers, patience_s=5)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.unlink()

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "TZ": "UTC",
            "USER": ordinary().name,
        }

    def leftovers(self) -> list[int]:
        """Processes of an earlier run that are in the way of the next."""
        return [
            pid
            for pid in of_folder(self.folder)
            if program(pid) == self.program and pid not in self.pids
        ]

    @property
    def program(self) -> str:
        return Path(self.command()[0]).resolve().name

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError(f"{self.name} has not been started")
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pids(self) -> list[int]:
        """The server's process and its children, empty when it does not run."""
        return family(self.process.pid) if self.running else []

    def launch(self, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it to answer."""
        self._process = subprocess.Popen(
            dropping(ordinary()) + self.command(),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self._process

    def start(self) -> Self:
        """Start, and return when the server answers."""
        self.prepare()
        with self.log.open("ab") as log:
            self.launch(log)
        self.wait()
        return self

    def wait(self) -> None:
        """Return when the server answers; fail when it ended or takes too long."""
        answered = wait_until(
            lambda: not self.running or self.answers(), self.start_timeout_s
        )
        if answered and self.running:
            return
        why = "does not answer" if self.running else "ended"
        self.kill()
        raise ServerError(f"{self.name} {why}:\n{self._last_lines()}")

    def stop(self) -> None:
        """End the server in order, by force when it takes too long."""
        if self.running:
            self.resume()
            send([self.process.pid], self.stop_signal)
            wait_until(lambda: not self.running, self.stop_timeout_s)
        self.kill()
        self.tidy()

    def tidy(self) -> None:
        """Remove the sockets and lock files that an ended server left."""

    def kill(self) -> None:
        """SIGKILL to all its processes, as a crash would have it."""
        if self._process is None:
            return
        pids = self.pids
        send(pids, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not any(map(alive, pids)), 5)

    def pause(self) -> None:
        """Freeze all its processes: sockets stay open and nothing answers."""
        stopped: set[int] = set()
        while fresh := set(self.pids) - stopped:
            send(sorted(fresh), signal.SIGSTOP)
            stopped |= fresh

    def resume(self) -> None:
        send(self.pids, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _last_lines(self) -> str:
        if not self.log.exists():
            return "(no output)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
