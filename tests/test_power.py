"""What is foreseen of an action is what the hypervisor's own table says."""

from common.power import VERBS
from workers.hypervisor import power


def test_both_tables_say_the_same() -> None:
    assert {n: (v.done, v.possible) for n, v in VERBS.items()} == {
        n: (v.done, frozenset(v.press)) for n, v in power.VERBS.items()
    }
