"""Hostile URIs by the hundred: every trick on every place that a URI has.

``Traps`` is a folder of bait: ``run`` marks that it was started, ``secret`` and
``pipe`` are not to be opened, and links lead to them out of the allowed folders.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from common.uri_policy import REFUSED

SCHEMES = ("ssh", "libssh", "libssh2", "tcp", "tls")
_OLD_NS = 10**9


@dataclass(frozen=True)
class Traps:
    """``place`` is ``user@host:port`` of a real sshd that takes the key in ``keys``."""

    folder: Path
    place: str
    keys: Path

    @property
    def sockets(self) -> Path:
        return self.folder / "sockets"

    @property
    def links(self) -> Path:
        """Where the processes under test may write."""
        return self.folder / "tmp"

    def lay(self) -> None:
        run, secret = self.folder / "run", self.folder / "secret"
        run.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.folder}/ran\n')
        run.chmod(0o755)
        secret.write_text("<node><name>secret</name></node>\n")
        os.mkfifo(self.folder / "pipe")
        self.sockets.mkdir()
        self.links.mkdir()
        for folder in (self.sockets, self.keys):
            (folder / "out").symlink_to(self.folder)
            (folder / "link").symlink_to(secret)
        (self.folder / "ran").touch()
        # Reading moves it, also where disks are mounted with relatime.
        os.utime(secret, ns=(_OLD_NS, secret.stat().st_mtime_ns))

    @property
    def ran(self) -> list[str]:
        return (self.folder / "ran").read_text().splitlines()

    @property
    def secret_was_read(self) -> bool:
        return (self.folder / "secret").stat().st_atime_ns != _OLD_NS

    @property
    def atime_is_kept(self) -> bool:
        return bool(os.statvfs(self.folder).f_flag & os.ST_NOATIME)


def tricks(traps: Traps) -> list[str]:
    every = (
        *_drivers(traps),
        *_transports(traps),
        *_parameters(traps),
        *_far_sockets(traps),
        *_near_sockets(traps),
        *_files(traps),
        *_users_and_hosts(traps),
        *_letters(traps),
        *_odd_but_harmless(traps),
    )
    return list(dict.fromkeys(every))


def _commands(traps: Traps) -> tuple[str, ...]:
    """A program in every dress that some shell takes off."""
    run = f"{traps.folder}/run"
    return (
        run,
        f"$({run})",
        f"`{run}`",
        f";{run}",
        f";{run};",
        f"|{run}",
        f"||{run}",
        f"&&{run}",
        f"\n{run}\n",
        f"\r\n{run}",
        f"' ; {run} ; '",
        f'" ; {run} ; "',
        f"-oProxyCommand={run}",
        f" -oProxyCommand={run}",
        f"${{IFS}}{run}",
        f"$'\\n'{run}",
        f"%{{{run}}}",
        f"\\;{run}",
    )


def _drivers(traps: Traps) -> Iterator[str]:
    secret = traps.folder / "secret"
    yield from (
        "",
        "/",
        "hail",
        f"test://{secret}",
        f"TEST://{secret}",
        f"test+unix://{secret}?socket={traps.sockets}/s",
        f"test+ssh://{traps.place}{secret}",
        f"test+ssh://{traps.place}/{quote(str(secret), safe='')}",
        f"test+ssh://{traps.place}/default/../..{secret}",
        f"test://{traps.place}{secret}",
        f"qemu:///embed?root={traps.folder}",
        f"qemu+ssh://{traps.place}/embed?root={traps.folder}",
        f"file://{secret}",
        f"{secret}",
        f"qemu:{secret}",
        f"qemu://{secret}",
    )
    for driver in (
        *("esx", "gsx", "vpx", "hyperv", "remote", "parallels", "openvz", "vbox"),
        *("vmwareplayer", "vmwarews", "vmwarefusion", "phyp", "xenapi", "uml"),
        *("network", "storage", "secret", "interface", "nodedev", "nwfilter"),
        *("lxc", "xen", "ch", "vz", "bhyve", "libxl", "qemu-session", "qemu.system"),
    ):
        yield f"{driver}:///system"
        yield f"{driver}+ssh://{traps.place}/session?no_verify=1"


def _transports(traps: Traps) -> Iterator[str]:
    for command in _commands(traps):
        for scheme in ("qemu+ext", "QEMU+EXT", "test+Ext", "qemu+ext+ssh"):
            yield f"{scheme}:///system?command={quote(command)}"
        yield f"qemu+{quote(command)}:///system"
    for transport in ("vxstream", "exec", "fd", "unix+ssh", "ssh+ext", "", "s%73h"):
        yield f"qemu+{transport}://{traps.place}/system?command={traps.folder}/run"


def _parameters(traps: Traps) -> Iterator[str]:
    run, secret = f"{traps.folder}/run", f"{traps.folder}/secret"
    for name in sorted(
        {*REFUSED, "tls", "uri", "no_verify ", "pki-path", "ssh_config"}
    ):
        escaped = "".join(f"%{ord(letter):02x}" for letter in name)
        for scheme in SCHEMES:
            yield f"test+{scheme}://{traps.place}/default?{name}={run}"
        yield f"test+unix:///default?{name}={secret}"
        yield f"test+ssh://{traps.place}/default?{name.upper()}={run}"
        yield f"test+ssh://{traps.place}/default?{escaped}={run}"
        yield f"test+ssh://{traps.place}/default?socket=/tmp/s&{name}={run}"
        yield f"test+ssh://{traps.place}/default?socket=/tmp/s;{name}={run}"
        yield f"test+ssh://{traps.place}/default?&{name}={run}"
        yield f"test+ssh://{traps.place}/default#?{name}={run}"
        yield f"test+ssh://{traps.place}/default?socket=/tmp/s%26{name}={run}"
    for value in ("ignore", "auto", "IGNORE", "", "normal,ignore", "normal%00ignore"):
        yield f"test+libssh://{traps.place}/default?known_hosts_verify={value}"


def _far_sockets(traps: Traps) -> Iterator[str]:
    for command in _commands(traps):
        for socket in (command, f"/tmp/s{command}", f"/tmp/s {command}"):
            yield f"test+ssh://{traps.place}/default?socket={quote(socket)}"
            yield f"test+ssh://{traps.place}/default?socket={socket}"
    for socket in (
        *("/tmp/s:22", "/tmp/s:/tmp/t", "127.0.0.1:22", "*:22", "s", "~/s", "$HOME/s"),
        *("/tmp/%h", "/tmp/%d", "/tmp/${HOME}", "/tmp/../tmp/s", "/tmp//s", "//tmp/s"),
        *("/tmp/s\0", "/tmp/[s]", "/tmp/s*", "@abstract", "\0abstract", "/", "."),
        *("-", "-N", "--", "/tmp/s -E /tmp/log", "/" + "a" * 200),
    ):
        yield f"test+ssh://{traps.place}/default?socket={quote(socket)}"


def _out_of(folder: Path, traps: Traps) -> Iterator[str]:
    """Paths that begin inside a folder, or seem to, and lead to the bait."""
    for bait in ("secret", "pipe", "run"):
        path = traps.folder / bait
        yield from (
            f"{path}",
            f"{folder}/../{bait}",
            f"{folder}/out/{bait}",
            f"{folder}/./../{bait}",
            f"{folder}/nowhere/../../{bait}",
            f"{folder}//../{bait}",
            f"{folder}/%2e%2e/{bait}",
            f"{folder}x/../{bait}",
            f"/proc/self/root{path}",
            f"/proc/self/cwd/..{path}",
            f"/dev/fd/../../..{path}",
            f"{str(folder).upper()}/{bait}",
            f"/{path}",
            f"{path}\0{folder}/s",
            f"{folder}/s\0{path}",
            f"file://{path}",
        )
    yield from (
        f"{folder}/link",
        f"{folder}",
        f"{folder}/",
        "/dev/stdin",
        "/dev/tty",
        "/proc/self/environ",
        "/proc/self/mem",
    )


def _near_sockets(traps: Traps) -> Iterator[str]:
    for path in _out_of(traps.sockets, traps):
        yield f"test+unix:///default?socket={quote(path)}"
        yield f"qemu:///system?socket={path}"
    for path in ("/run/docker.sock", "/run/dbus/system_bus_socket", "/var/run/x"):
        yield f"test+unix:///default?socket={path}"
    for command in _commands(traps):
        yield f"test+unix:///default?socket={quote(command)}"


def _files(traps: Traps) -> Iterator[str]:
    for parameter in ("keyfile", "known_hosts"):
        for path in _out_of(traps.keys, traps):
            yield f"test+ssh://{traps.place}/default?{parameter}={quote(path)}"
            yield f"test+libssh2://{traps.place}/default?{parameter}={path}"
        for command in _commands(traps):
            path = quote(f"{traps.keys}/id{command}")
            yield f"test+ssh://{traps.place}/default?{parameter}={path}"
        for odd in ("%h", "%%", "~", "${HOME}", '"', "\\", " none", "none", "a b", "*"):
            path = quote(f"{traps.keys}/{odd}")
            yield f"test+ssh://{traps.place}/default?{parameter}={path}"


def _users_and_hosts(traps: Traps) -> Iterator[str]:
    user, _, address = traps.place.partition("@")
    for command in (*_commands(traps), "-F/tmp/c", "-E/tmp/l", "-oLocalCommand=x"):
        for form in (command, quote(command)):
            yield f"test+ssh://{form}@{address}/default"
            yield f"test+ssh://{user}{form}@{address}/default"
            yield f"test+ssh://{form}/default"
            yield f"test+ssh://{user}@{form}/default"
            yield f"test+ssh://{user}@127.0.0.1{form}/default"
            yield f"test+ssh://{traps.place}{form}/default"
            yield f"test+tcp://{form}/default"
            yield f"test+tls://{form}:22/default"
    for host in (
        *(
            "-",
            "--",
            "-l",
            "-h",
            "127.1",
            "0x7f000001",
            "017700000001",
            "2130706433",
            "0",
        ),
        *("[::1", "[-oProxyCommand=x]", "[::ffff:127.0.0.1%25lo]", "[v1.x]", "::1"),
        *("127.0.0.1,x", "127.0.0.1%00x", "127.0.0.1\\@x", "a@127.0.0.1@b", "*", "!x"),
    ):
        yield f"test+ssh://{host}/default"
        yield f"test+ssh://{user}@{host}/default"
    for port in ("-1", "0", "65536", "22;id", " 22", "2 2", "0x16", "%32%32", "²²"):
        yield f"test+ssh://{user}@127.0.0.1:{port}/default"


def _letters(traps: Traps) -> Iterator[str]:
    """Percent tricks, control characters and letters that look like others."""
    base = f"test+ssh://{traps.place}/default?socket=/tmp/s"
    for code in (*range(0x21), 0x7F, *range(0x80, 0xA1)):
        yield f"{base}%{code:02x}"
        yield f"{base}{chr(code)}"
        yield f"test+ssh://{chr(code)}{traps.place}/default"
    for odd in (
        *("%", "%2", "%zz", "%252e%252e", "%c0%ae%c0%ae", "%u002e", "%ff", "%ed%a0%80"),
        *(
            "\u202e",
            "\u2066",
            "\ufeff",
            "\u200b",
            "\uff0f",
            "\u2024",
            "\u0131",
            "\u017f",
        ),
    ):
        yield f"{base}{odd}"
        yield f"{base}{quote(odd)}"
        yield f"test+s{odd}sh://{traps.place}/default"
        yield f"test+ssh://{traps.place}/default{odd}?socket=/tmp/s"


def _odd_but_harmless(traps: Traps) -> Iterator[str]:
    """Admitted, so that the real transport must be harmless with them."""
    user, _, address = traps.place.partition("@")
    port = address.rpartition(":")[2]
    for socket in (
        *(f"{traps.folder}/{bait}" for bait in ("run", "secret", "pipe", "sockets")),
        *("/-oProxyCommand", "/tmp/-F", "/...", "/etc/shadow", "/dev/tty"),
        *(f"{traps.sockets}/out/run", "/" + "a" * 106),
    ):
        yield f"test+ssh://{traps.place}/default?socket={socket}"
    yield from (
        f"test+libssh2://{traps.place}/default?known_hosts_verify=normal",
        f"test+ssh://{traps.place}/default?keyfile={traps.keys}/known_hosts",
        f"test+ssh://{traps.place}/default?keyfile={traps.keys}/nowhere",
        f"test+ssh://{traps.place}/default?known_hosts={traps.keys}/id_ed25519",
        f"test+ssh://{traps.place}/default?known_hosts={traps.keys}/-oProxyCommand",
        f"test+ssh://a-oproxycommand@{address}/default",
        f"test+ssh://_-.@{address}/default",
        f"test+ssh://{user}@LOCALHOST:{port}/default",
        f"test+ssh://{user}@[::1]:{port}/default",
        f"test+ssh://{user}@[::ffff:127.0.0.1]:{port}/default",
        f"test+tcp://127.0.0.1:{port}/default",
        f"test+tls://127.0.0.1:{port}/default",
        f"test+unix:///default?socket={traps.sockets}/nowhere",
        f"test+unix:///default?socket={traps.sockets}/-oProxyCommand%20%3Bid",
        f"test+unix:///default?socket={traps.sockets}/a%22b%2Cfork%2Cexec",
        f"test+unix:///default?socket={traps.sockets}/s%21%21EXEC%3A{quote('run')}",
    )
