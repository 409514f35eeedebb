"""realm show: look at rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSONL file: routes, scored routes, samples, ...")],
    find: Annotated[
        str, typer.Option("--find", "-f", help="Only rows that hold these words; key=value compares a field.")
    ] = "",
    row: Annotated[Optional[str], typer.Option("--id", help="The row with this id.")] = None,  # noqa: UP045
    plain: Annotated[bool, typer.Option("--plain", help="Print rows instead of browsing.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 20,
) -> None:
    """Browse problems, routes, scored steps, route sets, plan rows, samples and predictions.

    Keys: arrows, / filter, Enter to the rows that this one names and into them, b back, q end. Where the output is no
    terminal, or with --plain, rows are printed.

    \b
    Example: realm show runs/demo/verify/scored.jsonl
    Example: realm show runs/demo/eval/predictions.jsonl --find "correct=false" --plain
    """
    import sys
    from itertools import islice

    from realm_cli.errors import DataError
    from realm_cli.stages.browsing import RowFile, describe, links_of

    table = RowFile(file)
    if row is not None and table.index_of(row) is None:
        raise DataError(f"{file}: no row {row}; look for it with --find")
    if not plain and sys.stdout.isatty():
        from realm_cli.cli.browser import Browser

        Browser(table, find, row).run()
        return
    chosen = [table.index_of(row)] if row is not None else list(islice(table.find(find), limit))
    if not chosen:
        raise DataError(f"{file}: no row holds {find!r}; use fewer words")
    for index in chosen:
        assert index is not None
        found = table.row(index)
        links = links_of(file, found) if row is not None else []
        print("\n".join(["-" * 72, describe(found), *(f"-> {link.name} {link.row_id}: {link.path}" for link in links)]))
