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


def percent(value: float | None) -> str:
    """0.1234 -> 12.3; what rounds to nothing has no sign."""
    return "-" if value is None else f"{round(100 * value, 1) + 0.0:.1f}"


def interval(mean: float, low: float, high: float) -> str:
    """`12.3 [10.1, 14.6]` in percent."""
    return f"{percent(mean)} [{percent(low)}, {percent(high)}]"
