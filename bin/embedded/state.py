"""The folder that bin/up keeps its data in: which one, whether it is safe, whose turn.

Nobody but root and its owner may be able to write it or to put another in its place.
"""

import fcntl
import grp
import hashlib
import os
import pwd
import stat
from pathlib import Path

from embedded.folders import FolderError

ADDRESS = "address"
"""The file that says where the API answers, while a bin/up of the folder runs."""


def default_state(top: Path) -> Path:
    """A folder of this checkout's own that survives restarts."""
    digest = hashlib.sha256(os.fsencode(top)).hexdigest()[:8]
    name = f"{top.name}-{digest}"
    if os.geteuid() == 0:
        return Path("/var/lib/virtumancer") / name
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "virtumancer" / name


def take(folder: Path) -> int:
    """Make the folder ours for as long as the returned descriptor is open.

    The lock is on the folder itself, so there is no lock file to be left behind.
    """
    folder = folder.absolute()
    check(folder.parent)
    # As root the servers' user passes through it; what lies inside is closed.
    folder.mkdir(parents=True, exist_ok=True, mode=0o711 if _root() else 0o700)
    check(folder)
    if folder.stat().st_uid != os.geteuid():
        raise FolderError(
            f"{folder} belongs to another user. Choose another with VIRTUMANCER_STATE."
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FolderError(
            f"another bin/up is running with {folder}. Stop it first, or give this"
            " one another folder with VIRTUMANCER_STATE."
        ) from None
    return descriptor


def check(folder: Path) -> None:
    """Refuse a folder that somebody else can write or replace."""
    for path in dict.fromkeys([*_line(folder), *_line(folder.resolve())]):
        if not path.exists():
            continue
        status = path.stat()
        # In a folder like /tmp everybody may write, but not replace what is ours.
        shared = status.st_mode & stat.S_ISVTX and path != folder
        if status.st_uid not in (0, os.geteuid()):
            raise _refusal(folder, path, "belongs to another user")
        if status.st_mode & stat.S_IWOTH and not shared:
            raise _refusal(folder, path, "can be written by everybody")
        foreign = status.st_gid not in (0, *_own_groups())
        if status.st_mode & stat.S_IWGRP and foreign and not shared:
            raise _refusal(folder, path, "can be written by a group")


def _line(folder: Path) -> list[Path]:
    return [folder, *folder.parents]


def _own_groups() -> list[int]:
    """The user's own group, where nobody else is in it (Debian makes such groups)."""
    user = pwd.getpwuid(os.geteuid())
    try:
        group = grp.getgrgid(user.pw_gid)
    except KeyError:
        return []
    alone = not set(group.gr_mem) - {user.pw_name}
    return [group.gr_gid] if alone and group.gr_name == user.pw_name else []


def _refusal(folder: Path, path: Path, why: str) -> FolderError:
    which = "it" if path == folder else str(path)
    return FolderError(
        f"{folder} is not safe to keep data in: {which} {why}."
        " Choose another with VIRTUMANCER_STATE."
    )


def _root() -> bool:
    return os.geteuid() == 0
