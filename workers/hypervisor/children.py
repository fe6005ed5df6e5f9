"""Processes of ours that carry bytes, and the folder for their sockets.

Hides that every one of them dies with this process, however it ends, and that what
an earlier process left behind is removed.
"""

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from pathlib import Path

from common.errors import ConnectionFailed

_PREFIX = "virtumancer-links-"
# sockaddr_un holds 107 bytes, and ssh and socat read much into odd letters.
_PLAIN = re.compile(r"[A-Za-z0-9._/-]{1,60}")
# A folder is made a moment before it is locked.
_YOUNG_S = 5
_DEATH_S = 2.0

_numbers = count(1)


class Child:
    """A process in a group of its own, killed when this process ends."""

    def __init__(self, command: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        self._lock = threading.Lock()
        self.log = _folder() / f"{next(_numbers)}.log"
        # The signal comes when the *thread* ends that started the process, so all
        # are started by one that lasts.
        try:
            self._process = _starter().submit(self._start, command, pass_fds).result()
        except OSError as error:
            raise ConnectionFailed(
                f"This machine could not start {command[0]}: {error.strerror}.",
                step="socket",
            ) from error

    def _start(
        self, command: Sequence[str], pass_fds: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                pass_fds=pass_fds,
                process_group=0,
            )

    @property
    def running(self) -> bool:
        with self._lock:
            return self._process.poll() is None

    def words(self) -> str:
        """What it has written on standard error so far."""
        try:
            return self.log.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def kill(self) -> None:
        """End the whole group now, without waiting for it."""
        with self._lock, contextlib.suppress(OSError):
            # Not yet waited for, so the number is still its own.
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill it and leave nothing of it."""
        self.kill()
        # Nobody may wait for the lock meanwhile: the watchdog has others to free.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEATH_S)
        self.log.unlink(missing_ok=True)


def socket_path() -> Path:
    """A path for a new socket that only this user can reach."""
    return _folder() / f"{next(_numbers)}.sock"


@cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="child-starter")


_folder_lock = threading.Lock()


def _folder() -> Path:
    with _folder_lock:
        return _make_folder()


@cache
def _make_folder() -> Path:
    """This process's folder, locked for as long as the process lives.

    The lock also keeps systemd-tmpfiles from removing it as old.
    """
    base = Path(tempfile.gettempdir())
    if not _PLAIN.fullmatch(str(base)):
        base = Path("/tmp")
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    _lock(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _lock(folder: Path) -> int | None:
    """The folder's descriptor, locked, or None if a living process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(base: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            young = time.time() - status.st_mtime < _YOUNG_S
            if status.st_uid != os.geteuid() or young:
                continue
            descriptor = _lock(folder)
            if descriptor is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)
