"""What the states of a VM allow, as far as its row can tell; libvirt has the last word.

The numbers are virDomainState's. ``tests/test_power.py`` compares this table with the
one that acts.
"""

from typing import NamedTuple

from common.errors import WrongState

WORDS = {
    0: "in no known state",
    1: "running",
    2: "running",
    3: "paused",
    4: "shutting down",
    5: "off",
    6: "crashed",
    7: "asleep",
}


class Verb(NamedTuple):
    """Where nothing is left to do, and where it can be done."""

    done: frozenset[int]
    possible: frozenset[int]


_UP = frozenset({1, 2})
_ON = frozenset({1, 2, 3, 4, 6, 7})

VERBS = {
    "start": Verb(_UP, frozenset({5})),
    "shutdown": Verb(frozenset({4, 5}), _UP),
    "reboot": Verb(frozenset(), _UP),
    "destroy": Verb(frozenset({5}), _ON),
    "reset": Verb(frozenset(), _ON - {4, 7}),
    "suspend": Verb(frozenset({3}), _UP),
    "resume": Verb(_UP, frozenset({3, 7})),
}


def foresee(action: str, state: int) -> bool:
    """Whether the action would do anything; raises WrongState where it cannot."""
    verb = VERBS[action]
    if state in verb.done:
        return False
    if state not in verb.possible:
        raise WrongState(f"The VM is {WORDS[state]} and cannot {action}.")
    return True
