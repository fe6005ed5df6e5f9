"""Keeps the garbage collector from looking again and again at what lives long.

Python looks through all objects whenever a quarter more has survived: with thousands of
open sockets everybody waits for it, 0.1 s a thousand. What has survived once is set
aside here. It is freed when nobody refers to it, as ever; only what refers to itself in
a circle has to be looked for, and that is done when many sockets have gone.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

LOOK_S: Final = 1.0
MANY: Final = 1000


async def set_aside(gone: Callable[[], int]) -> None:
    """For ever; ``gone`` counts the sockets that have gone."""
    looked, counted = 0, gone()
    while True:
        await asyncio.sleep(LOOK_S)
        full_looks = gc.get_stats()[2]["collections"]
        if gone() - counted >= MANY:
            counted = gone()
            gc.unfreeze()
        elif full_looks > looked:
            gc.freeze()
        looked = full_looks
