"""A private hypervisor: an unprivileged libvirtd that stays inside its folder.

Its machines are QEMU processes that outlive it, as they do everywhere: a libvirtd
that crashes finds them again. `stop` ends them, `kill` does not.
"""

import hashlib
import os
import signal
import subprocess
import uuid
from pathlib import Path

from embedded.accounts import ordinary
from embedded.folders import (
    SOCKET_PATH_BYTES,
    FolderError,
    private,
    socket_path,
    write,
)
from embedded.processes import end, of_folder, program, send, wait_until
from embedded.server import Server

# What libvirt appends to XDG_CONFIG_HOME for QEMU's monitor socket, at its longest.
MONITOR_SOCKET = "/libvirt/qemu/lib/domain-9999-a-name-of-20-letters/monitor.sock"

DAEMON_CONF = """\
unix_sock_dir = "{folder}"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{host_uuid}"
log_outputs = "3:stderr"
log_filters = ""
listen_tls = {listen_tls}
listen_tcp = {listen_tcp}
listen_addr = "127.0.0.1"
tcp_port = "{tcp_port}"
auth_tcp = "none"
{tls}max_clients = 200
max_anonymous_clients = 200
"""

TLS_CONF = """\
tls_port = "{port}"
auth_tls = "none"
key_file = "{folder}/serverkey.pem"
cert_file = "{folder}/servercert.pem"
ca_file = "{folder}/cacert.pem"
"""

GUARD = Path(__file__).with_name("guard.py")

# stdio_handler: "logd" would start a virtlogd that nobody ends.
QEMU_CONF = """\
stdio_handler = "file"
security_driver = "none"
cgroup_controllers = []
"""


class Libvirtd(Server):
    """libvirtd in session mode, serving QEMU and the test driver on a unix socket.

    `listen_tcp` is a port on 127.0.0.1 to serve as well, without authentication, and
    `listen_tls` one with the certificates of the folder beside it.
    `cache` may be shared by several: asking QEMU what it can costs seconds once.
    """

    name = "libvirtd"

    def __init__(
        self,
        folder: Path | str,
        *,
        listen_tcp: int | None = None,
        listen_tls: tuple[int, Path] | None = None,
        host_uuid: str | None = None,
        cache: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.listen_tcp = listen_tcp
        self.listen_tls = listen_tls
        self.cache = cache or self.folder / "cache"
        self.host_uuid = host_uuid or str(
            uuid.uuid5(uuid.NAMESPACE_URL, self.folder.as_uri())
        )
        self.socket = socket_path(self.folder / "libvirt-sock")
        self.url = self.uri("qemu", "session")

    def uri(self, driver: str = "qemu", path: str = "session") -> str:
        """For example `qemu+unix:///session?socket=…` or `test+unix:///default?…`."""
        return f"{driver}+unix:///{path}?socket={self.socket}"

    def tcp_uri(self, driver: str = "qemu", path: str = "session") -> str:
        return f"{driver}+tcp://127.0.0.1:{self.listen_tcp}/{path}"

    def prepare(self) -> None:
        super().prepare()
        config = self.folder / "config"
        for folder in (config, config / "libvirt", self.cache):
            private(folder)
        private(self.folder / "run")
        if self._short != self.folder:
            _link(self._short, self.folder)
        write(config / "libvirt" / "qemu.conf", QEMU_CONF)
        write(
            self.folder / "libvirtd.conf",
            DAEMON_CONF.format(
                folder=self.folder,
                host_uuid=self.host_uuid,
                listen_tcp=int(self.listen_tcp is not None),
                tcp_port=self.listen_tcp or 16509,
                listen_tls=int(self.listen_tls is not None),
                tls=self._tls_conf(),
            ),
        )

    def _tls_conf(self) -> str:
        if self.listen_tls is None:
            return ""
        port, folder = self.listen_tls
        return TLS_CONF.format(port=port, folder=folder)

    @property
    def program(self) -> str:
        return "libvirtd"

    def command(self) -> list[str]:
        listening = self.listen_tcp is not None or self.listen_tls is not None
        listen = ["--listen"] if listening else []
        return [
            *("/usr/bin/python3", "-I", "-S", "-c", GUARD.read_text()),
            *("/usr/sbin/libvirtd", "--config", str(self.folder / "libvirtd.conf")),
            *("--pid-file", str(self.folder / "libvirtd.pid"), *listen),
        ]

    def environment(self) -> dict[str, str]:
        nowhere = f"unix:path={self.folder}/no-bus"
        return super().environment() | {
            "XDG_CONFIG_HOME": str(self._short / "config"),
            "XDG_CACHE_HOME": str(self.cache),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_RUNTIME_DIR": str(self._short / "run"),
            "DBUS_SYSTEM_BUS_ADDRESS": nowhere,
            "DBUS_SESSION_BUS_ADDRESS": nowhere,
        }

    def answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            self.virsh("uri")
        except subprocess.SubprocessError:
            return False
        return True

    def virsh(self, *words: str) -> str:
        """Run one virsh command on this hypervisor and give what it printed."""
        outcome = subprocess.run(
            ["/usr/bin/virsh", "--connect", self.url, "--quiet", *words],
            env=self.environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return outcome.stdout.strip()

    def machines(self) -> list[int]:
        """The QEMU processes of this hypervisor, whoever is their parent now."""
        return [
            pid
            for pid in {*of_folder(self.folder), *of_folder(self._short)}
            if program(pid).startswith("qemu-system")
        ]

    def stop(self) -> None:
        """End the machines, then the daemon, then a machine started meanwhile."""
        if self.running:
            self.resume()
        self.end_machines()
        super().stop()
        self.end_machines()

    def end_machines(self) -> None:
        end(self.machines, patience_s=2)

    def kill(self) -> None:
        """SIGKILL to libvirtd alone: its machines go on, as on a real host."""
        while self.running:
            # A moment after the launch the guard has not started libvirtd yet.
            send(self.pids, signal.SIGKILL)
            wait_until(lambda: not self.running, 0.1)

    def tidy(self) -> None:
        for name in ("libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "libvirtd.pid").unlink(missing_ok=True)
        if self._short != self.folder:
            self._short.unlink(missing_ok=True)

    @property
    def pids(self) -> list[int]:
        """libvirtd alone: its guard and its machines are not part of it."""
        return [pid for pid in super().pids if program(pid) == self.program]

    @property
    def _short(self) -> Path:
        """A path to the folder that is short enough for QEMU's monitor sockets."""
        room = SOCKET_PATH_BYTES - len("/config") - len(MONITOR_SOCKET)
        if len(os.fsencode(self.folder)) <= room:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        if os.geteuid() == 0:
            return Path(f"/run/vm-{digest}")
        runtime = Path(f"/run/user/{os.geteuid()}")
        if runtime.is_dir() and ordinary().owns(runtime):
            return runtime / f"vm-{digest}"
        return Path(f"/tmp/vm-{os.geteuid()}-{digest}")


def _link(link: Path, folder: Path) -> None:
    """Make a symbolic link that is ours, or refuse: /tmp is open to others."""
    if link.is_symlink() and link.readlink() == folder:
        mine = link.lstat().st_uid == os.geteuid()
    else:
        mine = True
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(folder)
        except OSError:
            mine = False
    if not mine:
        raise FolderError(f"{link} belongs to another user; remove it.")
