"""A private sshd on loopback, with keys and known hosts of its own."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded.processes import family

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
# The folder lies under /tmp, which others may write to.
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
UsePAM {pam}
AllowStreamLocalForwarding {forwarding}
"""


def free_port() -> int:
    """A port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_key(path: Path) -> str:
    """Make a key pair without passphrase, and return the public half."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path],
        check=True,
    )
    return path.with_suffix(".pub").read_text()


class Sshd:
    """Runs as whoever runs the tests, who can log in with ``keys/id_ed25519``."""

    def __init__(self, folder: Path, forwarding: str = "yes") -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.port = free_port()
        self.user = getpass.getuser()
        self.keys.mkdir(parents=True)
        public = make_key(self.keys / "id_ed25519")
        (folder / "authorized_keys").write_text(public)
        self.host_key = make_key(folder / "host_key")
        self.know(self.host_key)
        # A locked password locks the account out, unless PAM decides; and only root
        # can ask PAM.
        pam = "yes" if os.geteuid() == 0 else "no"
        (folder / "sshd_config").write_text(
            CONFIG.format(port=self.port, folder=folder, pam=pam, forwarding=forwarding)
        )

    def know(self, host_key: str) -> None:
        """Make this the key that the host is known by."""
        line = f"[127.0.0.1]:{self.port} {host_key}"
        (self.keys / "known_hosts").write_text(line)

    def uri(
        self, socket_path: Path | str, driver: str = "test", path: str = "default"
    ) -> str:
        place = f"{self.user}@127.0.0.1:{self.port}"
        return f"{driver}+ssh://{place}/{path}?socket={socket_path}"

    @contextmanager
    def running(self) -> Iterator["Sshd"]:
        if os.geteuid() == 0:
            # Made by the system's own service, which need not have run.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or "sshd"
        log = (self.folder / "sshd.log").open("wb")
        with (
            log,
            subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stderr=log,
            ) as process,
        ):
            try:
                self._wait(process)
                self._listener = process.pid
                yield self
            finally:
                process.terminate()

    def crash(self) -> None:
        """Kill the daemon and cut every login, with no new one in between."""
        os.kill(self._listener, signal.SIGSTOP)
        for pid in reversed(family(self._listener)):
            os.kill(pid, signal.SIGKILL)

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                ended = process.poll() is not None
                if ended or time.monotonic() > deadline:
                    words = (self.folder / "sshd.log").read_text()
                    raise RuntimeError(f"sshd does not listen: {words}") from None
                time.sleep(0.01)
