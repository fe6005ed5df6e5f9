"""A Struct's JSON without the fields that are as they would be without it.

Whoever decodes it into the same Struct gets the same. Of a VM's hardware it is a sixth,
and so is what the database has to take in.
"""

import types
from functools import cache, reduce
from operator import or_
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, defstruct, structs


def thin(whole: Struct) -> Struct:
    """The same facts in a twin of the Struct that is encoded sparsely."""
    return msgspec.convert(whole, _twin(type(whole)), from_attributes=True)


@cache
def _twin(shape: type[Struct]) -> type[Struct]:
    fields = [(f.name, _twins(f.type), _default(f)) for f in structs.fields(shape)]
    return defstruct(
        shape.__name__, fields, frozen=True, gc=False, kw_only=True, omit_defaults=True
    )


def _default(field: structs.FieldInfo) -> Any:
    if isinstance(field.default, Struct):
        return thin(field.default)
    if field.default is not NODEFAULT:
        return field.default
    return msgspec.field(default_factory=field.default_factory)


def _twins(hint: Any) -> Any:
    """The hint with a twin for each Struct in it."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        return _twin(hint)
    inner = tuple(map(_twins, get_args(hint)))
    if get_origin(hint) is list:
        return list[inner[0]]  # type: ignore[valid-type]
    if get_origin(hint) in (Union, types.UnionType):
        return reduce(or_, inner)
    return hint
