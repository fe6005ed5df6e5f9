"""Who the private servers run as: an ordinary user, also when root starts them."""

import fcntl
import functools
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAME = "virtumancer"
KVM = Path("/dev/kvm")


@dataclass(frozen=True)
class Account:
    """A user and the groups that its processes get."""

    name: str
    uid: int
    gid: int

    def owns(self, path: Path) -> bool:
        return path.lstat().st_uid == self.uid

    def may_enter(self, folder: Path) -> bool:
        """Whether the permission bits let this account pass through a folder."""
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


@functools.cache
def ordinary() -> Account:
    """Whoever we are; as root a system user of our own, made when it is missing."""
    if os.geteuid() != 0:
        name = pwd.getpwuid(os.geteuid()).pw_name
        return Account(name, os.geteuid(), os.getegid())
    user = _find_user() or _make_user()
    return Account(user.pw_name, user.pw_uid, user.pw_gid)


def _find_user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        return None


def _make_user() -> pwd.struct_passwd:
    folder = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Of two that make the same user at a time, useradd lets the second one
        # change the number that the first has given.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if user := _find_user():
            return user
        outcome = subprocess.run(
            [
                *("/usr/sbin/useradd", "--system", "--user-group", "--no-create-home"),
                *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", NAME),
            ],
            capture_output=True,
            text=True,
        )
    finally:
        os.close(folder)
    if user := _find_user():
        return user
    raise RuntimeError(f"cannot make the user {NAME}: {outcome.stderr.strip()}")


def dropping(account: Account) -> list[str]:
    """The command prefix that becomes `account` and dies with its parent.

    The signal is asked for after the user has changed, because changing users
    clears it; setpriv does it in this order.
    """
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    if os.geteuid() == 0:
        prefix += ["--reuid", str(account.uid), "--regid", str(account.gid)]
        kvm = _kvm_group()
        prefix += ["--groups", str(kvm)] if kvm else ["--clear-groups"]
    return [*prefix, "--"]


def _kvm_group() -> int | None:
    """The group that may use KVM, when that is a group made for it."""
    try:
        status = KVM.stat()
    except OSError:
        return None
    usable = status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IWGRP
    return status.st_gid if usable and status.st_gid != 0 else None
