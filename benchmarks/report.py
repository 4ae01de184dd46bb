"""Figures with their bounds, as a table for people and as JSON for machines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


def quantile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    goal: float | None = None
    """Beyond the bound, in its direction."""

    @property
    def holds(self) -> bool:
        return not (
            (self.at_least is not None and self.value < self.at_least)
            or (self.at_most is not None and self.value > self.at_most)
        )

    @property
    def bound(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"


@dataclass
class Result:
    """One benchmark's figures, what else is worth a line, and what they were made of."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What the checker found: an order lost or delivered twice makes every figure worthless."""

    @property
    def holds(self) -> bool:
        return not self.faults and all(figure.holds for figure in self.figures)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "holds": self.holds,
            "figures": [
                {
                    "name": figure.name,
                    "value": figure.value,
                    "unit": figure.unit,
                    "at_least": figure.at_least,
                    "at_most": figure.at_most,
                    "goal": figure.goal,
                    "holds": figure.holds,
                }
                for figure in self.figures
            ],
            "notes": self.notes,
            "faults": self.faults,
            "samples": self.samples,
        }


def show(console: Console, results: list[Result]) -> None:
    table = Table(title="Figures", title_justify="left")
    for column in ("benchmark", "figure"):
        table.add_column(column)
    for column in ("value", "must", "goal", "holds"):
        table.add_column(column, justify="right")
    for result in results:
        for figure in result.figures:
            table.add_row(
                result.name,
                figure.name,
                f"{figure.value:,.4g} {figure.unit}" if figure.value < 1000 else f"{figure.value:,.0f} {figure.unit}",
                figure.bound,
                "" if figure.goal is None else f"{figure.goal:g}",
                "" if not figure.bound else "yes" if figure.holds else "[bold red]NO[/]",
            )
        table.add_section()
    console.print(table)
    for result in results:
        for note in result.notes:
            console.print(f"{result.name}: {note}", highlight=False)
        for fault in result.faults:
            console.print(f"[bold red]{result.name}: {fault}[/]", highlight=False)
