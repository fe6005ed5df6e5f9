"""Reads XML by a table: one line per fact, a path in and a Struct's field out.

Knows neither libvirt nor a parser. A path is what XPath calls one, of four kinds:
``@type`` an attribute, ``driver/@name`` one of a child, ``os/init`` an element's text,
``.`` the element itself. Paths are laid out once as a tree, so that reading costs what
the XML holds and not what the table asks for.

The type of the field says how the text is read: ``str`` as it is, ``int`` as a number,
``bool`` as yes or no, or as "the element is there". A list takes every hit; else the
first in the document counts, attributes before text. Empty text is no fact.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from common.errors import BrokenDomain
from workers.sparse import sparse

LONGEST_TEXT = 4096
LONGEST_LIST = 4096
MAX_INT64 = 2**63 - 1
NAMESPACES = {"libosinfo": "http://libosinfo.org/xmlns/libvirt/domain/1.0"}

T_co = TypeVar("T_co", bound=msgspec.Struct, covariant=True)


class Element(Protocol):
    """As much of lxml's element as reading takes."""

    @property
    def tag(self) -> Any: ...
    @property
    def text(self) -> str | None: ...
    def get(self, key: str, /) -> str | None: ...
    def items(self) -> Sequence[tuple[Any, Any]]: ...
    def find(self, path: str, /) -> "Element | None": ...
    def getparent(self) -> "Element | None": ...
    def __iter__(self) -> Iterator[Any]: ...


ReadText = Callable[[str], object]
ReadElement = Callable[[Element], object]


@dataclass(frozen=True, slots=True)
class OfText:
    """A fact that ``read`` makes of the text at ``path``; None is no fact."""

    path: str
    read: ReadText


@dataclass(frozen=True, slots=True)
class OfElement:
    """A fact that ``read`` makes of the element at ``path``; None is no fact."""

    path: str
    read: ReadElement


@dataclass(frozen=True, slots=True)
class Many:
    """A list: one Struct for each element at ``path``."""

    path: str
    table: "Table[Any]"


