"""ssh as a carrier: its command line, and its complaints in sentences one can act on.

See ssh(1), ssh_config(5). Nothing of the user's own configuration is read.
"""

import re
import shlex
import subprocess
from pathlib import Path

from common.errors import ConnectionFailed
from common.refusals import (
    AuthenticationFailed,
    ForwardingForbidden,
    HostKeyChanged,
    HostKeyUnknown,
    HostNameUnknown,
    HostRefuses,
    HostSilent,
    NoAccessToLibvirt,
    NoLibvirt,
    SshKeyUnusable,
)
from common.uri import HostUri
from workers.hypervisor.host_keys import known_hosts
from workers.hypervisor.peer import left, whole_seconds

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "PreferredAuthentications=publickey",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "AddKeysToAgent=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "GSSAPIAuthentication=no",
    "PermitLocalCommand=no",
    "ProxyCommand=none",
    "ControlMaster=no",
    "ControlPath=none",
    "Tunnel=no",
    "RequestTTY=no",
    "EscapeChar=none",
    "ConnectionAttempts=1",
    "TCPKeepAlive=yes",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ExitOnForwardFailure=yes",
    "StreamLocalBindUnlink=yes",
    "LogLevel=INFO",
)

# ssh's words, what they mean, the step that failed, what to tell. {host} is the address
# as one would type it after ssh, {name} the host alone, {folder} the folder of keys.
_COMPLAINTS: tuple[tuple[str, type[ConnectionFailed], str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        HostKeyChanged,
        "ssh",
        "The key of {name} is not the one in {known_hosts}. If the host was "
        "installed anew, remove the old line with ssh-keygen -R and add the new key; "
        "otherwise somebody may be in between.",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        HostKeyUnknown,
        "ssh",
        "The key of {name} is not known. Add it: ssh-keyscan {scan} >> "
        "{known_hosts}, and compare its fingerprint with the host's own.",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        SshKeyUnusable,
        "ssh",
        "ssh refuses a private key in {folder} that others can read. "
        "Make it private: chmod 600.",
    ),
    (
        r"Permission denied \(|Too many authentication failures",
        AuthenticationFailed,
        "permission",
        "{host} accepts none of the keys in {folder}. Add a public key to "
        "authorized_keys of that user; a key here must have no passphrase.",
    ),
    (
        r"Could not resolve hostname",
        HostNameUnknown,
        "dns",
        "The name {name} is not known. Check its spelling and this machine's DNS.",
    ),
    (
        r"Connection refused",
        HostRefuses,
        "tcp",
        "{name} refuses ssh connections to port {port}. Is sshd running there?",
    ),
    (
        r"timed out|Connection to \S+ port \d+ timed out",
        HostSilent,
        "tcp",
        "{name} did not answer to ssh on port {port} in time. Is the host up, and "
        "does a firewall let this port through?",
    ),
    (
        r"No route to host|Network is unreachable",
        HostSilent,
        "tcp",
        "There is no way to {name} from this machine: {words}",
    ),
    (
        r"administratively prohibited",
        ForwardingForbidden,
        "ssh",
        "The sshd of {name} does not let {host} forward to a unix socket. Allow it: "
        "AllowStreamLocalForwarding yes in sshd_config.",
    ),
    (
        r"kex_exchange_identification|Connection (closed|reset) by",
        ConnectionFailed,
        "ssh",
        "{name} closed the ssh connection before the login: {words}",
    ),
)

_OPEN_FAILED = re.compile(r"open failed: connect failed")

# Asks in the words of test(1); the path holds no letter that a shell would expand.
LOOK = "test -e {0} || exit 81; test -S {0} || exit 82; test -w {0} || exit 83; exit 84"
LOOKED: dict[int, tuple[type[ConnectionFailed], str, str]] = {
    81: (
        NoLibvirt,
        "socket",
        "There is no socket {socket} on {name}, or {host} may not see it. Is libvirtd "
        "running there? Otherwise name its socket with ?socket=.",
    ),
    82: (
        NoLibvirt,
        "socket",
        "{socket} on {name} is not a socket. Name libvirt's with ?socket=.",
    ),
    83: (
        NoAccessToLibvirt,
        "permission",
        "{host} may not open the socket {socket}. Add the user to the group that owns "
        "it on that host (often libvirt).",
    ),
    84: (
        NoLibvirt,
        "socket",
        "Nobody listens on the socket {socket} of {name}, or its sshd forbids the way "
        "to it. Is libvirtd running there, and does sshd_config have "
        "AllowStreamLocalForwarding yes?",
    ),
}


