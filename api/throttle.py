"""Failed attempts by address: some are forgiven, many are not looked at any more."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

FORGIVEN: Final = 20
FORGIVEN_EVERY_S: Final = 3.0
"""An address may fail so often at once, and once more after each while."""
MOST_ADDRESSES: Final = 10_000


class Throttle:
    """Remembers when each address will have been forgiven everything."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clean_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str) -> int:
        """How long an address has to wait; 0 if it may try."""
        owed_s = self._clean_at.get(network_of(address), 0) - self._clock()
        return max(0, math.ceil(owed_s - (FORGIVEN - 1) * FORGIVEN_EVERY_S))

    def failed(self, address: str) -> None:
        network = network_of(address)
        clean_at = max(self._clean_at.pop(network, 0), self._clock())
        self._clean_at[network] = clean_at + FORGIVEN_EVERY_S
        if len(self._clean_at) > MOST_ADDRESSES:
            self._clean_at.popitem(last=False)


def network_of(address: str) -> str:
    """One subscriber has many IPv6 addresses, and one network of them."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
