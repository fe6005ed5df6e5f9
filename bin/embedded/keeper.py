"""Keeps one process running: says that it ended, waits a little, starts it again."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from embedded.folders import FolderError
from embedded.processes import wait_until
from embedded.server import ServerError

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A process that has run this long was well; its next end starts at the first pause.
WELL_S = 10.0
# How long to wait for the last lines: somebody else may hold the pipe open.
RELAY_S = 0.5

Launch = Callable[[], subprocess.Popen[bytes]]


class Keeper:
    """One process and the thread that starts it, over and over, until `stop`.

    The process must be a session of its own, so that its signals reach its family.
    It is started in that thread, for the kernel ends it with the thread that
    started it.
    """

    def __init__(
        self,
        name: str,
        launch: Launch,
        say: Callable[[str], None],
        *,
        hear: Callable[[bytes], None] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.ends = 0
        self._launch = launch
        self._say = say
        self._hear = hear
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether nothing of it runs any more, nor will."""
        return not self._thread.is_alive()

    def ask_to_stop(self) -> None:
        """Send the stop signal and start it no more."""
        with self._guard:
            self._stopping.set()
            if self._process is not None:
                _signal_group(self._process.pid, self._stop_signal)

    def kill(self) -> None:
        with self._guard:
            self._stopping.set()
            if self._process is not None:
                _signal_group(self._process.pid, signal.SIGKILL)

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            how = self._run_once()
            self.ends += 1
            if self._stopping.is_set():
                break
            if time.monotonic() - began > WELL_S:
                pause_s = FIRST_PAUSE_S
            self._say(f"{self.name} {how}; starting it again in {pause_s:g} s")
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _run_once(self) -> str:
        """Run the process to its end; return how it ended, in words."""
        with self._guard:
            if self._stopping.is_set():
                return "was not started"
            try:
                process = self._process = self._launch()
            except (OSError, ServerError, FolderError) as error:
                return f"could not be started ({error})"
        relay = threading.Thread(target=self._relay, args=[process], daemon=True)
        relay.start()
        # Until it is reaped its number is its own, and the group's.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._guard:
            _signal_group(process.pid, signal.SIGKILL)
            self._process = None
            status = process.wait()
        relay.join(RELAY_S)
        return words(status)

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                if self._hear is not None:
                    self._hear(line)


def words(status: int) -> str:
    """How a process ended: `ended with status 1`, `was ended by SIGKILL`."""
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


def stop_all(
    keepers: Iterable[Keeper], patience_s: float, hurry: Callable[[], bool]
) -> None:
    """Ask all to stop, and end by force what has not in time."""
    keepers = list(keepers)
    for keeper in keepers:
        keeper.ask_to_stop()
    wait_until(lambda: hurry() or all(k.done for k in keepers), patience_s)
    for keeper in keepers:
        keeper.kill()
    wait_until(lambda: all(keeper.done for keeper in keepers), 2)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
