"""The keys that a host shows before anybody logs in, and those it is known by.

Nothing that is read here is trusted: it is shown to somebody who compares it.
"""

import subprocess
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from common.uri import HostUri
from common.uri_policy import PORTS
from workers.hypervisor.peer import left, whole_seconds

_KINDS: Final = "ed25519,ecdsa,rsa"


class HostKey(NamedTuple):
    """One public key, as it stands in known_hosts behind the host's name."""

    kind: str
    key: str

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen -l prints it."""
        digest = b64encode(sha256(b64decode(self.key)).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"


def place_of(uri: HostUri) -> str:
    """The host as known_hosts names it."""
    port = uri.port or PORTS["ssh"]
    return f"{uri.host}" if port == PORTS["ssh"] else f"[{uri.host}]:{port}"


def shown(uri: HostUri, until: float) -> list[HostKey]:
    """The keys that the host shows now, the preferred one first; none if it is mute."""
    port = uri.port or PORTS["ssh"]
    seconds = whole_seconds(left(until))
    command = ["ssh-keyscan", "-T", str(seconds), "-p", str(port), "-t", _KINDS]
    found = _keys(_output([*command, str(uri.host)], left(until)))
    return sorted(found, key=lambda one: "ed25519" not in one.kind)


def known_hosts(uri: HostUri, folder: Path) -> Path:
    """The file that says which keys hosts are known by."""
    return Path(uri.known_hosts) if uri.known_hosts else folder / "known_hosts"


def known(uri: HostUri, folder: Path, until: float) -> list[HostKey]:
    """The keys that the host is known by."""
    file = known_hosts(uri, folder)
    if not file.exists():
        return []
    return _keys(
        _output(["ssh-keygen", "-F", place_of(uri), "-f", str(file)], left(until))
    )


def _output(command: list[str], seconds: float) -> str:
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return ""
    return ended.stdout.decode("utf-8", "replace")


def _keys(text: str) -> list[HostKey]:
    lines = [line.split() for line in text.splitlines() if line[:1] not in "#@"]
    return [HostKey(fields[1], fields[2]) for fields in lines if len(fields) > 2]
