"""JSON Schema of the wire's Structs, as both documents hold it."""

import re
from collections.abc import Iterable
from types import UnionType
from typing import Any, get_args

import msgspec
from msgspec import Struct

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
# Python's spelling of where a text begins and ends, and ECMA 262's, which JSON Schema
# has: there `$` is the very end.
_ENDS = ((r"\A", "^"), (r"\Z", "$"))


def schema_of(shape: Any) -> Schema:
    """The schema of one shape; what Structs it holds are references."""
    if len(either := _alternatives(shape)) > 1:
        return {"oneOf": [schema_of(one) for one in either]}
    [schema], _ = msgspec.json.schema_components([shape], ref_template=_REF)
    portable: Schema = _portable(schema)
    return portable


def _alternatives(shape: Any) -> tuple[Any, ...]:
    """Structs of which an answer is one; msgspec reads no union of them."""
    parts = get_args(shape) if isinstance(shape, UnionType) else ()
    structs = [isinstance(part, type) and issubclass(part, Struct) for part in parts]
    return parts if parts and all(structs) else (shape,)


def components(taken: Iterable[Any], given: Iterable[Any]) -> dict[str, Schema]:
    """The schemas of all Structs in what requests hold and in what answers hold."""
    taken = list(taken)
    given = [one for shape in given for one in _alternatives(shape)]
    _, found = msgspec.json.schema_components([*taken, *given], ref_template=_REF)
    _, loose = msgspec.json.schema_components(taken, ref_template=_REF)
    complete = {shape.__name__ for shape in _structs(given)} - set(loose)
    for name in complete & set(found):
        # An answer holds every field, whether or not a default would do.
        found[name]["required"] = list(found[name].get("properties", {}))
    return {name: _portable(schema) for name, schema in sorted(found.items())}


def parameters(query: type[Struct]) -> list[tuple[str, bool, Schema]]:
    """Name, whether it must be there, and schema of each field of a query."""
    found = []
    for field in msgspec.structs.fields(query):
        schema = _without_null(schema_of(field.type))
        found.append((field.encode_name, field.required, schema))
    return found


def _without_null(schema: Schema) -> Schema:
    """A parameter is there or not, never null."""
    anything: list[Schema] = schema.get("anyOf", [])
    choices = [one for one in anything if one != {"type": "null"}]
    if lists := [one for one in choices if one.get("type") == "array"]:
        return lists[0] | {k: v for k, v in schema.items() if k != "anyOf"}
    if len(choices) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return choices[0] | rest
    if "enum" in schema:
        values = [value for value in schema["enum"] if value is not None]
        return schema | {"enum": values, "type": "string"}
    return schema


def _structs(shapes: Iterable[Any]) -> Iterable[type[Struct]]:
    """Every Struct that these shapes reach and that leaves nothing out."""
    todo = [msgspec.inspect.type_info(shape) for shape in shapes]
    seen: set[type] = set()
    while todo:
        found: Any = todo.pop()
        if isinstance(found, msgspec.inspect.StructType):
            if found.cls in seen:
                continue
            seen.add(found.cls)
            todo += [field.type for field in found.fields]
            if not found.cls.__struct_config__.omit_defaults:
                yield found.cls
        else:
            todo += getattr(found, "types", ())
            todo += [found.item_type] if hasattr(found, "item_type") else []
            todo += [found.value_type] if hasattr(found, "value_type") else []
            todo += [found.type] if isinstance(found, msgspec.inspect.Metadata) else []


def _portable(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_portable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    said = {key: _portable(value) for key, value in schema.items()}
    if isinstance(pattern := said.get("pattern"), str):
        for ours, theirs in _ENDS:
            pattern = pattern.replace(ours, theirs)
        said["pattern"] = pattern
    if isinstance(words := said.get("description"), str):
        said["description"] = plain(words)
    return said


def plain(words: str) -> str:
    """A docstring as Markdown: its paragraphs, unwrapped."""
    words = re.sub(r"``", "`", words.strip())
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", words))
