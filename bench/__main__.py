"""``bin/bench [NAME …] [--json] [--toy]``."""

import argparse
import json
import sys
import time

from bench import footprint, power, pushing, reading, scaling, syncing, watching
from bench.figures import Figure, table
from bench.rig import Benchmark, Rig

BENCHMARKS: dict[str, Benchmark] = {
    "action": power.ACTION,
    "action-busy": power.BUSY,
    "sync-cold": syncing.COLD,
    "sync-same": syncing.SAME,
    "sync-far": syncing.FAR,
    "list": reading.LISTS,
    "list-one": reading.ONE,
    "search": reading.SEARCH,
    "event": pushing.EVENT,
    "fanout": pushing.FANOUT,
    "poll": watching.POLL,
    "scale": scaling.SCALE,
    "memory": footprint.MEMORY,
    "start-up": footprint.START_UP,
}


def main() -> None:
    options = _parse(sys.argv[1:])
    figures: list[Figure] = []
    with Rig() as rig:
        for name in options.names or BENCHMARKS:
            began = time.monotonic()
            figures += BENCHMARKS[name](rig, toy=options.toy)
            took_s = time.monotonic() - began
            sys.stderr.write(f"bench: {name} took {took_s:.0f} s\n")
    if options.json:
        told = json.dumps({"figures": [f.as_json() for f in figures]}, indent=1)
    else:
        told = table(figures)
    sys.stdout.write(f"{told}\n")


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/bench", description="What we cost over the floor, measured here."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--toy", action="store_true", help="as small as can be: does it still run?"
    )
    options = parser.parse_args(words)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
