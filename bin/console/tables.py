"""Text that is harmless to show, and tables for people, pipes and narrow screens."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

HARMFUL: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode's categories of what moves cursors, turns text round or is not to be seen."""


class Column(NamedTuple):
    name: str
    right: bool = False
    style: str = ""
    whole: bool = False
    """Never folded, however narrow the screen."""


class Cell(NamedTuple):
    """A value in a colour."""

    text: str
    style: str = ""


Value = Cell | str | int | None
Row = Sequence[Value]


def plain(text: str) -> str:
    """The text with everything spelled out that a terminal would obey.

    Names and descriptions come from hypervisors, which may be hostile.
    """
    if text.isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def _spelled(character: str) -> str:
    if unicodedata.category(character) not in HARMFUL:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def cell_of(value: Value) -> Cell:
    if isinstance(value, Cell):
        return Cell(plain(value.text), value.style)
    return Cell("" if value is None else plain(str(value)))


def text_of(value: Value, style: str = "") -> Text:
    """The value as rich shows it; nothing in it is markup."""
    cell = cell_of(value)
    return Text(cell.text, style=cell.style or style)


def table_of(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """A table for a terminal; what is too long for its column is folded."""
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        show_header=any(column.name for column in columns),
    )
    for column in columns:
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.whole,
        )
    for row in rows:
        cells = zip(columns, row, strict=True)
        table.add_row(*(text_of(value, column.style) for column, value in cells))
    return table


def flat_table_of(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """The same with one line a row, for a screen whose lines are counted."""
    table = table_of(columns, rows)
    for column in table.columns:
        column.overflow, column.no_wrap = "ellipsis", True
    return table


def lines_of(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """The same for a pipe: nothing is folded or left out, however narrow the screen."""
    names = [column.name for column in columns]
    texts = [names] if any(names) else []
    texts += [[cell_of(value).text for value in row] for row in rows]
    widths = [max(map(len, texts_of_it)) for texts_of_it in zip(*texts, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column.right else text.ljust(width)
            for column, text, width in zip(columns, row, widths, strict=True)
        ).rstrip()
        for row in texts
    ]


def show_table(out: Console, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    if out.is_terminal:
        out.print(table_of(columns, rows))
    else:
        write(out, lines_of(columns, rows))


def write(out: Console, lines: Sequence[str]) -> None:
    """Lines as they are: not wrapped, no markup, no highlighting."""
    for line in lines:
        out.out(line, highlight=False)


def show_facts(out: Console, facts: Iterable[tuple[str, Value]]) -> None:
    """Names and values, one a row, without those that are not there."""
    rows = [row for row in facts if cell_of(row[1]).text]
    show_table(out, (Column("", style="bold"), Column("")), rows)
