"""The last counters of every VM of a host, as its monitor keeps them for a scrape."""

from typing import Final

import msgspec
from msgspec import Struct


class Traffic(Struct, array_like=True, frozen=True):
    """What went through a disk or a NIC since the VM began; read is received."""

    read_bytes: int
    write_bytes: int
    reads: int
    writes: int


class VmCounters(Struct, array_like=True, frozen=True):
    """``behind_s`` older than the host's sample: then the VM was too busy to say."""

    behind_s: float
    cpu_s: float
    disks: dict[str, Traffic]
    nics: dict[str, Traffic]


HostCounters = dict[str, VmCounters]
"""By the VM's uuid."""

decode: Final = msgspec.json.Decoder(HostCounters).decode
