"""What a stage tells: plain data for --json, small tables for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A titled table of strings; the first column is left-aligned, the others right-aligned."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Summary:
    """A stage's result. `data` is what --json prints; `notes` are one-line remarks; `files` what to look at next."""

    stage: str
    data: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def percent(value: float | None, digits: int = 1) -> str:
    """0.1234 -> 12.3; what rounds to nothing has no sign."""
    return "-" if value is None else f"{round(100 * value, digits) + 0.0:.{digits}f}"


def interval(mean: float, low: float, high: float) -> str:
    """`12.3 [10.1, 14.6]` in percent; with more digits where the ends would read the same, though they are not."""
    digits = next((d for d in (1, 2, 3, 4) if percent(low, d) != percent(high, d)), 1)
    return f"{percent(mean, digits)} [{percent(low, digits)}, {percent(high, digits)}]"
