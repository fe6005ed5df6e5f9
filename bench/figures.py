"""Figures: what was measured, its floor in the same run, and whether it is enough."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Predicate = Callable[[float, float], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach: in words, and as ``reached(ours, floor)``."""

    words: str
    reached: Predicate


def at_most_more(extra: float, unit: str = "ms") -> Target:
    words = f"≤ floor + {extra:g} {unit}"
    return Target(words, lambda ours, floor: ours <= floor + extra)


def at_most_times(times: float) -> Target:
    return Target(f"≤ {times:g} x floor", lambda ours, floor: ours <= times * floor)


def at_least_share(share: float) -> Target:
    return Target(f"≥ {share:g} x floor", lambda ours, floor: ours >= share * floor)


def at_most(limit: float, unit: str) -> Target:
    return Target(f"≤ {limit:g} {unit}", lambda ours, _floor: ours <= limit)


@dataclass(frozen=True, slots=True)
class Measured:
    """A value and its spread: the quartiles of its repetitions."""

    value: float
    low: float
    high: float


def median(values: Iterable[float]) -> Measured:
    """The median and the quartiles around it."""
    ranked = sorted(values)
    return Measured(
        statistics.median(ranked), at_share(ranked, 0.25), at_share(ranked, 0.75)
    )


def p99(values: Iterable[float], parts: int = 5) -> Measured:
    """The 99th percentile of all, and the least and most of it among five parts."""
    given = list(values)
    step = max(1, len(given) // parts)
    each = [
        at_share(sorted(given[i : i + step]), 0.99) for i in range(0, len(given), step)
    ]
    return Measured(at_share(sorted(given), 0.99), min(each), max(each))


def exactly(value: float) -> Measured:
    return Measured(value, value, value)


def at_share(ranked: Sequence[float], share: float) -> float:
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Without a target it explains another line."""

    name: str
    unit: str
    ours: Measured
    floor: Measured | None
    target: Target | None

    @property
    def ratio(self) -> float | None:
        if self.floor is None or not self.floor.value:
            return None
        return self.ours.value / self.floor.value

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        floor = self.floor.value if self.floor else 0.0
        return self.target.reached(self.ours.value, floor)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ours": self.ours.value,
            "floor": self.floor and self.floor.value,
            "ratio": self.ratio,
            "target": self.target and self.target.words,
            "met": self.met,
            "unit": self.unit,
            "ours_spread": [self.ours.low, self.ours.high],
            "floor_spread": self.floor and [self.floor.low, self.floor.high],
        }


HEAD = ("figure", "unit", "ours", "floor", "ratio", "target", "met")


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table, which is also fit to be read in a terminal."""
    rows = [HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]))
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (f" {cell:<{width}} " for cell, width in zip(row, widths, strict=True))
    return "|".join(["", *cells, ""])


def _row(figure: Figure) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: "-"}[figure.met]
    return (
        figure.name,
        figure.unit,
        _shown(figure.ours),
        _shown(figure.floor) if figure.floor else "-",
        f"{figure.ratio:.2f}" if figure.ratio is not None else "-",
        figure.target.words if figure.target else "-",
        met,
    )


def _shown(measured: Measured) -> str:
    if measured.low == measured.high:
        return f"{measured.value:.4g}"
    return f"{measured.value:.4g} ({measured.low:.4g} … {measured.high:.4g})"
