"""What goes wrong on real hosts, under its own name: each provoked, none imagined."""

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from common.errors import LibvirtRefused, VirtumancerError
from common.refusals import (
    AddressInUse,
    AgentSilent,
    ConfigurationInvalid,
    CpuIncompatible,
    DeviceMissing,
    DiskInUse,
    DiskMissing,
    LockedByJob,
    MachineTypeUnknown,
    NetworkInactive,
    NetworkMissing,
    NoEmulator,
    NoKvm,
    OutOfMemory,
    PermissionDenied,
    SecretMissing,
    StorageFailed,
    StorageMissing,
    Unsupported,
)
from embedded.accounts import ordinary
from embedded.libvirtd import Libvirtd
from embedded.machines import define_machine
from tests.lab.hypervisors import behind_our_back, checked, define, hypervisor
from workers.hypervisor.codes import translated
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Timeouts

INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
IDLE_NETWORK = "<network><name>idle</name></network>"

Kind = type[VirtumancerError]
Change = Callable[[str], str]


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Libvirtd]:
    with hypervisor(server_folder / "refusals") as server:
        yield server


@pytest.fixture(scope="module")
def qemu(server: Libvirtd) -> Iterator[Any]:
    with behind_our_back(server, "qemu") as connection:
        yield connection


@pytest.fixture
def real(server: Libvirtd) -> Iterator[Connection]:
    uri = checked(server.uri("qemu", "session"), server.folder)
    connection = Connection.open(uri, Path("/nonexistent"), Timeouts())
    yield connection
    connection.close()


class Machines:
    """Makes real machines that have something wrong with them."""

    def __init__(self, qemu: Any, folder: Path) -> None:
        self._qemu = qemu
        self.folder = folder
        self._made: list[Any] = []

    def make(self, name: str, change: Change = lambda xml: xml) -> str:
        """Its uuid; some of what is wrong is refused here already."""
        domain = define_machine(self._qemu, name, self.folder)
        xml = change(domain.XMLDesc(INACTIVE))
        domain.undefine()
        with translated():
            self._made.append(self._qemu.defineXML(xml))
        uuid: str = self._made[-1].UUIDString()
        return uuid

    def image(self, name: str) -> Path:
        return self.folder / f"{name}.img"

    def remove(self) -> None:
        for domain in self._made:
            if domain.isActive():
                domain.destroy()
            domain.undefine()


@pytest.fixture
def machines(qemu: Any, server: Libvirtd, tmp_path: Path) -> Iterator[Machines]:
    machines = Machines(qemu, server.folder / tmp_path.name)
    yield machines
    machines.remove()


def refused(kind: Kind, act: Callable[[], object]) -> VirtumancerError:
    """The refusal, which is of this kind and of no other, with libvirt's words."""
    with pytest.raises(VirtumancerError) as refusal:
        act()
    assert type(refusal.value) is kind, refusal.value.detail
    assert issubclass(kind, LibvirtRefused)
    assert kind.status == 500
    assert refusal.value.extra["libvirt_message"] in refusal.value.detail
    return refusal.value


# ---- A machine that cannot start.


def put(pattern: str, replacement: str) -> Change:
    """Replace what the pattern finds in the XML."""

    def change(xml: str) -> str:
        changed, count = re.subn(pattern, replacement, xml, flags=re.DOTALL)
        assert count, pattern
        return changed

    return change


def nic(source: str) -> Change:
    return put("<interface type='user'>", f"<interface {source}")


def device(xml: str) -> Change:
    return put("</devices>", f"{xml}</devices>")


