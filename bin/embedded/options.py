"""What bin/up may be told, and what it refuses."""

import argparse
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent


class Refusal(Exception):
    """Why bin/up does not start, in one sentence for the user."""


def free_port(bind: str, port: str) -> int:
    """The port as a number, if nobody listens on it; 0 takes one that is free."""
    if not port.isdecimal() or int(port) > 65535:
        raise Refusal(f"PORT must be a number up to 65535, not {port!r}")
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((bind, int(port)))
            listening.listen(1)
        except OSError as error:
            raise Refusal(
                f"{bind} port {port} cannot be listened on ({error.strerror})."
                f" Choose another: PORT=8090 bin/up"
            ) from None
        number: int = listening.getsockname()[1]
    return number


def auth(bind: str, told: str) -> str:
    """Whether tokens are asked for: by default not on a first tour, on loopback."""
    outside = not _is_loopback(bind)
    if told == "off" and outside:
        raise Refusal(
            f"VIRTUMANCER_AUTH=off lets anybody in who reaches {bind}, and that is not"
            " loopback. Leave one of the two out."
        )
    return told or ("tokens" if outside else "off")


def _is_loopback(bind: str) -> bool:
    try:
        return bind == "localhost" or ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/up",
        description="Run Virtumancer with private servers and a demo hypervisor.",
        epilog="Environment: BIND, PORT, DATABASE_URL, REDIS_URL, VIRTUMANCER_STATE,"
        " VIRTUMANCER_AUTH and the settings in README.md.",
    )
    for name, least in (("webs", 1), ("workers", 0), ("monitors", 0)):
        parser.add_argument(
            f"--{name}",
            type=_at_least(least),
            default=1,
            metavar="N",
            help="how many (default 1)",
        )
    parser.add_argument(
        "--no-demo", action="store_true", help="no embedded hypervisor, no demo host"
    )
    parser.add_argument(
        "--procfile",
        type=Path,
        default=TOP / "Procfile",
        metavar="PATH",
        help="what to run (default: the Procfile of the checkout)",
    )
    return parser.parse_args(words)


def _at_least(least: int) -> Callable[[str], int]:
    def count(word: str) -> int:
        if not word.isdecimal() or int(word) < least:
            raise argparse.ArgumentTypeError(f"{word!r} is not a number from {least}")
        return int(word)

    return count
