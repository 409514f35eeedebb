"""realm domain: write a built-in domain's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from realm_cli.cli.options import JsonOpt


def domain(
    name: Annotated[str, typer.Argument(help="Built-in domain: rulebook.")] = "rulebook",
    out: Annotated[
        Path, typer.Option("--out", help="Folder to write problems.jsonl, rules.md and notes.md to.")
    ] = Path("."),
    n_train: Annotated[int, typer.Option(min=1, help="Training problems.")] = 1200,
    n_dev: Annotated[int, typer.Option(min=0, help="Dev problems.")] = 200,
    n_test: Annotated[int, typer.Option(min=1, help="Held-out test problems.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed of the generator.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Write a built-in domain: problems with checkable answers, its rules and expert notes.

    Example: realm domain rulebook --out data --n-train 800
    """
    from collections import Counter

    from realm_cli.cli.console import show
    from realm_cli.cli.context import make_domain
    from realm_cli.errors import ArtifactError
    from realm_cli.stages.summary import Summary, Table

    if (out / "problems.jsonl").exists() and not force:
        raise ArtifactError(f"{out / 'problems.jsonl'}: exists; add --force to overwrite it or choose another --out")
    rows = make_domain(name, out, n_train, n_dev, n_test, seed)
    counts = Counter((row.split, row.group) for row in rows)
    table = Table("Problems", ["split", "group", "count"], [[s, g, str(n)] for (s, g), n in counts.items()])
    files = [str(out / name) for name in ("problems.jsonl", "rules.md", "notes.md")]
    data = {"problems": len(rows), "counts": {f"{s}/{g}": n for (s, g), n in counts.items()}, "files": files}
    show(Summary("domain", data, [table], files=files), as_json)
