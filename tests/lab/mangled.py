"""A program: everything that workers and monitors ask, of a libvirtd whose messages are
mangled on their way.

``python -m tests.lab.mangled SOCKET SEED ROUNDS`` prints how often an answer was taken,
and ends with 1 if anything was raised that is no error of ours. libvirt's client is
written in C, so this is a process of its own.
"""

import random
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import libvirt
import msgspec

from common.errors import VirtumancerError
from common.uri import parse
from common.uri_policy import UriPolicy
from tests.lab.proxy import LyingProxy
from workers import domain_xml
from workers.fleet import counters_of
from workers.hypervisor.connection import Connection
from workers.hypervisor.events import start_event_loop, subscribe
from workers.hypervisor.records import Devices, StatsGroup, Timeouts
from workers.reading import Reading
from workers.stats import sample

ODD = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xfe",
)
TIMES = Timeouts(2, 1, 1)
KEYS = Path("/nonexistent")


class Mangler:
    """Changes a part of what passes, once ``share`` is above zero."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.share = 0.0

    def lie(self, procedure: int, body: bytes) -> bytes:
        dice = self._random
        if len(body) < 8 or dice.random() > self.share:
            return body
        mangled = bytearray(body)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            at = dice.randrange(len(mangled))
            match dice.randrange(5):
                case 0 | 1:
                    mangled[at] = dice.randrange(256)
                case 2 | 3:
                    at -= at % 4
                    mangled[at : at + 4] = dice.choice(ODD)
                case _:
                    del mangled[at : at + 4]
        return bytes(mangled)


def honest(procedure: int, body: bytes) -> bytes:
    return body


def nothing_is_counted(xml: str) -> Devices:
    domain_xml.parse(xml)
    return Devices(("vda",), ("vnet0",))


def questions(connection: Connection, uuid: str) -> list[Callable[[], object]]:
    def stats() -> None:
        seen = connection.stats([uuid], StatsGroup.ALL, nothing_is_counted)
        msgspec.json.encode([sample(one, None) for one in seen.values()])

    def fleet() -> None:
        seen = connection.fleet_stats(StatsGroup.ALL)
        msgspec.json.encode([counters_of(one.values) for one in seen.values()])

    reading = Reading(1000)
    return [
        lambda: reading.host(connection, 1, 1, ()),
        lambda: reading.vm(connection, 1, UUID(uuid)),
        connection.host_facts,
        stats,
        fleet,
    ]


def main() -> int:
    socket, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    mangler = Mangler(seed)
    loop = start_event_loop()
    straight = libvirt.open(f"test+unix:///default?socket={socket}")
    domains = straight.listAllDomains()
    uuid = domains[0].UUIDString()
    taken = 0
    with LyingProxy(socket, mangler.lie, honest) as proxy:
        uri = parse(f"test+tcp://127.0.0.1:{proxy.port}/default", UriPolicy())
        for number in range(rounds):
            mangler.share = number % 2 * 0.2
            with suppress(VirtumancerError):
                connection = Connection.open(uri, KEYS, TIMES)
                with suppress(VirtumancerError):
                    subscribe(connection, lambda _event: None)
                mangler.share = 0.6
                for ask in questions(connection, uuid) * 3:
                    for domain in domains:
                        _press(domain)
                    with suppress(VirtumancerError):
                        ask()
                        taken += 1
                connection.close()
    print(taken)  # noqa: T201
    return 0 if loop.pulse_age_s() < 10 else 1


def _press(domain: libvirt.virDomain) -> None:
    """Something to be announced."""
    with suppress(libvirt.libvirtError):
        domain.suspend()
        domain.resume()


if __name__ == "__main__":
    sys.exit(main())
