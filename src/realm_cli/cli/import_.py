"""realm import: a table as problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import JsonOpt

Text = Optional[str]  # noqa: UP045 - Typer reads the annotation at run time on Python 3.10
PREVIEW = 3


def import_(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A JSONL, JSON, CSV, TSV or Parquet file, or a dataset NAME[:CONFIG]."),
    ],
    question: Annotated[
        str, typer.Option("--question", "-q", help='Its column, or a text of several: "{facts}\\n\\n{query}".')
    ],
    answer: Annotated[str, typer.Option("--answer", "-a", help="Column of the answer.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Problems file to write.")] = Path("problems.jsonl"),
    split: Annotated[Text, typer.Option(help="Column with train, dev (validation) or test.")] = None,
    group: Annotated[Text, typer.Option(help="Column of the group that reports tell apart.")] = None,
    choices: Annotated[Text, typer.Option(help="Column with a list of choices, or one column each: A,B,C,D.")] = None,
    solution: Annotated[Text, typer.Option(help="Column of a written solution, or a text of several.")] = None,
    id_: Annotated[Text, typer.Option("--id", help="Column of the id. Default: made from the line.")] = None,
    answer_type: Annotated[
        Text, typer.Option(help="number, label, choice, expr or text. Default: guessed from the answers.")
    ] = None,
    dev: Annotated[float, typer.Option(help="Share of dev problems where the table names none.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of test problems where there is no --split.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the drawn splits.")] = 0,
    domain: Annotated[str, typer.Option(help="Name written into the rows.")] = "",
    preview: Annotated[bool, typer.Option("--preview", help="Show what would come, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Turn a table into problems: map columns, guess the answer type, make splits, and say what is left out and why.

    Rows that cannot be used go to rejects.jsonl beside problems.jsonl (beside x.jsonl: x.rejects.jsonl), with reasons.

    \b
    Example: realm import cases.csv --question text --answer label --out mine/problems.jsonl
    Example: realm import openai/gsm8k:main -q question -a answer --split split --preview
    """
    import json
    import re

    from realm_cli.artifacts import replacing, write_rows
    from realm_cli.cli.console import show
    from realm_cli.errors import ArtifactError, DataError
    from realm_cli.stages.importing import Columns, Options, convert, place_counts
    from realm_cli.stages.summary import Summary, Table
    from realm_cli.stages.table_files import MORE, read_table

    path = Path(source)
    rejects = out.with_name("rejects.jsonl" if out.stem == "problems" else f"{out.stem}.rejects.jsonl")
    for file in (out, rejects):
        if preview or not file.exists():
            continue
        if path.exists() and path.samefile(file):
            raise ArtifactError(f"{file}: is read here and would be written; choose an --out in another folder")
        if not force:
            raise ArtifactError(f"{file}: exists; add --force to overwrite it, or choose another --out")
    notes: list[str] = []
    if path.is_file() and path.suffix.lower() != ".parquet":
        rows, notes = read_table(path)
    elif path.exists() or path.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
        from realm_cli.engines.tables import read_dataset

        rows = read_dataset(source)
        if split is None and all(cells.get("split") for _, cells in rows):
            split = "split"
            notes.append("splits as the dataset has them (its column split)")
    else:
        raise DataError(f"{source}: not found; check the path")
    named = [name.strip() for name in (choices or "").split(",") if name.strip()]
    columns = Columns(question, answer, id_, split, group, solution, [choices] if choices in rows[0][1] else named)
    prefix = path.stem if path.suffix else source.rpartition("/")[2].partition(":")[0]
    found = convert(rows, columns, Options(answer_type, dev, test, seed, domain, prefix or "row"), source)
    if not found.problems:
        place, why, _ = found.rejects[0]
        hint = f" ({notes[-1]})" if notes else ""
        raise DataError(f"{source}: none of the {len(rows)} rows can be used, e.g. {place}: {why}{hint}")
    if not preview:
        write_rows(out, found.problems)
        with replacing(rejects) as lines:
            for place, reason, cells in found.rejects:
                told = {"more cells" if name == MORE else name: value for name, value in cells.items()}
                row = {"place": place, "reason": reason, "row": told}
                lines.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        if not found.rejects:
            rejects.unlink(missing_ok=True)
    counted = [[s, str(n), str(kinds), common] for s, n, kinds, common in place_counts(found.problems)]
    tables = [Table("Problems", ["split", "problems", "different answers", "most frequent"], counted)]
    notes += [f"{p.id} ({p.split}): {_cut(p.question, 200)} -> {_cut(p.answer, 60)}" for p in found.problems[:PREVIEW]]
    reasons: dict[str, list[str]] = {}
    for place, reason, _ in found.rejects:
        reasons.setdefault(re.sub(r" of (?:line|\w* ?row) \d+ ", " of another row ", reason), []).append(place)
    notes += found.notes
    notes += [f"left out {_rows(at)}: {why}, e.g. {at[0]}" for why, at in list(reasons.items())[:6]]
    solved = sum(problem.gold_solution is not None for problem in found.problems)
    if solved:
        notes.append(f"{solved} written solutions" + ("" if preview else f": --teacher jsonl:{out} teaches them"))
    if not preview:
        whole = out.parent if out.name == "problems.jsonl" and (out.parent / "recipe.yaml").exists() else out
        notes.append(f"next: realm check {whole}")
    data = {
        "problems": len(found.problems),
        "rejected": len(found.rejects),
        "answer_type": found.problems[0].answer_type,
        "splits": {s: n for s, n, _, _ in place_counts(found.problems)},
        "notes": notes,
    }
    files = [] if preview else [str(out), *([str(rejects)] if found.rejects else [])]
    show(Summary("import", data, tables, notes, files), as_json)


def _rows(at: list[str]) -> str:
    return "1 row" if len(at) == 1 else f"{len(at)} rows"


def _cut(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
