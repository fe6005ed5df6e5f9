"""Tokens: what a secret looks like, what of it is kept, which hosts a token may see.

A secret is 256 random bits, so its SHA-256 says nothing of it and can be looked up.
"""

import re
import secrets
from collections.abc import Iterable
from fnmatch import fnmatchcase
from hashlib import sha256
from string import ascii_letters, digits
from typing import Any, Final

from uuid_utils.compat import uuid7

from common.errors import InvalidRequest
from common.shapes import NewToken, Token

PREFIX: Final = "virtumancer_"
"""Tells whoever finds a secret, a scanner of repositories for one, what it opens."""
RESERVED: Final = ("anonymous", "api", "console", "monitor", "outside")
"""Names that rows have for somebody else."""

_OF_IDS: Final = ascii_letters + digits + "._-"
_PART: Final = re.compile(r"\[[^\]]*\]|.")
_SPAN: Final = re.compile(r"([1-9][0-9]{0,6})([smhdw])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def make_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def row_of(new: NewToken, secret: str, created_by: str) -> dict[str, Any]:
    """What ``sql.tokens.add`` takes; raises InvalidRequest."""
    if new.name in RESERVED:
        raise InvalidRequest(f"{new.name} is a name of our own.", at="$.name")
    for pattern in new.hosts or []:
        if sight_of([pattern]) is None:
            raise InvalidRequest(f"No host's id fits {pattern}.", at="$.hosts")
    return {
        "id": uuid7(),
        "name": new.name,
        "secret": hash_of(secret),
        "role": new.role,
        "hosts": new.hosts,
        "created_by": created_by,
        "expires_in_s": new.expires_in_s,
    }


def described(token: Token) -> str:
    """A token in the words of the audit."""
    hosts = " ".join(token.hosts) if token.hosts else "all hosts"
    ends = f", until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else ""
    return f"{token.name} ({token.id}): {token.role}, {hosts}{ends}"


def seconds_of(span: str) -> int:
    """How long ``90d``, ``12h`` or ``30m`` is; raises ValueError."""
    found = _SPAN.fullmatch(span)
    if found is None:
        raise ValueError(f"{span!r} is no time; write 90d, 12h or 30m")
    return int(found[1]) * _UNIT_S[found[2]]


def sight_of(patterns: Iterable[str]) -> str | None:
    """The ids that one of the patterns fits, as Postgres's regular expression; None if
    there can be none."""
    choices = [words for p in patterns if (words := _expression(p)) is not None]
    return f"^({'|'.join(choices)})$" if choices else None


def sees(patterns: Iterable[str] | None, host_id: str) -> bool:
    """Whether one of the patterns fits this id; None stands for every host."""
    return patterns is None or any(fnmatchcase(host_id, p) for p in patterns)


def _expression(pattern: str) -> str | None:
    parts = []
    for part in _PART.findall(pattern):
        if part == "*":
            parts.append(".*")
            continue
        fitting = [c for c in _OF_IDS if fnmatchcase(c, part)]
        if not fitting:
            return None
        # A hyphen stands for itself only at the end.
        parts.append(f"[{''.join(sorted(fitting, key=lambda c: c == '-'))}]")
    return "".join(parts)
