"""How libvirt writes sizes, addresses and switches: readers for facts that are more
than one text."""

from collections.abc import Callable
from uuid import UUID

from common.errors import BrokenDomain
from common.shapes.hardware import Address
from workers.domain_xml.table import MAX_INT64, Element, ReadElement, integer
from workers.sparse import sparse

LONGEST_NAME = 512
LONGEST_PROSE = 16_384
MOST_VCPUS = 2**31 - 1
_POWERS = {letter: power for power, letter in enumerate("kmgtpe", start=1)}


def scale(unit: str) -> int | None:
    """Bytes in a unit, None for an unknown one; ``k`` and ``KiB`` 1024, ``KB`` 1000.

    https://libvirt.org/formatdomain.html#memory-allocation
    """
    unit = unit.strip().lower()
    if unit in ("b", "byte", "bytes"):
        return 1
    power = _POWERS.get(unit[:1])
    base = {"": 1024, "ib": 1024, "b": 1000}.get(unit[1:])
    return base**power if power and base else None


def _bytes(text: str | None, unit: str) -> int | None:
    size = integer(text) if text else None
    factor = scale(unit)
    if size is None or factor is None:
        return None
    if not 0 <= size * factor <= MAX_INT64:
        raise BrokenDomain(f"The XML has an impossible size: {size} {unit}.")
    return size * factor


def sized(unit: str, attribute: str = "", units: str = "unit") -> ReadElement:
    """Bytes, of the element's text or attribute, in ``unit`` if no other is named."""

    def read(element: Element) -> int | None:
        text = element.get(attribute) if attribute else element.text
        return _bytes(text, element.get(units) or unit)

    return read


def kib(attribute: str = "") -> ReadElement:
    """KiB, rounded up as libvirt does, of the element's text or attribute."""

    def read(element: Element) -> int | None:
        text = element.get(attribute) if attribute else element.text
        unit = element.get("unit") or "KiB"
        if unit == "KiB" and text and len(text) < 16 and text.isdigit():
            return int(text)
        size = _bytes(text, unit)
        return None if size is None else -(-size // 1024)

    return read


def domain_name(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise BrokenDomain(f"The name is longer than {LONGEST_NAME} characters.")
    return text


def domain_uuid(text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise BrokenDomain(f"The UUID is none: {text[:40]}.") from None


def memory_bytes(element: Element) -> int:
    size = _bytes(element.text, element.get("unit") or "KiB")
    if size is None:
        raise BrokenDomain("The XML's <memory> is not a size.")
    return size


def vcpu_count(text: str) -> int:
    number = integer(text)
    if number is None or not 0 <= number <= MOST_VCPUS:
        raise BrokenDomain("The XML's <vcpu> is not a number of CPUs.")
    return number


def whole_text(element: Element) -> str | None:
    """Prose, spaces and line ends kept, and cut where it is longer than anybody's."""
    text = element.text or ""
    if len(text) > LONGEST_PROSE:
        return text[: LONGEST_PROSE - 1] + "…"
    return text or None


def lower(text: str) -> str:
    return text.lower()


def enabled_children(element: Element) -> list[str] | None:
    """The names of the switches inside that are not off."""
    return [
        child.tag for child in element if child.get("state") not in ("off", "no")
    ] or None


def secure_boot(feature: Element) -> bool | None:
    """What ``<feature name='secure-boot' enabled='yes'/>`` says of secure boot."""
    if feature.get("name") != "secure-boot":
        return None
    return feature.get("enabled") == "yes"


def bios(os: Element) -> str | None:
    """QEMU gives a PC a BIOS unless told otherwise; elsewhere silence says nothing."""
    domain, system = os.getparent(), os.find("type")
    if domain is None or system is None or os.find("loader") is not None:
        return None
    runs_qemu = domain.get("type") in ("kvm", "qemu")
    # Cloud Hypervisor calls itself kvm too, but has no machine types.
    is_pc = system.get("arch") in ("x86_64", "i686") and system.get("machine")
    return "bios" if runs_qemu and is_pc and system.text == "hvm" else None


def pci(element: Element) -> str:
    """``0000:04:00.0``, as ``lspci`` writes it."""
    get = dict(element.items()).get
    return (
        f"{_hex(get('domain'), 4)}:{_hex(get('bus'), 2)}"
        f":{_hex(get('slot'), 2)}.{_hex(get('function'), 1)}"
    )


def _hex(text: str | None, width: int) -> str:
    if text is None:
        return "0" * width
    if len(text) == width + 2 and text[1] == "x":
        return text[2:]
    number = integer(text)
    return text if number is None else f"{number:0{width}x}"


def _joined(*names: str) -> Callable[[Element], str]:
    def read(element: Element) -> str:
        return ":".join(element.get(name) or "0" for name in names)

    return read


def _ccw(element: Element) -> str:
    cssid, ssid, devno = (element.get(name) for name in ("cssid", "ssid", "devno"))
    return f"{_hex(cssid, 1)}.{_hex(ssid, 1)}.{_hex(devno, 4)}"


_ADDRESSES: dict[str, Callable[[Element], str | None]] = {
    "pci": pci,
    "drive": _joined("controller", "bus", "target", "unit"),
    "virtio-serial": _joined("controller", "bus", "port"),
    "ccid": _joined("controller", "slot"),
    "usb": _joined("bus", "port"),
    "ccw": _ccw,
    "spapr-vio": lambda element: element.get("reg"),
    "isa": lambda element: element.get("iobase") or element.get("irq"),
    "dimm": lambda element: element.get("slot"),
}


_Address = sparse(Address)


def guest_address(element: Element) -> Address | None:
    kind = element.get("type")
    if not kind:
        return None
    read = _ADDRESSES.get(kind)
    return _Address(type=kind, at=read(element) if read else None)


def host_address(element: Element) -> str | None:
    """The address of a host's device: PCI, USB, SCSI or mediated, told by its parts."""
    get = element.get
    if uuid := get("uuid"):
        return uuid
    if get("domain") or get("slot"):
        return pci(element)
    if get("unit"):
        return _joined("bus", "target", "unit")(element)
    return _joined("bus", "device")(element) if get("device") else None
