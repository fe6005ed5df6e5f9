"""The three demo machines of the embedded hypervisor, and small real VMs for tests."""

import hashlib
import uuid
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import libvirt

from embedded.boot import boot_image
from embedded.folders import private
from embedded.libvirtd import Libvirtd

NAMES = ("demo-one", "demo-two", "demo-three")

# The network card's own boot program would cost a second at every start.
MACHINE = """\
<domain type={domain_type}>
  <name>{name}</name>
  <uuid>{machine_uuid}</uuid>
  <title>{title}</title>
  <description>{description}</description>
  <memory unit='KiB'>65536</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features><acpi/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file={disk}/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'>
      <mac address='{mac}'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    <serial type='pty'/>
    <console type='pty'/>
    <graphics type='vnc'><listen type='socket'/></graphics>
    <video><model type='vga' vram='4096'/></video>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""


def machine_xml(
    name: str,
    machine_uuid: str,
    disk: Path,
    *,
    mac: str | None = None,
    domain_type: str = "qemu",
    title: str = "",
    description: str = "",
) -> str:
    """The domain XML of a machine with 64 MiB, a disk, a NIC, VNC and a console.

    The disk is one that `boot_image` wrote. A MAC that is not given is derived from
    the UUID.
    """
    return MACHINE.format(
        domain_type=quoteattr(domain_type),
        name=escape(name),
        machine_uuid=machine_uuid,
        title=escape(title or name),
        description=escape(description),
        disk=quoteattr(str(disk)),
        mac=mac or _mac(machine_uuid),
    )


def define_machine(
    connection: libvirt.virConnect, name: str, folder: Path, domain_type: str = "qemu"
) -> libvirt.virDomain:
    """Define a machine whose disk image lies in the folder, both named alike.

    The image is written last: where it is, the machine was defined before.
    """
    disk = private(folder) / f"{name}.img"
    machine_uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, disk.as_uri()))
    domain = connection.defineXML(
        machine_xml(
            name,
            machine_uuid,
            disk,
            domain_type=domain_type,
            description="A small machine to try things on.",
        )
    )
    boot_image(disk)
    return domain


def define_demo(hypervisor: Libvirtd) -> list[str]:
    """Define those demo machines that never were; return their names.

    A machine that its user has undefined does not come back.
    """
    folder = hypervisor.folder / "disks"
    missing = [name for name in NAMES if not (folder / f"{name}.img").exists()]
    if not missing:
        return []
    connection = libvirt.open(hypervisor.url)
    try:
        domain_type = best_domain_type(connection.getCapabilities())
        for name in missing:
            define_machine(connection, name, folder, domain_type)
    finally:
        connection.close()
    return missing


def best_domain_type(capabilities: str) -> str:
    """`kvm` where the hypervisor can use it for x86_64 guests, else `qemu`."""
    root = ElementTree.fromstring(capabilities)
    kinds = root.iterfind("guest/arch[@name='x86_64']/domain")
    return "kvm" if any(kind.get("type") == "kvm" for kind in kinds) else "qemu"


def _mac(machine_uuid: str) -> str:
    digest = hashlib.sha256(machine_uuid.encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])
