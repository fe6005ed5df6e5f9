"""The examples in the documents are what is really answered."""

import json
import re
from pathlib import Path
from socket import gethostname
from typing import Any

import jsonschema_rs
import pytest

from api.asyncapi import asyncapi
from api.openapi import Part, openapi, operations
from api.recorded import EXAMPLES, problems, recorded
from embedded.libvirtd import Libvirtd
from embedded.machines import define_machine
from tests.documents.tour import Host, Record, Tour, walk
from tests.faults.conftest import NewLab
from tests.lab.hypervisors import behind_our_back
from tests.lab.web import routes

BROKEN = "broken"
OUR_FAULT = "/api/problems/internal-error"


# What every HTTP server says.
COMMON = {"connection", "content-length", "content-type", "date", "transfer-encoding"}


@pytest.fixture(scope="module")
def toured(new_lab: NewLab, domains: Libvirtd, request: pytest.FixtureRequest) -> Tour:
    """What a tour of real machines saw; recorded if this run is to."""
    folder = domains.folder / "toured"
    with behind_our_back(domains, "qemu") as behind, new_lab() as system:
        for name in ("web", "db", BROKEN):
            define_machine(behind, name, folder)
        (folder / f"{BROKEN}.img").unlink()
        system.start()
        tour = walk(system, Host(domains.uri("qemu", "session"), domains.folder))
    if request.config.getoption("--record", default=False):
        record(tour.records, domains.folder)
    return tour


def record(records: list[Record], folder: Path) -> None:
    """Write them down, under names that say nothing of this machine."""
    text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    text = text.replace(str(folder), "/srv/vm").replace(f'"{gethostname()}"', '"kvm1"')
    text = text.replace(f"@{gethostname()}:", "@kvm1:")
    text = re.sub(r"virtumancer_[\w-]{43}", "virtumancer_" + "x" * 43, text)
    EXAMPLES.write_text(text)
    recorded.cache_clear()
    problems.cache_clear()


def shape(value: Any) -> Any:
    """What remains of an answer without its values; lists by their first item."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_the_examples_are_what_is_answered(toured: Tour) -> None:
    told: dict[tuple[str, int], list[Any]] = {}
    for record in recorded():
        told.setdefault(key_of(record), []).append(shape(record["body"]))

    for record in toured.records:
        assert key_of(record) in told, "record it: python -m tests.documents"
        seen = shape(record["body"])
        assert any(alike(one, seen) for one in told[key_of(record)]), key_of(record)


def key_of(record: Record) -> tuple[str, int]:
    return record["operation"], record.get("status", 0)


def alike(told: Any, seen: Any) -> bool:
    """The same shape; what is null in one of them may be anything in the other."""
    if "NoneType" in (told, seen):
        return True
    if isinstance(told, dict) and isinstance(seen, dict):
        return told.keys() == seen.keys() and all(
            alike(told[key], seen[key]) for key in told
        )
    if isinstance(told, list) and isinstance(seen, list):
        return all(map(alike, told, seen))
    return bool(told == seen)


def test_every_answer_and_every_frame_has_an_example(toured: Tour) -> None:
    wanted = {
        (one.key, status)
        for one in operations(routes())
        for status, answer in one.promise.answers.items()
        if answer.shape not in (None, Part, bytes)
        if answer.media_type != "text/html"
    }
    shown = {key_of(record) for record in recorded()}
    frames = {(name, 0) for name in asyncapi("x")["components"]["messages"]}

    assert wanted - shown == set(), "add them to tests/documents/tour.py and record"
    assert frames - shown == set()


def test_every_status_has_an_example() -> None:
    """A problem may be one that another operation answered."""
    bare = [
        f"{method.upper()} {path} {status}"
        for path, methods in openapi(routes())["paths"].items()
        for method, operation in methods.items()
        for status, answer in operation["responses"].items()
        for media, content in answer.get("content", {}).items()
        if media == "application/problem+json" and "examples" not in content
        # Nobody can be asked to show a fault of ours.
        if content["schema"]["properties"]["type"]["enum"] != [OUR_FAULT]
    ]

    assert not bare, "add them to tests/documents/tour.py and record"


def test_everything_that_is_asked_with_is_explained() -> None:
    """Parameters, and the fields of bodies."""
    document = openapi(routes())
    asked = [
        (f"{method.upper()} {path} {parameter['name']}", parameter)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for parameter in operation["parameters"]
    ]
    bodies = {one.promise.body for one in operations(routes()) if one.promise.body}
    for body in bodies:
        fields = document["components"]["schemas"][body.__name__]["properties"]
        asked += [(f"{body.__name__}.{name}", field) for name, field in fields.items()]

    assert not [
        name
        for name, said in asked
        if not any("description" in one for one in (said, *said.get("anyOf", [])))
    ]


def test_every_header_is_in_the_document(toured: Tour) -> None:
    paths = openapi(routes())["paths"]

    for (operation, status), seen in toured.headers.items():
        method, path = operation.split()
        told = paths[path][method.lower()]["responses"][str(status)]["headers"]
        assert seen - COMMON <= {name.lower() for name in told}, operation


def test_every_example_fits_its_schema() -> None:
    for document in (openapi(routes()), asyncapi("x")):
        for schema, value in _examples(document):
            whole = schema | {"components": document["components"]}
            jsonschema_rs.Draft202012Validator(whole).validate(value)


def _examples(part: Any) -> list[tuple[Part, Any]]:
    """Every example of a document with the schema that it is an example of."""
    if isinstance(part, list):
        return [found for one in part for found in _examples(one)]
    if not isinstance(part, dict):
        return []
    found = [pair for one in part.values() for pair in _examples(one)]
    examples = part.get("examples")
    if isinstance(examples, dict) and "schema" in part:
        found += [(part["schema"], one["value"]) for one in examples.values()]
    elif isinstance(examples, list) and "payload" in part:
        found += [(part["payload"], one["payload"]) for one in examples]
    return found