@dataclass(frozen=True, slots=True)
class Chain:
    """A list: one Struct for the element at ``path``, for the one inside it, and on."""

    path: str
    table: "Table[Any]"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table, at one of the places in the document that it is read from."""

    table: "Table[Any]"
    field: str
    path: str
    xpath: str


Plain = str | OfText | OfElement
Fact = Plain | tuple[Plain, ...] | Many | Chain


@dataclass(slots=True)
class _Node:
    """An element that the table looks at. A sink is (group, field, how to read)."""

    attributes: dict[str, list[tuple[int, str, ReadText]]] = field(default_factory=dict)
    firsts: list[tuple[int, str, ReadElement]] = field(default_factory=list)
    lists: list[tuple[int, str, ReadElement]] = field(default_factory=list)
    children: dict[str, "_Node"] = field(default_factory=dict)


class Table(Generic[T_co]):
    """How to read a ``shape`` from an element.

    A nested table fills a nested Struct from the same element; where it finds nothing
    the field keeps its default. What is read is encoded sparsely.
    """

    def __init__(self, shape: type[T_co], **facts: "Fact | Table[Any]") -> None:
        self.shape = shape
        self.made = sparse(shape)
        self.facts = facts
        self._root = _Node()
        # Facts are gathered per Struct; the first group is this table's own.
        self._groups: list[tuple[int, str, type[msgspec.Struct]]] = []
        self._lay_out(self, 0)
        self._inner = list(reversed(list(enumerate(self._groups, start=1))))

    def read(self, element: Element) -> T_co:
        return self.made(**self.gather(element))

    def gather(self, element: Element) -> dict[str, Any]:
        """The fields that the element has facts for, ready for the shape."""
        groups: list[dict[str, Any]] = [{} for _ in range(len(self._groups) + 1)]
        _collect(element, self._root, groups)
        for group, (outer, name, shape) in self._inner:
            if groups[group]:
                groups[outer][name] = shape(**groups[group])
        return groups[0]

    def lines(self, above: str) -> Iterator["Line"]:
        """Every line of this table, and of those that it holds, below an XPath."""
        for name, fact in self.facts.items():
            if isinstance(fact, Table):
                yield from fact.lines(above)
                continue
            for one in fact if isinstance(fact, tuple) else (fact,):
                path = one if isinstance(one, str) else one.path
                yield Line(self, name, path, f"{above}/{path}")
                if isinstance(one, Many):
                    yield from one.table.lines(f"{above}/{path}")
                elif isinstance(one, Chain):
                    links = f"{above}/{path}/descendant-or-self::{path}"
                    yield from one.table.lines(links)

    def _lay_out(self, table: "Table[Any]", group: int) -> None:
        types = get_type_hints(table.shape)
        for name, fact in table.facts.items():
            if isinstance(fact, Table):
                self._groups.append((group, name, sparse(fact.shape)))
                self._lay_out(fact, len(self._groups))
            elif isinstance(fact, Many):
                self._at(fact.path).lists.append((group, name, fact.table.read))
            elif isinstance(fact, Chain):
                read = _along(fact)
                self._at(fact.path).firsts.append((group, name, read))
            else:
                for one in fact if isinstance(fact, tuple) else (fact,):
                    self._plain(group, name, one, types[name])

    def _plain(self, group: int, name: str, fact: Plain, hint: Any) -> None:
        if isinstance(fact, OfElement):
            self._at(fact.path).firsts.append((group, name, fact.read))
            return
        path = fact if isinstance(fact, str) else fact.path
        read = fact.read if isinstance(fact, OfText) else _READ[_kind(hint)]
        above, at, attribute = path.rpartition("@")
        node = self._at(above if at else path)
        if get_origin(hint) is list:
            node.lists.append((group, name, _lifted(read, attribute if at else None)))
        elif at:
            node.attributes.setdefault(attribute, []).append((group, name, read))
        elif _kind(hint) is bool:
            node.firsts.append((group, name, lambda element: True))
        else:
            node.firsts.append((group, name, _lifted(read, None)))

    def _at(self, path: str) -> _Node:
        node = self._root
        for step in path.split("/"):
            if step not in ("", "."):
                prefix, _, tag = step.rpartition(":")
                name = f"{{{NAMESPACES[prefix]}}}{tag}" if prefix else tag
                node = node.children.setdefault(name, _Node())
        return node


def _collect(element: Element, node: _Node, groups: list[dict[str, Any]]) -> None:
    # The hot loop: a sync runs it a hundred thousand times.
    if wanted := node.attributes:
        for name, text in element.items():
            if (sinks := wanted.get(name)) and text:
                for group, field_, read_text in sinks:
                    facts = groups[group]
                    if field_ not in facts and (found := read_text(text)) is not None:
                        facts[field_] = found
    for group, field_, read in node.firsts:
        facts = groups[group]
        if field_ not in facts and (found := read(element)) is not None:
            facts[field_] = found
    for group, field_, read in node.lists:
        if (found := read(element)) is not None:
            hits = groups[group].setdefault(field_, [])
            if len(hits) >= LONGEST_LIST:
                raise BrokenDomain(f"The XML has more than {LONGEST_LIST} {field_}.")
            hits.append(found)
    if below := node.children:
        for child in element:
            if inner := below.get(child.tag):
                _collect(child, inner, groups)


def integer(text: str) -> int | None:
    """A decimal or 0x number; None if it is none. BrokenDomain beyond 64 bits."""
    if len(text) < 19 and text.isdecimal():
        return int(text)
    if not (number := _NUMBER.fullmatch(text)):
        return None
    digits = number[1]
    if len(digits) <= 32:
        value = int(digits, 16 if "x" in digits.lower() else 10)
        if -MAX_INT64 - 1 <= value <= MAX_INT64:
            return value
    raise BrokenDomain(f"The XML has a number beyond 64 bits: {digits[:40]}.")


_NUMBER = re.compile(r"\s*([+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+))\s*")


def _text(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise BrokenDomain(
            f"The XML has a text beyond {LONGEST_TEXT} characters: {text[:40]!r}."
        )
    return text


_WORDS: Mapping[str, bool] = {
    word: truth
    for truth, words in {True: "yes on true 1", False: "no off false 0"}.items()
    for word in words.split()
}
_READ: Mapping[type, ReadText] = {str: _text, int: integer, bool: _WORDS.get}


def _kind(hint: Any) -> type:
    """The plain type inside ``int | None`` or ``list[str]``."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] or [hint]
    return kinds[0] if kinds[0] in _READ else object


def _lifted(read: ReadText, attribute: str | None) -> ReadElement:
    """The reader of a text, made a reader of the element that has it."""

    def read_element(element: Element) -> object:
        text = element.text if attribute is None else element.get(attribute)
        return read(text) if text and not text.isspace() else None

    return read_element


def _along(chain: Chain) -> ReadElement:
    def read_element(element: Element) -> object:
        links: list[msgspec.Struct] = []
        link: Element | None = element
        while link is not None:
            # libvirt closes a chain that it knows to be complete with an empty link.
            if facts := chain.table.gather(link):
                links.append(chain.table.made(**facts))
            link = link.find(chain.path)
        return links or None

    return read_element
