"""What one run of a command was told, and how it talks to its user."""

import os
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from console.api import Api
from console.failures import Failure
from console.tables import Column, Row, Value, plain, show_facts, show_table, write


class Wishes(NamedTuple):
    """What every command may be told."""

    url: str | None = None
    token: str | None = None
    json: bool = False

    def over(self, others: "Wishes") -> "Wishes":
        """These, and where they say nothing the others."""
        return Wishes(
            self.url or others.url,
            self.token or others.token,
            self.json or others.json,
        )


class Terminal:
    """Results go to ``out``, everything else to ``err``."""

    def __init__(self, wishes: Wishes) -> None:
        self.json = wishes.json
        self.out = Console(highlight=False, soft_wrap=False)
        self.err = Console(stderr=True, highlight=False)
        self._wishes = wishes

    @cached_property
    def api(self) -> Api:
        return Api(self.url, self._wishes.token)

    @cached_property
    def url(self) -> str:
        if self._wishes.url:
            return self._wishes.url
        # Not above: it brings the embedded servers along.
        from console.where import default_url

        return default_url()

    @property
    def live(self) -> bool:
        """Whether somebody looks at results as they change."""
        return self.out.is_terminal and not self.json

    @property
    def asks(self) -> bool:
        """Whether somebody is there who can be asked."""
        return sys.stdin.isatty() and self.err.is_terminal and not self.json

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        show_table(self.out, columns, rows)

    def facts(self, facts: Iterable[tuple[str, Value]]) -> None:
        show_facts(self.out, facts)

    def result(self, value: Any, text: str) -> None:
        """One short result: as JSON, or as a line of text."""
        if self.json:
            self.value(value)
        else:
            write(self.out, [text])

    def value(self, value: Any) -> None:
        """A result for programs, indented."""
        self._write(msgspec.json.format(msgspec.json.encode(value), indent=2))

    def line(self, value: Any) -> None:
        """One of many results for programs, at once."""
        self._write(msgspec.json.encode(value))

    def _write(self, text: bytes) -> None:
        sys.stdout.write(text.decode() + os.linesep)
        sys.stdout.flush()

    def say(self, text: str, style: str = "") -> None:
        """A word beside the results; programs that read JSON are not told."""
        if not self.json:
            self.err.print(plain(text), style=style, markup=False, soft_wrap=True)

    def tell(self, failure: Failure) -> None:
        if self.json:
            text = msgspec.json.encode(failure.facts())
            sys.stderr.write(text.decode() + os.linesep)
            return
        self.err.print(
            plain(failure.title), style="bold red", markup=False, soft_wrap=True
        )
        for words in (failure.detail, failure.advice):
            if words:
                self.err.print(plain(words), markup=False, soft_wrap=True)
