"""A command on a terminal of its own, and what stands on its screen."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from typing import Final, Self

from tests.lab.system import TOP, eventually

ROWS: Final = 30
COLUMNS: Final = 110
DEADLINE_S: Final = 30
_FRAME = re.compile(rb"\x1b\[H")
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """Reads in a thread whatever the command draws."""

    def __init__(self, *words: str, **variables: str) -> None:
        self.drawn = b""
        here = {"TERM": "xterm", "PYTHONPATH": f"{TOP}:{TOP}/bin"}
        self._terminal, screen = os.openpty()
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        fcntl.ioctl(screen, termios.TIOCSWINSZ, size)
        # With --ctty a typed Ctrl-C is a SIGINT, as everywhere.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "console", *words],
            env=os.environ | here | variables,
            stdin=screen,
            stdout=screen,
            stderr=screen,
        )
        os.close(screen)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while text := os.read(self._terminal, 65536):
                self.drawn += text
        except OSError:
            return  # Linux's word for a terminal that everybody has left.

    @property
    def frame(self) -> str:
        """The last picture that was drawn whole, without its colours."""
        frames = _FRAME.split(self.drawn)
        last = frames[-2] if len(frames) > 2 else frames[-1]
        return _ESCAPE.sub(b"", last).decode(errors="replace")

    def shows(self, pattern: str) -> None:
        """Wait until this stands on the screen."""
        eventually(
            lambda: re.search(pattern, self.frame),
            DEADLINE_S,
            f"{pattern} is not shown",
        )

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def ended(self) -> int:
        """The exit code."""
        code = self.process.wait(DEADLINE_S)
        self._thread.join(DEADLINE_S)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.ended()
        os.close(self._terminal)
        print(self.frame)  # noqa: T201
