"""Domains and what they are read as: NAME.xml and NAME.json.

From QEMU of several generations (``qemu-9-…`` written by a real libvirt 9.0, the live
ones while the VM ran; the others in the same format by hand), and from other drivers.
After a change that is meant, ``python -m tests.golden`` writes the JSON anew: read the
difference before you commit it.
"""

from pathlib import Path

import msgspec

from workers import domain_xml
from workers.domain_xml import Domain

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.xml"))


def xml(name: str) -> bytes:
    return (FOLDER / f"{name}.xml").read_bytes()


def json(name: str) -> bytes:
    return (FOLDER / f"{name}.json").read_bytes()


def read_now(name: str) -> bytes:
    return msgspec.json.format(msgspec.json.encode(parse(xml(name)))) + b"\n"


def parse(text: str | bytes) -> Domain:
    """A domain as whoever reads its row gets it, with what was left out."""
    stored = msgspec.json.encode(domain_xml.parse(text))
    return msgspec.json.decode(stored, type=Domain)
