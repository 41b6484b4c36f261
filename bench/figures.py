"""Figures: what was measured, what it should be, and the table that shows both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

Bound = Literal["at least", "at most"]


@dataclass(frozen=True)
class Target:
    """What a figure has to reach, in the figure's own unit."""

    bound: Bound
    value: float

    def met(self, value: float) -> bool:
        """Whether a value reaches it; what is not a number does not."""
        if math.isnan(value):
            return False
        return value >= self.value if self.bound == "at least" else value <= self.value


@dataclass(frozen=True)
class Figure:
    """One measured value. Without a target it stands there for comparison."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None without one."""
        return None if self.target is None else self.target.met(self.value)


@dataclass(frozen=True)
class Section:
    """What one benchmark found out."""

    title: str
    figures: tuple[Figure, ...]
    seconds: float = 0.0
    """How long it took."""
    tables: tuple[Table, ...] = ()
    """What the figures sum up."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed (nearest rank); NaN for none."""
    if not values:
        return math.nan
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def missed(sections: Sequence[Section]) -> list[Figure]:
    """Figures that did not reach their targets."""
    return [one for section in sections for one in section.figures if one.met is False]


def show(section: Section, out: Console) -> None:
    """Print a section as a table, after the tables that it sums up."""
    for one_table in section.tables:
        out.print(one_table)
    table = Table(title=section.title, title_justify="left", title_style="bold", expand=False)
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    table.add_column("detail", style="dim", overflow="fold")
    for one in section.figures:
        table.add_row(
            one.name,
            written(one.value, one.unit),
            f"{one.target.bound} {written(one.target.value, one.unit)}" if one.target else "",
            {True: "[green]met[/green]", False: "[red]missed[/red]", None: ""}[one.met],
            one.detail,
        )
    out.print(table)


def written(value: float, unit: str) -> str:
    """A value with its unit, with as many digits as mean something."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{'' if unit == 'x' else ' '}{unit}"
