"""A program: examine and open every URI of standard input, as a worker does.

``python -m tests.lab.openings SOCKETS KEYS`` reads a JSON list and prints one, of what
became of each: ``refused``, the step that failed, or ``open``. To be traced.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from common.errors import UriNotAllowed
from common.uri import parse
from common.uri_policy import UriPolicy
from workers.connections import Connections
from workers.hypervisor.records import Timeouts

AT_ONCE = 6


def main() -> None:
    sockets, keys = (Path(argument) for argument in sys.argv[1:])
    policy = UriPolicy((sockets,), ssh_folder=keys)
    connections = Connections(policy, keys, Timeouts(20, 20), keys)

    def opened(uri: str) -> str:
        try:
            parse(uri, policy)
        except UriNotAllowed:
            return "refused"
        steps = connections.examine(uri, "host")
        return next((step.name for step in steps if not step.ok), "open")

    with ThreadPoolExecutor(AT_ONCE) as threads:
        outcomes = list(
            threads.map(opened, msgspec.json.decode(sys.stdin.buffer.read()))
        )
    sys.stdout.buffer.write(msgspec.json.encode(outcomes))


if __name__ == "__main__":
    main()
