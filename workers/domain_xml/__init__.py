"""A domain's XML, as libvirt writes it, made into our shapes. Pure; lxml stays in here.

A table has one line for each fact: which path of the XML, which field of the shape. The
table is in this package: ``machine``, ``storage``, ``network``, ``devices`` and below;
``table`` says how it is read. https://libvirt.org/formatdomain.html
"""

from uuid import UUID

import msgspec
from lxml import etree

from common.errors import BrokenDomain
from common.shapes.hardware import (
    Features,
    Graphics,
    Hardware,
    LaunchSecurity,
    Lifecycle,
    SecurityLabel,
    Vsock,
)
from workers.domain_xml import devices, machine, network, storage
from workers.domain_xml.readers import (
    domain_name,
    domain_uuid,
    enabled_children,
    guest_address,
    memory_bytes,
    vcpu_count,
    whole_text,
)
from workers.domain_xml.table import Many, OfElement, OfText, Table
from workers.sparse import sparse

LARGEST_XML = 4 * 1024 * 1024
MOST_DEVICES = 4096


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """One domain as its XML describes it.

    ``vcpu_count`` counts the virtual CPUs it has, ``hardware.cpu.max_vcpus`` those it
    can have. ``memory_bytes`` is its memory at boot, before ballooning. ``hardware`` is
    encoded sparsely.
    """

    name: str
    uuid: UUID
    title: str = ""
    description: str = ""
    vcpu_count: int = 1
    memory_bytes: int = 0
    graphics: Graphics = Graphics()
    hardware: Hardware = sparse(Hardware)()


HARDWARE = Table(
    Hardware,
    hypervisor="@type",
    os=machine.OS,
    cpu=machine.CPU,
    memory=machine.MEMORY,
    disks=Many("devices/disk", storage.DISK),
    networks=Many("devices/interface", network.NETWORK),
    graphics=Many("devices/graphics", devices.GRAPHICS),
    video=Many("devices/video", devices.VIDEO),
    controllers=Many("devices/controller", devices.CONTROLLER),
    host_devices=Many("devices/hostdev", devices.HOST_DEVICE),
    filesystems=Many("devices/filesystem", storage.FILESYSTEM),
    consoles=Many("devices/console", devices.CHAR_DEVICE),
    serials=Many("devices/serial", devices.CHAR_DEVICE),
    parallels=Many("devices/parallel", devices.CHAR_DEVICE),
    channels=Many("devices/channel", devices.CHAR_DEVICE),
    inputs=Many("devices/input", devices.INPUT),
    sound=Many("devices/sound", devices.SOUND),
    audio=Many("devices/audio", devices.AUDIO),
    tpm=Many("devices/tpm", devices.TPM),
    rng=Many("devices/rng", devices.RNG),
    watchdog=Many("devices/watchdog", devices.WATCHDOG),
    panic=Many("devices/panic", devices.PANIC),
    memory_devices=Many("devices/memory", devices.MEMORY_DEVICE),
    iommu=Many("devices/iommu", devices.IOMMU),
    vsock=Table(
        Vsock,
        model="devices/vsock/@model",
        cid="devices/vsock/cid/@address",
        auto="devices/vsock/cid/@auto",
        alias="devices/vsock/alias/@name",
        address=OfElement("devices/vsock/address", guest_address),
    ),
    smartcards=Many("devices/smartcard", devices.SMARTCARD),
    redirected_devices=Many("devices/redirdev", devices.REDIRECTED_DEVICE),
    shared_memory=Many("devices/shmem", devices.SHARED_MEMORY),
    hubs=Many("devices/hub", devices.HUB),
    leases=Many("devices/lease", devices.LEASE),
    crypto=Many("devices/crypto", devices.CRYPTO),
    features=Table(
        Features,
        enabled=OfElement("features", enabled_children),
        hyperv=OfElement("features/hyperv", enabled_children),
        kvm=OfElement("features/kvm", enabled_children),
    ),
    clock=machine.CLOCK,
    lifecycle=Table(
        Lifecycle,
        on_poweroff="on_poweroff",
        on_reboot="on_reboot",
        on_crash="on_crash",
        on_lockfailure="on_lockfailure",
        suspend_to_mem="pm/suspend-to-mem/@enabled",
        suspend_to_disk="pm/suspend-to-disk/@enabled",
    ),
    security_labels=Many(
        "seclabel",
        Table(
            SecurityLabel,
            type="@type",
            model="@model",
            relabel="@relabel",
            label="label",
            image_label="imagelabel",
        ),
    ),
    launch_security=Table(
        LaunchSecurity,
        type="launchSecurity/@type",
        policy="launchSecurity/policy",
        kernel_hashes="launchSecurity/@kernelHashes",
    ),
    emulator="devices/emulator",
    generation_id="genid",
    partition="resource/partition",
)

DOMAIN = Table(
    Domain,
    name=OfText("name", domain_name),
    uuid=OfText("uuid", domain_uuid),
    title=OfElement("title", whole_text),
    description=OfElement("description", whole_text),
    vcpu_count=(OfText("vcpu/@current", vcpu_count), OfText("vcpu", vcpu_count)),
    memory_bytes=OfElement("memory", memory_bytes),
    graphics=Table(
        Graphics,
        vnc=OfText("devices/graphics/@type", {"vnc": True}.get),
        spice=OfText("devices/graphics/@type", {"spice": True}.get),
    ),
    hardware=HARDWARE,
)


def _parser(encoding: str | None) -> etree.XMLParser:
    return etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


_OF_BYTES = _parser(None)
# Text is decoded already: what its declaration says of an encoding no longer counts.
_OF_TEXT = _parser("utf-8")


def parse(xml: str | bytes) -> Domain:
    """Reads one domain. BrokenDomain, and nothing else, if it cannot be read."""
    facts = DOMAIN.gather(_root(xml))
    if "name" not in facts:
        raise BrokenDomain("The XML does not name the domain.")
    if "uuid" not in facts:
        raise BrokenDomain("The XML gives the domain no UUID.")
    return Domain(**facts)


def _root(xml: str | bytes) -> etree._Element:
    parser = _OF_BYTES if isinstance(xml, bytes) else _OF_TEXT
    try:
        data = xml if isinstance(xml, bytes) else xml.encode()
        if len(data) > LARGEST_XML:
            raise BrokenDomain(f"The XML is larger than {LARGEST_XML} bytes.")
        root = etree.fromstring(data, parser)
    except UnicodeEncodeError:
        raise BrokenDomain("The XML holds half a character.") from None
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BrokenDomain(f"The XML cannot be parsed: {str(error)[:200]}.") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise BrokenDomain("The XML has a document type, which no domain has.")
    if root.tag != "domain":
        raise BrokenDomain(f"The XML is no domain but a <{str(root.tag)[:40]}>.")
    devices_there = root.find("devices")
    if devices_there is not None and len(devices_there) > MOST_DEVICES:
        raise BrokenDomain(f"The domain has more than {MOST_DEVICES} devices.")
    return root
