"""How much a hypervisor may claim. What it says is data from outside: a host that lies
harms its own rows alone, and takes no more memory than it is given here."""

import threading
from typing import Final

from common.errors import BrokenDomain, HostNotBelieved
from workers.domain_xml.readers import LONGEST_NAME
from workers.hypervisor.records import ListedDomain

MOST_VMS: Final = 10_000

_XML_BYTES_A_VM: Final = 16 * 1024
"""What libvirt writes of a VM is 3 to 8 KiB."""
_MOST_STATES: Final = 2**15
_MOST_REASONS: Final = 2**31


def check_number(vms: int, most: int) -> None:
    if vms > most:
        raise HostNotBelieved(
            f"The host lists {vms} VMs, more than the {most} that VIRTUMANCER_MAX_VMS"
            " allows; its rows stay as they were."
        )


class XmlBudget:
    """Counts the XML of one look at a host, in whatever threads it is read."""

    def __init__(self, most_vms: int) -> None:
        self._most = most_vms * _XML_BYTES_A_VM
        self._read = 0
        self._lock = threading.Lock()

    def take(self, xml: str) -> None:
        """Raises HostNotBelieved when it is used up."""
        with self._lock:
            self._read += len(xml)
            if self._read > self._most:
                raise HostNotBelieved(
                    f"The XML of the host's VMs is larger than {self._most >> 20} MiB"
                    " (16 KiB for each of VIRTUMANCER_MAX_VMS); its rows stay as they"
                    " were."
                )


def impossible(listed: ListedDomain) -> BrokenDomain | None:
    """Why no domain can be listed so, None if one can."""
    if len(listed.name) > LONGEST_NAME:
        return BrokenDomain(f"The name is longer than {LONGEST_NAME} characters.")
    if "\0" in listed.name or not _encodes(listed.name):
        return BrokenDomain("The name holds what no text does.")
    if not _within(listed.state, 0, _MOST_STATES):
        return BrokenDomain(f"Its state is no state: {listed.state!r:.40}.")
    if not _within(listed.state_reason, -_MOST_REASONS, _MOST_REASONS):
        return BrokenDomain(f"Its reason is none: {listed.state_reason!r:.40}.")
    return None


def _within(number: object, least: int, most: int) -> bool:
    """Which type a counter has is the host's word too."""
    return isinstance(number, int) and least <= number < most


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
