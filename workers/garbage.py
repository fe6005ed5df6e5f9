"""The garbage collector, told what these processes are like."""

import gc
from typing import Final

_MANY: Final = 50_000


def settle() -> None:
    """Leave alone what is there now, and look through the rest less often.

    Reading a host makes a hundred thousand objects, hardly any of them in a cycle: at
    Python's own threshold of 700, looking through them took longer than making them.
    """
    gc.freeze()
    gc.set_threshold(_MANY)
