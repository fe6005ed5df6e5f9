"""Structs whose JSON leaves out the fields that are as they would be without it.

Whoever decodes it into the plain Struct gets the same. Of a VM's hardware it is a
sixth, and so is what the database has to take in.
"""

from functools import cache
from typing import Any, TypeVar

from msgspec import Struct, defstruct

T = TypeVar("T", bound=Struct)


def sparse(shape: type[T]) -> type[T]:
    """The same Struct, but for how it is encoded."""
    twin: type[T] = _twin(shape)
    return twin


@cache
def _twin(shape: Any) -> Any:
    name = shape.__name__
    return defstruct(
        name, (), bases=(shape,), frozen=True, gc=False, omit_defaults=True
    )
