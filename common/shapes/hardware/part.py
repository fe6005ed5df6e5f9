"""What every piece of hardware is made of. Each field has a default: an absent fact is
null, an absent list empty."""

from msgspec import Struct


class Part(Struct, frozen=True, gc=False):
    """A piece of a VM. Free of cycles by construction, so kept from the collector."""


class Address(Part, frozen=True):
    """Where a device sits in the VM: ``pci`` at ``0000:04:00.0``, ``drive`` at
    ``0:0:0:1`` (controller, bus, target, unit), ``usb`` at ``0:2`` (bus, port).

    https://libvirt.org/formatdomain.html#device-addresses
    """

    type: str | None = None
    at: str | None = None


class Device(Part, frozen=True, kw_only=True):
    """``alias`` is libvirt's name for the device in its events and commands.

    Keyword-only, so that a device's own facts come first in JSON.
    """

    alias: str | None = None
    address: Address | None = None
