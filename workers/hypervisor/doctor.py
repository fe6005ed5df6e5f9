"""What stands between us and a host: each step tried, and the exact cure of the first
that fails."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from common import refusals
from common.errors import ConnectionFailed, LibvirtRefused, VirtumancerError
from common.shapes import CheckStep
from common.uri import HostUri
from common.uri_policy import PORTS
from workers.hypervisor import cures, host_keys, peer
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Timeouts

# What of the way each failure is about; whatever comes before it has worked.
_PLACES: Final[tuple[tuple[type[ConnectionFailed], str], ...]] = (
    (refusals.HostNameUnknown, "dns"),
    (refusals.HostSilent, "tcp"),
    (refusals.HostRefuses, "tcp"),
    (refusals.HostKeyUnknown, "host-key"),
    (refusals.HostKeyChanged, "host-key"),
    (refusals.SshKeyUnusable, "ssh"),
    (refusals.AuthenticationFailed, "ssh"),
    (refusals.ForwardingForbidden, "ssh"),
    (refusals.CertificateUntrusted, "tls"),
    (refusals.CertificateUnusable, "tls"),
    (refusals.NoAccessToLibvirt, "socket"),
    (refusals.NoLibvirt, "socket"),
    (refusals.LibvirtSilent, "libvirt"),
)
_DONE: Final = {
    "ssh": "The login works.",
    "tls": "The certificates are in order, on both sides.",
    "socket": "libvirt's socket is there, and may be used.",
    "libvirt": "libvirtd answers.",
}

_WAYS: Final = {
    "ssh": ("ssh", "socket", "libvirt"),
    "unix": ("socket", "libvirt"),
    "tcp": ("libvirt",),
    "tls": ("tls", "libvirt"),
}
_NO_KVM: Final = CheckStep(
    name="kvm",
    ok=False,
    detail="There is no KVM: VMs of type kvm cannot start, others are emulated and"
    " slow. The host can be added all the same.",
    fix="On the host: sudo modprobe kvm_intel || sudo modprobe kvm_amd; if there is"
    " none, turn virtualisation (VT-x, AMD-V) on in its firmware.",
)

Open = Callable[[], Connection]


def examine(
    uri: HostUri, ssh_dir: Path, timeouts: Timeouts, open_host: Open
) -> Iterator[CheckStep]:
    """The steps in their order, up to the first that fails."""
    until = time.monotonic() + timeouts.open_s
    try:
        if uri.host is not None:
            yield from _network(uri, uri.host, until)
        if uri.transport == "ssh":
            yield (step := _host_key(uri, ssh_dir, until))
            if not step.ok:
                return
        connection = open_host()
    except ConnectionFailed as error:
        yield from _failed(error, uri, ssh_dir)
        return
    try:
        yield from _passed(uri, before="libvirt")
        yield from _hypervisor(connection)
    finally:
        connection.close()


def _network(uri: HostUri, host: str, until: float) -> Iterator[CheckStep]:
    addresses = peer.resolve(host, until)
    yield CheckStep(name="dns", ok=True, detail=f"{host} is {', '.join(addresses)}.")
    port = uri.port or PORTS[uri.transport]
    try:
        peer.connect_tcp(host, port, until).close()
    except refusals.HostRefuses as error:
        if uri.transport != "ssh":
            raise
        raise refusals.HostRefuses(
            f"{host} refuses connections to port {port}. Does sshd listen there?",
            step="tcp",
        ) from error
    yield CheckStep(name="tcp", ok=True, detail=f"{host} accepts on port {port}.")


def _host_key(uri: HostUri, ssh_dir: Path, until: float) -> CheckStep:
    shown = host_keys.shown(uri, until)
    known = host_keys.known(uri, ssh_dir, until)
    if not shown:
        return CheckStep(
            name="host-key",
            ok=False,
            detail="What listens there does not speak ssh, or not with us.",
            fix=cures.cure(refusals.HostRefuses, uri, ssh_dir),
        )
    words = ", ".join(f"{one.kind} {one.fingerprint}" for one in shown)
    if set(shown) & set(known):
        detail = f"The host is known by its key: {words}."
        return CheckStep(name="host-key", ok=True, detail=detail)
    pin = cures.pin(uri, ssh_dir, shown)
    if known:
        return CheckStep(
            name="host-key",
            ok=False,
            detail=f"The host shows another key than the one it is known by: {words}."
            " Unless it was installed anew, somebody may be in between.",
            fix=f"{cures.forget(uri, ssh_dir)} && {pin}",
        )
    return CheckStep(
        name="host-key",
        ok=False,
        detail=f"The host is not known yet; it shows {words}. Compare that with what"
        " ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub prints on the host itself.",
        fix=pin,
    )


def _failed(
    error: ConnectionFailed, uri: HostUri, ssh_dir: Path
) -> Iterator[CheckStep]:
    named = [name for kind, name in _PLACES if isinstance(error, kind)]
    step = str(error.extra.get("step", "libvirt"))
    name = named[0] if named else step
    yield from _passed(uri, before=name)
    fix = cures.cure(type(error), uri, ssh_dir, error.detail)
    yield CheckStep(name=name, ok=False, detail=error.detail, fix=fix)


def _passed(uri: HostUri, before: str) -> Iterator[CheckStep]:
    """The steps of opening a connection that came before this one."""
    way = _WAYS[uri.transport]
    for name in way[: way.index(before)] if before in way else ():
        yield CheckStep(name=name, ok=True, detail=_DONE[name])


def _hypervisor(connection: Connection) -> Iterator[CheckStep]:
    try:
        facts = connection.host_facts()
    except VirtumancerError as error:
        yield CheckStep(name="libvirt", ok=False, detail=error.detail, fix=error.advice)
        return
    version = f" {facts.hypervisor_version}" if facts.hypervisor_version else ""
    yield CheckStep(
        name="libvirt",
        ok=True,
        detail=f"libvirt {facts.libvirt_version} with {facts.hypervisor}{version} on"
        f" {facts.hostname}.",
    )
    if facts.hypervisor != "QEMU":
        return
    try:
        connection.ask_for_kvm()
    except LibvirtRefused:
        yield _NO_KVM
    else:
        yield CheckStep(name="kvm", ok=True, detail="VMs run with KVM.")
