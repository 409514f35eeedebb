"""What people see: tables on stdout, progress with ETA on stderr, errors in one line."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from realm_cli.errors import printable

if TYPE_CHECKING:
    from realm_cli.stages.summary import Summary

_QUIET_SECONDS = 15.0  # between lines of progress
_WORTH_SECONDS = 2.0  # shorter work gets no line
_TELLS = 0.05  # share done, from which the time left is told


def show(summary: Summary, as_json: bool) -> None:
    """Print a stage's result on stdout."""
    if as_json:
        print(printable_json(json.dumps(summary.data, ensure_ascii=False, default=str)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def shown(text: str) -> Text:  # no markup, no control characters: much of it is what models wrote
        return Text(printable(text, keep="\n"))

    console = Console(highlight=False)
    for table in summary.tables:
        grid = Table(title=shown(table.title), title_justify="left", title_style="bold", header_style="")
        for index, column in enumerate(table.columns):
            grid.add_column(shown(column), justify="left" if index == 0 else "right", overflow="fold")
        for row in table.rows:
            grid.add_row(*map(shown, row))
        console.print(grid)
    for note in summary.notes:
        console.print(shown(note))
    if summary.files:
        console.print(shown("files: " + "  ".join(summary.files)), soft_wrap=True)


def printable_json(text: str) -> str:
    """JSON of the same value without control and direction characters, which stand in strings only."""
    if printable(text) == text:
        return text
    return "".join(c if printable(c) == c else _escapes(c) for c in text)


def _escapes(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


class _Plain(logging.Formatter):
    """Log lines name rows and files, whose names others wrote."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n")


def plain_logs() -> None:
    """Warnings that are logged reach the terminal as plain text; a program with handlers of its own keeps them."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Plain())


def forgiving_stdout() -> None:
    """A character that the terminal's encoding lacks is escaped instead of being an error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """One line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A bar with ETA on a terminal; a line now and then where stderr is a file."""
    label = printable(label)
    if sys.stderr.isatty():
        with _bar(label, total) as advance:
            yield advance
    else:
        with _lines(label, total) as advance:
            yield advance


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(n: int, note: str = "") -> None:
            if note:
                bar.update(task, advance=n, note=printable(note))
            else:
                bar.update(task, advance=n)

        yield advance


@contextmanager
def _lines(label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    started = last = time.monotonic()
    done, latest, told = 0, "", -1

    def line() -> str:
        seconds = time.monotonic() - started
        left = ""
        if total and _TELLS * total <= done < total:  # what starts together ends together: the first few tell nothing
            left = f", {seconds / done * (total - done):.0f} s left"
        return f"{label}: {done}/{total or '?'} after {seconds:.0f} s{left}{f', {latest}' if latest else ''}"

    def advance(n: int, note: str = "") -> None:
        nonlocal done, last, latest, told
        done += n
        latest = note or latest
        if time.monotonic() - last > _QUIET_SECONDS:
            last, told = time.monotonic(), done
            say(line())

    yield advance
    if time.monotonic() - started > _WORTH_SECONDS and done != told:
        say(line())
