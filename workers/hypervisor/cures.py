"""The exact thing to do about each way in which a host cannot be reached."""

import getpass
import shlex
from pathlib import Path
from typing import Final

from common import refusals
from common.errors import ConnectionFailed
from common.uri import HostUri
from common.uri_policy import PORTS
from workers.hypervisor.host_keys import HostKey, known_hosts, place_of

# {host} is the address as one types it after ssh, {name} the host alone, {folder} the
# folder of keys, {on} how to get a shell there, {port} the port and {p} ssh's option.
_CURES: Final[dict[type[ConnectionFailed], dict[str, str]]] = {
    refusals.HostNameUnknown: {
        "": "Correct the name, or write the host's IP address in the URI; getent hosts"
        " {name} must answer on this machine."
    },
    refusals.HostSilent: {
        "": "Start the host, and let port {port} through its firewall: sudo ufw allow"
        " {port}/tcp"
    },
    refusals.HostRefuses: {
        "ssh": "On {name}: sudo systemctl enable --now ssh",
        "tcp": "On {name}: sudo systemctl stop libvirtd && sudo systemctl enable --now"
        " libvirtd-tcp.socket",
        "tls": "On {name}: sudo systemctl stop libvirtd && sudo systemctl enable --now"
        " libvirtd-tls.socket",
    },
    refusals.AuthenticationFailed: {"ssh": "ssh-copy-id -i {public}{p} {host}"},
    refusals.ForwardingForbidden: {
        "ssh": "On {name}: echo 'AllowStreamLocalForwarding yes' | sudo tee"
        " /etc/ssh/sshd_config.d/libvirt.conf && sudo systemctl reload ssh"
    },
    refusals.NoAccessToLibvirt: {
        "ssh": "ssh{p} -t {host} sudo usermod -aG libvirt {user}",
        "unix": "sudo usermod -aG libvirt {user}, then start the workers and monitors"
        " again",
    },
    refusals.NoLibvirt: {
        "ssh": "ssh{p} -t {host} 'sudo apt-get install -y libvirt-daemon-system && sudo"
        " systemctl enable --now libvirtd.socket'",
        "unix": "sudo apt-get install -y libvirt-daemon-system && sudo systemctl enable"
        " --now libvirtd.socket",
    },
    refusals.LibvirtSilent: {
        "ssh": "ssh{p} -t {host} sudo systemctl restart libvirtd",
        "": "On the host: sudo systemctl restart libvirtd",
    },
}


def cure(
    kind: type[ConnectionFailed], uri: HostUri, folder: Path, detail: str = ""
) -> str:
    """What to do, with this host's own names in it."""
    if kind is refusals.SshKeyUnusable:
        return _key_cure(folder, detail)
    ways = _CURES.get(kind, {})
    words = ways.get(uri.transport) or ways.get("") or kind.advice
    name = uri.host or "this machine"
    port = uri.port or PORTS.get(uri.transport, 0)
    return words.format(
        name=name,
        host=f"{uri.user}@{name}" if uri.user else name,
        user=uri.user or getpass.getuser(),
        port=port,
        p="" if port == PORTS["ssh"] else f" -p {port}",
        public=shlex.quote(f"{uri.keyfile}.pub" if uri.keyfile else _public(folder)),
    )


def _key_cure(folder: Path, detail: str) -> str:
    if "chmod" in detail:
        return f"chmod 600 {shlex.quote(str(folder))}/id_*"
    return f"ssh-keygen -t ed25519 -N '' -f {shlex.quote(str(folder / 'id_ed25519'))}"


def _public(folder: Path) -> str:
    return str(next(iter(sorted(folder.glob("id_*.pub"))), folder / "id_ed25519.pub"))


def pin(uri: HostUri, folder: Path, keys: list[HostKey]) -> str:
    """Let the host be known by the key that was shown, and no other."""
    line = f"{place_of(uri)} {keys[0].kind} {keys[0].key}"
    return f"echo {shlex.quote(line)} >> {shlex.quote(str(known_hosts(uri, folder)))}"


def forget(uri: HostUri, folder: Path) -> str:
    file = shlex.quote(str(known_hosts(uri, folder)))
    return f"ssh-keygen -R {shlex.quote(place_of(uri))} -f {file}"
