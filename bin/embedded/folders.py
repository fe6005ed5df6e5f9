"""Folders of the private servers: whose they are, how long their paths may be."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from embedded.accounts import ordinary

# sockaddr_un.sun_path, less the closing zero byte (unix(7)).
SOCKET_PATH_BYTES = 107


class FolderError(Exception):
    """A folder that cannot be used as it is; the words say what to do."""


def private(folder: Path) -> Path:
    """Make a folder that only the servers' user (and root) may enter."""
    account = ordinary()
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for parent in folder.parents:
        if not account.may_enter(parent):
            raise FolderError(
                f"{folder} cannot be used: the user {account.name}, who runs the"
                f" private servers, may not enter {parent}. Choose another folder."
            )
    if not account.owns(folder):
        if os.geteuid() != 0:
            raise FolderError(f"{folder} belongs to another user.")
        os.chown(folder, account.uid, account.gid)
    folder.chmod(0o700)
    return folder


def write(path: Path, text: str) -> Path:
    """Write a file that belongs to the servers' user."""
    path.write_text(text)
    if os.geteuid() == 0:
        os.chown(path, ordinary().uid, ordinary().gid)
    return path


def socket_path(path: Path) -> Path:
    """The path, or an error when the kernel would not take it for a socket."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES:
        raise FolderError(
            f"the socket path {path} has {length} bytes and {SOCKET_PATH_BYTES} are"
            " possible. Choose a folder with a shorter path."
        )
    return path


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A short-named folder for servers that a test starts, removed afterwards.

    pytest's own tmp_path is closed to the user that servers run as under root.
    """
    folder = Path(tempfile.mkdtemp(prefix="vm-", dir="/tmp"))
    try:
        yield private(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
