"""Runs a libvirtd as its child, and reaps and ends the machines it leaves behind.

QEMU processes detach from libvirtd. Adopted by this process, they are reaped at once
(libvirt waits for that, and the first process of a container does not always do it),
and they end when whoever started the hypervisor dies. When libvirtd alone dies, this
process ends too and the machines go on: the next libvirtd finds them.

The servers' user may not read the checkout, so this file's text is what
`/usr/bin/python3 -c` gets: it needs the standard library alone.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
PARENT_DIED = signal.SIGUSR1
HEARD = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, PARENT_DIED}

prctl = ctypes.CDLL(None, use_errno=True).prctl


def run(command: list[str]) -> int:
    """Run until the daemon ends; return its exit status as a shell would."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, PARENT_DIED)
    daemon = os.fork()
    if daemon == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        os.execv(command[0], command)
    while True:
        heard = signal.sigwait(HEARD)
        if heard == signal.SIGCHLD:
            if (status := reap(daemon)) is not None:
                return status if status >= 0 else 128 - status
        elif heard == PARENT_DIED:
            for child in children():
                os.kill(child, signal.SIGKILL)
        else:
            os.kill(daemon, heard)


def reap(daemon: int) -> int | None:
    """Collect every child that has ended; the daemon's status when it is one."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == daemon:
                status = os.waitstatus_to_exitcode(ended[1])
    return status


def children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as listed:  # noqa: PTH123
        return [int(pid) for pid in listed.read().split()]


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
