"""bin/up as a test runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from embedded.processes import of_folder, tagged, wait_until
from embedded.up import MARK

TOP = Path(__file__).parent.parent.parent


@contextmanager
def home_folder() -> Iterator[Path]:
    """A folder that the servers' user may pass through and nobody else can write."""
    home = Path(tempfile.mkdtemp(prefix="vm-", dir="/tmp"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home)


class Running:
    """One bin/up with a state folder of its own, and everything it has said."""

    def __init__(self, home: Path, *words: str, **variables: str) -> None:
        self.home = home
        self.state = home / "state"
        self.said = ""
        environment = os.environ | {"VIRTUMANCER_STATE": str(self.state), "PORT": "0"}
        environment.pop("DATABASE_URL", None)
        environment.pop("REDIS_URL", None)
        environment.pop("BIND", None)
        environment.pop("VIRTUMANCER_AUTH", None)
        command = [sys.executable, str(TOP / "bin"), *words]
        self.process = subprocess.Popen(
            command,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.said += line

    def hears(self, text: str, times: int = 1, timeout_s: float = 30) -> bool:
        return wait_until(lambda: self.said.count(text) >= times, timeout_s)

    @property
    def url(self) -> str:
        return self.said.partition("Virtumancer answers at ")[2].split()[0]

    def get(self, path: str) -> Any:
        with urlopen(self.url + path) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal, wait for the end, and tell how long it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=30)
        self._reader.join(timeout=5)
        return time.monotonic() - began

    def rest(self) -> list[int]:
        """Processes that still belong to this run."""
        return of_folder(self.state) + tagged(MARK, str(self.state))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        assert wait_until(lambda: not self.rest(), 10)
