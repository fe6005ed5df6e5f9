"""OpenAPI 3.1, printed from the route table, the contracts and the Structs.

Nothing is written by hand: what a route does not promise is not in the document.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import Meta

from api.contract import (
    CAREFUL,
    REQUEST_ID,
    RETRY_AFTER,
    UPGRADE,
    WWW_AUTHENTICATE,
    Answer,
    Contract,
    Header,
    contract_of,
)
from api.recorded import examples_of, name_of, problems
from api.roles import Need, need_of
from api.schemas import components, parameters, plain, schema_of
from api.security import SCHEMES, refusals, security
from api.tags import TAGS, tag_of
from common.catalogue import Kind, kinds
from common.denials import UnknownToken
from common.errors import (
    UnknownHost,
    UnknownPath,
    UnknownProblem,
    UnknownTask,
    UnknownVm,
    VirtumancerError,
)
from common.limits import (
    HeadersTooLarge,
    HostNotAllowed,
    OriginNotAllowed,
    RequestTooSlow,
    TooBusy,
    UriTooLong,
)
from common.shapes import Problem
from common.shapes.resources import HostId

Part = dict[str, Any]
Routes = Mapping[str, object]

METHODS = ("get", "post", "put", "patch", "delete")

_SEGMENT = re.compile(r"\{(\w+)(?::\w+)?\}")


EVERY: tuple[Header, ...] = (REQUEST_ID, *CAREFUL)
"""Headers of each answer."""
OF_A_CLIENT: tuple[Kind, ...] = (
    *(HostNotAllowed, OriginNotAllowed, TooBusy),
    *(RequestTooSlow, UriTooLong, HeadersTooLarge),
)
"""What any request may be refused with, whatever it asks for."""


class Place(NamedTuple):
    """A part of a path that varies, and the problem if it leads nowhere."""

    means: str
    shape: Any
    example: str
    problem: Kind = UnknownPath


Name = Annotated[str, Meta(min_length=1)]


PLACES = {
    "host_id": Place("The host's id.", HostId, "kvm1", UnknownHost),
    "vm": Place("The VM's name, percent-encoded, or its UUID.", Name, "web", UnknownVm),
    "task_id": Place(
        "The task's id.", UUID, "019a9f1e-3c52-7a41-8b0e-5d3f2c6a7b10", UnknownTask
    ),
    "token": Place("The token's id or name.", Name, "ci", UnknownToken),
    "kind": Place("The type's last word.", Name, "vm-busy", UnknownProblem),
    "file": Place("A file of the page.", Name, "swagger-ui.css"),
}


class Operation(NamedTuple):
    path: str
    method: str
    resource: object
    promise: Contract

    @property
    def key(self) -> str:
        """As in the request line: ``GET /api/hosts/{host_id}``."""
        return f"{self.method.upper()} {self.path}"

    @property
    def need(self) -> Need:
        return need_of(self.path, self.method.upper())


def operations(routes: Routes) -> Iterator[Operation]:
    for template, resource in routes.items():
        for method in METHODS:
            if promise := contract_of(getattr(resource, f"on_{method}", None)):
                path = _SEGMENT.sub(r"{\1}", template)
                yield Operation(path, method, resource, promise)


def openapi(routes: Routes) -> Part:
    found = list(operations(routes))
    paths: dict[str, Part] = {}
    for one in found:
        paths.setdefault(one.path, {})[one.method] = _operation(one)
    promises = [one.promise for one in found]
    bodies = [p.body for p in promises if p.body]
    answers = [a.shape for p in promises for a in p.answers.values() if a.shape]
    headers = {h.name: h for p in promises for h in _headers_of(p)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Virtumancer",
            "version": "1",
            "description": "One API over all your libvirt hosts. What is pushed is"
            " described in [/api/asyncapi.json](/api/asyncapi.json), and every problem"
            " in [/api/problems](/api/problems).",
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": name, "description": words}
            for name, words in TAGS.items()
            if name in [tag_of(one.path) for one in found]
        ],
        "paths": paths,
        "components": {
            "schemas": components(bodies, [*answers, Problem]),
            "headers": {name: _header(header) for name, header in headers.items()},
            "securitySchemes": SCHEMES,
        },
    }


def _headers_of(promise: Contract) -> Iterator[Header]:
    yield from EVERY
    yield RETRY_AFTER
    yield WWW_AUTHENTICATE
    yield UPGRADE
    for answer in promise.answers.values():
        yield from answer.headers


def _operation(one: Operation) -> Part:
    promise = one.promise
    name = type(one.resource).__name__
    said: Part = {
        "operationId": f"{one.method}{name}",
        "tags": [tag_of(one.path)],
        "summary": promise.summary,
        "description": "\n\n".join(filter(None, _words(one))),
        "parameters": [*_in_path(one), *_in_query(promise), *_in_headers(promise)],
        "responses": _responses(one),
        "security": security(one.path, one.need),
    }
    if role := one.need.role:
        said["x-role"] = role
    if promise.body:
        content: Part = {"schema": schema_of(promise.body)}
        if one.method == "patch":
            content["schema"]["minProperties"] = 1
        answered = [
            e for e in examples_of(one.key) if "request" in e and e["status"] < 300
        ]
        if examples := [e["request"] for e in answered]:
            content["examples"] = {
                f"{number}": {"value": body}
                for number, body in enumerate(_distinct(examples), 1)
            }
        media = {"application/json": content}
        said["requestBody"] = {"required": True, "content": media}
    return said


def _words(one: Operation) -> Iterator[str]:
    """What the code says: the responder or else its resource, the query, the role."""
    yield plain(one.promise.details or type(one.resource).__doc__ or "")
    if one.promise.query:
        yield plain(one.promise.query.__doc__ or "")
    if one.need.role:
        limit = " that is not limited to some hosts" * one.need.everywhere
        yield f"For a token with the role `{one.need.role}`{limit}."


def _in_path(one: Operation) -> Iterator[Part]:
    for name in _SEGMENT.findall(one.path):
        place = PLACES[name]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": place.means,
            "schema": schema_of(place.shape),
            "example": place.example,
        }


def _in_query(promise: Contract) -> Iterator[Part]:
    for name, required, schema in parameters(promise.query) if promise.query else ():
        words = schema.pop("description", None)
        said = {"name": name, "in": "query", "required": required, "schema": schema}
        yield said | ({"description": words} if words else {})


def _in_headers(promise: Contract) -> Iterator[Part]:
    for header in (*promise.takes, REQUEST_ID):
        # Not `example`: the page would send it, the same key with every request.
        shape = schema_of(header.shape) | {"examples": [header.example]}
        told = {"name": header.name, "in": "header", "description": header.means}
        yield told | {"schema": shape}


def _header(header: Header) -> Part:
    return {
        "description": header.means,
        "schema": schema_of(header.shape),
        "example": header.example,
    }


def _responses(one: Operation) -> Part:
    examples = examples_of(one.key)
    said = {
        str(status): _answer(answer, [e for e in examples if e["status"] == status])
        for status, answer in one.promise.answers.items()
    }
    by_status: dict[int, list[Kind]] = {}
    for kind in problems_of(one):
        by_status.setdefault(kind.status, []).append(kind)
    for status, found in sorted(by_status.items()):
        told = [e["body"] for e in examples if e["status"] == status]
        # What another operation answered, where this one was not seen to.
        known = [problems()[kind.type] for kind in found if kind.type in problems()]
        said[str(status)] = _problem(status, found, told or known)
    return said


def problems_of(one: Operation) -> list[Kind]:
    """Every kind of problem that the operation may answer with."""
    places = _SEGMENT.findall(one.path)
    roots = [*one.promise.problems, *(PLACES[name].problem for name in places)]
    if places:
        roots.append(UnknownPath)
    roots += (*OF_A_CLIENT, *refusals(one.need))
    return list(dict.fromkeys(kind for root in roots for kind in _expanded(root)))


def _expanded(root: Kind) -> list[Kind]:
    """The root of all stands for a fault of ours, not for everything."""
    return [root] if root is VirtumancerError else kinds(root)


def _answer(answer: Answer, examples: list[Part]) -> Part:
    said: Part = {
        "description": answer.means or ("Done." if answer.shape is None else "OK."),
        "headers": _refs((*answer.headers, *EVERY)),
    }
    if answer.shape is not None:
        content: Part = {"schema": schema_of(answer.shape)}
        if examples:
            content["examples"] = {"answer": {"value": examples[0]["body"]}}
        texts = {name: {"schema": {"type": "string"}} for name in answer.texts}
        said["content"] = {answer.media_type: content, **texts}
    return said


def _problem(status: int, found: list[Kind], told: list[Part]) -> Part:
    types = [f"/api/problems/{kind.type}" for kind in found]
    late = any(kind.retry_after_s is not None for kind in found)
    headers = [*EVERY] + [RETRY_AFTER] * late
    headers += [WWW_AUTHENTICATE] * (status in (401, 403)) + [UPGRADE] * (status == 426)
    content: Part = {
        "schema": {
            "allOf": [schema_of(Problem)],
            "properties": {"type": {"enum": types}, "status": {"const": status}},
        }
    }
    if told:
        content["examples"] = {name_of(problem): {"value": problem} for problem in told}
    words = [f"- [{kind.title}](/api/problems/{kind.type})" for kind in found]
    return {
        "description": "\n".join(words),
        "headers": _refs(headers),
        "content": {"application/problem+json": content},
    }


def _refs(headers: Iterable[Header]) -> Part:
    return {h.name: {"$ref": f"#/components/headers/{h.name}"} for h in headers}


def _distinct(values: list[Any]) -> list[Any]:
    return [value for n, value in enumerate(values) if value not in values[:n]]