def keys(folder: Path) -> list[Path]:
    """The private keys of the folder, or ConnectionFailed if there is none."""
    try:
        found = sorted(
            path
            for path in folder.glob("id_*")
            if path.suffix != ".pub" and path.is_file()
        )
    except OSError:
        found = []
    if not found:
        raise SshKeyUnusable(
            f"There is no ssh key in {folder}. Make one (ssh-keygen -t ed25519 -N '' "
            f"-f {folder}/id_ed25519) and add id_ed25519.pub to authorized_keys on the "
            "host.",
            step="ssh",
        )
    return found


def _keys(uri: HostUri, folder: Path) -> list[Path]:
    return [Path(uri.keyfile)] if uri.keyfile else keys(folder)


def forward(uri: HostUri, folder: Path, local: Path, open_s: float) -> list[str]:
    """The command that lets ``local`` lead to the libvirt socket of the host."""
    return [
        *_base(uri, folder, open_s * 0.8),
        *("-N", "-T", "-L", f"{local}:{uri.socket}"),
        *_destination(uri),
    ]


def _base(uri: HostUri, folder: Path, open_s: float) -> list[str]:
    options = [
        *_OPTIONS,
        f"ConnectTimeout={whole_seconds(open_s)}",
        f"UserKnownHostsFile={_quoted(known_hosts(uri, folder))}",
        *(f"IdentityFile={_quoted(key)}" for key in _keys(uri, folder)),
    ]
    command = ["ssh", "-F", "none"]
    for option in options:
        command += ["-o", option]
    if uri.port is not None:
        command += ["-p", str(uri.port)]
    if uri.user is not None:
        command += ["-l", uri.user]
    return command


def _destination(uri: HostUri) -> list[str]:
    return ["--", uri.host or ""]


def _quoted(path: Path) -> str:
    """A path inside ssh's options, where % begins a token and a space ends it."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def complaint(words: str, uri: HostUri, folder: Path) -> ConnectionFailed:
    """What ssh said when it ended, as an error of ours."""
    for pattern, kind, step, sentence in _COMPLAINTS:
        if re.search(pattern, words):
            return _failed(kind, step, sentence, uri, folder, _last_line(words))
    said = _last_line(words) or "it ended without a word"
    sentence = "ssh to {host} failed: {words}"
    return _failed(ConnectionFailed, "ssh", sentence, uri, folder, said)


def no_answer(uri: HostUri, folder: Path, seconds: float) -> ConnectionFailed:
    """ssh was still at it when the time was over."""
    sentence = (
        "ssh to {host} did not get through within {words} seconds. Is it healthy?"
    )
    return _failed(HostSilent, "ssh", sentence, uri, folder, f"{seconds:g}")


def refused_socket(
    words: str, uri: HostUri, folder: Path, until: float
) -> ConnectionFailed | None:
    """Why the far side did not let us at the socket, None if it did.

    sshd keeps the reason to itself, so it is asked for with a second ssh.
    """
    if "administratively prohibited" in words:
        return complaint(words, uri, folder)
    if not _OPEN_FAILED.search(words):
        return None
    look = LOOK.format(shlex.quote(uri.socket or ""))
    command = [*_base(uri, folder, left(until)), "-T", *_destination(uri), look]
    try:
        code = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=left(until),
        ).returncode
    except subprocess.TimeoutExpired:
        code = -1
    kind, step, sentence = LOOKED.get(
        code,
        (
            ConnectionFailed,
            "socket",
            "{name} did not let {host} connect to the socket {socket}. Is libvirtd "
            "running there, and is the user in the group that owns the socket?",
        ),
    )
    return _failed(kind, step, sentence, uri, folder, "")


def _failed(
    kind: type[ConnectionFailed],
    step: str,
    sentence: str,
    uri: HostUri,
    folder: Path,
    words: str,
) -> ConnectionFailed:
    port = uri.port or 22
    name = uri.host or ""
    return kind(
        sentence.format(
            name=name,
            host=f"{uri.user}@{name}" if uri.user else name,
            port=port,
            scan=name if port == 22 else f"-p {port} {name}",
            socket=uri.socket,
            folder=uri.keyfile or folder,
            known_hosts=known_hosts(uri, folder),
            words=words,
        ),
        step=step,
    )


def _last_line(words: str) -> str:
    """ssh's last words; what it warns of before that is noise."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else ""
