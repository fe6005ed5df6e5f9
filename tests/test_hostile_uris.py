"""None of many hundred hostile URIs starts a program or opens a file, on real ssh."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from embedded.libvirtd import Libvirtd
from tests.lab.hypervisors import hypervisor
from tests.lab.sshd import Sshd
from tests.lab.tricks import Traps, tricks
from workers.hypervisor.ssh import LOOK

ROOT = Path(__file__).parent.parent
OURS = {"setpriv", "ssh", "ssh-keyscan", "ssh-keygen", "socat", "getent"}
"""The programs that carry and look, beside Python itself."""

STRACE = (
    *("strace", "-f", "-qq", "--seccomp-bpf", "-s", "4096"),
    *("-e", "trace=execve,execveat,open,openat,openat2,creat"),
    *("-e", "signal=none"),
)
_CALL = re.compile(r'\d+ +(exec|open|creat)[a-z0-9]*\((?:[^",]+, )?"((?:[^"\\]|\\.)*)"')
RECORDER = """\
#!/bin/sh
printf '%s\\n' "$SSH_ORIGINAL_COMMAND" >> {asked}
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


@dataclass(frozen=True)
class Trace:
    """What a process and its children started and opened, successfully or not."""

    programs: frozenset[str]
    files: frozenset[str]

    @classmethod
    def read(cls, log: Path) -> "Trace":
        text = log.read_text("utf-8", "backslashreplace")
        calls = _CALL.findall(re.sub(r"/proc/\d+/", "/proc/PID/", text))
        return cls(
            frozenset(path for call, path in calls if call == "exec"),
            frozenset(path for call, path in calls if call != "exec"),
        )


@dataclass(frozen=True)
class Laboratory:
    """Bait, an sshd that writes down what it is asked to run, and a libvirtd."""

    traps: Traps
    asked: Path
    server: Libvirtd

    def open_all(self, uris: list[str], log: Path) -> tuple[list[str], Trace | None]:
        """What became of each, and what was traced where tracing is possible."""
        strace = (*STRACE, "-o", str(log)) if can_trace() else ()
        sockets, keys = self.traps.sockets, self.traps.keys
        ended = subprocess.run(
            [
                *(*strace, sys.executable, "-m", "tests.lab.openings"),
                *(str(sockets), str(keys)),
            ],
            input=msgspec.json.encode(uris),
            stdout=subprocess.PIPE,
            check=True,
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{ROOT}:{ROOT / 'bin'}",
                "TMPDIR": str(self.traps.links),
                # More bait: for those who ask the environment.
                "HOME": str(self.traps.folder),
                "SSH_ASKPASS": f"{self.traps.folder}/run",
                "SSH_ASKPASS_REQUIRE": "force",
                "DISPLAY": ":99",
                "LIBVIRT_DEFAULT_URI": f"test+ext:///?command={self.traps.folder}/run",
            },
        )
        outcomes = msgspec.json.decode(ended.stdout, type=list[str])
        return outcomes, Trace.read(log) if strace else None


def can_trace() -> bool:
    """Some containers forbid it."""
    ended = subprocess.run([*STRACE, "-o", "/dev/null", "true"], capture_output=True)
    return ended.returncode == 0


@contextmanager
def of_ours() -> Iterator[Path]:
    """Where bait can be started: root's children lose their rights in libvirt."""
    with tempfile.TemporaryDirectory(prefix="vm-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def laboratory(server_folder: Path) -> Iterator[Laboratory]:
    with of_ours() as folder, hypervisor(server_folder / "hostile") as server:
        sshd = Sshd(folder / "ssh")
        asked = folder / "asked"
        asked.touch()
        recorder = folder / "recorder"
        recorder.write_text(RECORDER.format(asked=asked))
        recorder.chmod(0o755)
        keys = folder / "ssh" / "authorized_keys"
        keys.write_text(f'command="{recorder}" {keys.read_text()}')
        traps = Traps(folder, f"{sshd.user}@127.0.0.1:{sshd.port}", sshd.keys)
        traps.lay()
        with sshd.running():
            yield Laboratory(traps, asked, server)


def test_no_hostile_uri_starts_a_program_or_opens_a_file(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    traps = laboratory.traps
    proper = [
        f"test+ssh://{traps.place}/default?socket={laboratory.server.socket}",
        f"test+ssh://{traps.place}/default?socket={traps.folder}/nowhere",
        f"test+ssh://nobody@localhost:{traps.place.rpartition(':')[2]}/default",
        f"test+tcp://127.0.0.1:{laboratory.server.listen_tcp}/default",
        f"test+tls://127.0.0.1:{laboratory.server.listen_tcp}/default",
    ]
    hostile = tricks(traps)

    expected, baseline = laboratory.open_all(proper, tmp_path / "proper")
    outcomes, trace = laboratory.open_all(hostile, tmp_path / "hostile")

    assert expected == ["open", "socket", "host-key", "open", "tls"]
    admitted = [outcome for outcome in outcomes if outcome != "refused"]
    assert len(hostile) > 1000
    assert len(admitted) > 20
    assert traps.ran == []
    assert not traps.secret_was_read
    if trace is not None and baseline is not None:
        assert strange_programs(trace) == []
        assert strange_files(trace, baseline, traps) == []
    # The far side runs nothing but our own look at the socket, its path unadorned.
    look = re.compile(re.escape(LOOK).replace(re.escape("{0}"), "/[A-Za-z0-9._/-]+"))
    questions = laboratory.asked.read_text().splitlines()
    assert questions
    assert [words for words in questions if not look.fullmatch(words)] == []


def strange_programs(trace: Trace) -> list[str]:
    ours = OURS | {Path(sys.executable).name}
    return sorted(path for path in trace.programs if Path(path).name not in ours)


def strange_files(trace: Trace, baseline: Trace, traps: Traps) -> list[str]:
    """What no proper URI opens, but for code, links and keys in their folder."""
    code = (sys.prefix, sys.base_prefix, str(ROOT), "/lib", "/proc/self/")
    keys = traps.keys.resolve()
    return sorted(
        path
        for path in trace.files - baseline.files
        if not path.startswith((*code, str(traps.links)))
        and not Path(path).resolve().is_relative_to(keys)
    )


def test_the_bait_is_taken_by_libvirt_itself(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    with of_ours() as folder:
        traps = Traps(folder, laboratory.traps.place, folder / "keys")
        traps.keys.mkdir()
        traps.lay()
        for uri in (
            f"test+ext:///default?command={folder}/run",
            f"test+ssh://{traps.place}/default?command={folder}/run",
            f"test://{folder}/secret",
        ):
            subprocess.run(["virsh", "-c", uri, "version"], capture_output=True)

        assert len(traps.ran) == 2
        assert traps.secret_was_read or traps.atime_is_kept
        assert not can_trace() or strange_programs(
            _traced(
                ["virsh", "-c", f"test+ext:///default?command={folder}/run"], tmp_path
            )
        )


def _traced(command: list[str], folder: Path) -> Trace:
    subprocess.run([*STRACE, "-o", str(folder / "log"), *command], capture_output=True)
    return Trace.read(folder / "log")