CPU = "<cpu mode='custom' match='exact'{}<features>"
USB = (
    "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/>"
    "<product id='0xbeef'/></source></hostdev>"
)
TPM = (
    "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/no-tpm'/>"
    "</backend></tpm>"
)
LUKS = (
    "<encryption format='luks'><secret type='passphrase'"
    " uuid='11111111-2222-3333-4444-555555555555'/></encryption><target dev='vda'"
)
WRONG: dict[str, tuple[Kind, Change]] = {
    "machine-type": (
        MachineTypeUnknown,
        put("machine='[^']*'", "machine='pc-i440fx-99.9'"),
    ),
    "memory": (
        OutOfMemory,
        put("(<(?:memory|currentMemory) unit='KiB'>)[0-9]+", rf"\g<1>{2**38}"),
    ),
    "hugepages": (
        OutOfMemory,
        put("<vcpu", "<memoryBacking><hugepages/></memoryBacking><vcpu"),
    ),
    "network": (NetworkMissing, nic("type='network'><source network='nowhere'/>")),
    "bridge": (NetworkMissing, nic("type='bridge'><source bridge='nobr7'/>")),
    "nic": (NetworkMissing, nic("type='direct'><source dev='noeth9' mode='bridge'/>")),
    "cpu": (
        CpuIncompatible,
        put("<features>", CPU.format("><model>Abacus</model></cpu>")),
    ),
    "emulator": (
        NoEmulator,
        put("<emulator>[^<]*", "<emulator>/nowhere/qemu"),
    ),
    "usb": (DeviceMissing, device(USB)),
    "tpm": (DeviceMissing, device(TPM)),
    "pool": (
        StorageMissing,
        put(
            "<disk type='file'(.*?)<source file=[^>]*>",
            r"<disk type='volume'\1<source pool='nowhere' volume='x'/>",
        ),
    ),
    "format": (StorageFailed, put("type='raw'", "type='qcow2'")),
    "secret": (SecretMissing, put("<target dev='vda'", LUKS)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_machine_with_something_wrong_does_not_start(
    name: str, real: Connection, machines: Machines
) -> None:
    kind, change = WRONG[name]

    refused(kind, lambda: real.power(machines.make(name, change), "start"))


def test_a_disk_that_is_gone(real: Connection, machines: Machines) -> None:
    machine = machines.make("gone")
    machines.image("gone").unlink()

    refusal = refused(DiskMissing, lambda: real.power(machine, "start"))

    assert "gone.img" in refusal.detail


def test_a_disk_that_may_not_be_read(real: Connection, machines: Machines) -> None:
    machine = machines.make("forbidden")
    machines.image("forbidden").chmod(0)

    refused(PermissionDenied, lambda: real.power(machine, "start"))


def test_a_disk_that_another_machine_writes(
    real: Connection, machines: Machines
) -> None:
    first = machines.make("first")
    second = machines.make("second", put("second.img", "first.img"))
    real.power(first, "start")

    refused(DiskInUse, lambda: real.power(second, "start"))


def test_a_port_that_is_taken(real: Connection, machines: Machines) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        vnc = f"<graphics type='vnc' port='{port}' autoport='no' listen='127.0.0.1'/>"
        display = put("<graphics type='vnc'.*?</graphics>", vnc)
        machine = machines.make("display", display)

        refused(AddressInUse, lambda: real.power(machine, "start"))


def test_a_network_that_is_not_active(
    real: Connection, machines: Machines, qemu: Any
) -> None:
    network = qemu.networkDefineXML(IDLE_NETWORK)
    machine = machines.make("idle", nic("type='network'><source network='idle'/>"))

    refused(NetworkInactive, lambda: real.power(machine, "start"))
    network.undefine()


def test_a_host_without_kvm(qemu: Any, machines: Machines) -> None:
    if _may_use_kvm():
        pytest.skip("this machine has KVM")
    machine = qemu.lookupByUUIDString(machines.make("kvm"))
    xml = machine.XMLDesc(INACTIVE).replace("type='qemu'", "type='kvm'", 1)

    def define_for_kvm() -> None:
        with translated():
            qemu.defineXML(xml).create()

    refused(NoKvm, define_for_kvm)


def _may_use_kvm() -> bool:
    """Whether the ordinary user, who runs libvirtd here, may."""
    if not Path("/dev/kvm").exists():
        return False
    was = os.geteuid()
    os.seteuid(ordinary().uid) if was == 0 else None
    try:
        return os.access("/dev/kvm", os.R_OK | os.W_OK, effective_ids=True)
    finally:
        os.seteuid(was)


# ---- What cannot be asked.


def test_what_the_hypervisor_cannot_do(server: Libvirtd) -> None:
    with behind_our_back(server) as virsh:
        domain = virsh.lookupByUUIDString(define(virsh, "no-sleeper"))

        def wake_up() -> None:
            with translated():
                domain.pMWakeup()

        refused(Unsupported, wake_up)


def test_what_a_reader_may_not_do(server: Libvirtd, machines: Machines) -> None:
    machine = machines.make("guarded")
    reader = libvirt.openReadOnly(server.url)

    def start() -> None:
        with translated():
            reader.lookupByUUIDString(machine).create()

    refused(PermissionDenied, start)
    reader.close()


def test_an_agent_that_is_not_there(
    real: Connection, machines: Machines, qemu: Any
) -> None:
    machine = machines.make("agentless")
    real.power(machine, "start")

    def shut_down() -> None:
        with translated():
            agent = libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
            qemu.lookupByUUIDString(machine).shutdownFlags(agent)

    refused(AgentSilent, shut_down)


def test_xml_that_makes_no_machine(qemu: Any) -> None:
    def define_nothing() -> None:
        with translated():
            qemu.defineXML("<domain type='qemu'><name>x</name></domain>")

    refused(ConfigurationInvalid, define_nothing)


# ---- A machine that is busy.


def test_a_machine_that_another_job_holds(
    real: Connection,
    machines: Machines,
    server: Libvirtd,
    qemu: Any,
    eventually: Callable[..., None],
) -> None:
    machine = machines.make("stuck")
    real.power(machine, "start")
    [process] = server.machines()
    os.kill(process, signal.SIGSTOP)
    domain = qemu.lookupByUUIDString(machine)
    first = threading.Thread(target=domain.suspend)
    first.start()
    try:
        eventually(lambda: domain.controlInfo()[0] != libvirt.VIR_DOMAIN_CONTROL_OK)

        # libvirt itself waits for 30 s, and that cannot be set.
        refusal = refused(LockedByJob, lambda: real.power(machine, "reset"))
    finally:
        os.kill(process, signal.SIGCONT)
        first.join(10)

    assert refusal.retryable
