"""realm import: a table as problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from realm_cli.cli.options import JsonOpt

Text = Optional[str]  # noqa: UP045 - Typer reads the annotation at run time on Python 3.10
PREVIEW = 3
_ANSWERS, _SPLITS = "How answers are read", "Splits"


def import_(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A JSONL, JSON, CSV, TSV or Parquet file, or a dataset NAME[:CONFIG]."),
    ],
    question: Annotated[
        str,
        typer.Option(
            "--question",
            "-q",
            help='Its column, a path (meta.text), a chat, or a text of several: "{facts}\\n\\n{query}".',
        ),
    ],
    answer: Annotated[
        str, typer.Option("--answer", "-a", help="Column or path of the answer: reward_model.ground_truth.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Problems file to write.")] = Path("problems.jsonl"),
    split: Annotated[
        Text, typer.Option(help="Column with train, dev (validation) or test.", rich_help_panel=_SPLITS)
    ] = None,
    split_by: Annotated[
        Text, typer.Option(help="Column whose rows of one value stay in one split.", rich_help_panel=_SPLITS)
    ] = None,
    group: Annotated[Text, typer.Option(help="Column of the group that reports tell apart.")] = None,
    choices: Annotated[Text, typer.Option(help="Column with a list of choices, or one column each: A,B,C,D.")] = None,
    solution: Annotated[
        Text, typer.Option(help="Column of a written solution, a chat (its last assistant turn), or a text of several.")
    ] = None,
    id_: Annotated[Text, typer.Option("--id", help="Column of the id. Default: made from the line.")] = None,
    answer_type: Annotated[
        Text,
        typer.Option(
            help="number, label, choice, expr, text, date, list; or a column of these ({text} for one that is named "
            "as a type is). Default: guessed from the answers.",
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    answer_is: Annotated[
        Text,
        typer.Option(
            help="What answers of choices are: letter, text, index0 or index1. Default: found by the column.",
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    answers: Annotated[
        Text,
        typer.Option(help="Columns of further right answers: a list, or text divided by |.", rich_help_panel=_ANSWERS),
    ] = None,
    list_means: Annotated[
        str,
        typer.Option(help="A list as answer: all of it is wanted, or any member is right.", rich_help_panel=_ANSWERS),
    ] = "all",
    tolerance: Annotated[
        Text, typer.Option(help="How far off a number may be: a column, 0.5, or 5%.", rich_help_panel=_ANSWERS)
    ] = None,
    lower: Annotated[
        Text, typer.Option(help="Column of the least number that is right.", rich_help_panel=_ANSWERS)
    ] = None,
    upper: Annotated[
        Text, typer.Option(help="Column of the greatest number that is right.", rich_help_panel=_ANSWERS)
    ] = None,
    decimal: Annotated[
        Text, typer.Option(help="Decimal sign: comma or point. Default: found by the column.", rich_help_panel=_ANSWERS)
    ] = None,
    date_order: Annotated[
        Text, typer.Option(help="03/04/2024 is: dmy, mdy, ymd. Default: found by the column.", rich_help_panel=_ANSWERS)
    ] = None,
    dev: Annotated[
        float, typer.Option(help="Share of dev problems where the table names none.", rich_help_panel=_SPLITS)
    ] = 0.1,
    test: Annotated[
        float, typer.Option(help="Share of test problems where there is no --split.", rich_help_panel=_SPLITS)
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the drawn splits.", rich_help_panel=_SPLITS)] = 0,
    domain: Annotated[str, typer.Option(help="Name written into the rows.")] = "",
    preview: Annotated[bool, typer.Option("--preview", help="Show what would come, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Turn a table into problems: map columns, read the answers, make splits, and say what is left out and why.

    Rows that cannot be used go to rejects.jsonl beside problems.jsonl (beside x.jsonl: x.rejects.jsonl), with reasons.

    \b
    Example: realm import cases.csv --question text --answer label --out mine/problems.jsonl
    Example: realm import openai/gsm8k:main -q question -a answer --split split --preview
    Example: realm import exam.jsonl -q question -a answer --choices choices --answer-is index0
    Example: realm import chats.parquet -q prompt -a reward_model.ground_truth --solution messages
    Example: realm import doses.csv -q question -a dose --tolerance 5% --split-by patient
    """
    from realm_cli.artifacts import write_rows
    from realm_cli.cli.console import show
    from realm_cli.errors import DataError
    from realm_cli.stages.import_notes import place_counts, reasons, reject_notes
    from realm_cli.stages.importing import Options, convert
    from realm_cli.stages.summary import Summary, Table

    rejects = out.with_name("rejects.jsonl" if out.stem == "problems" else f"{out.stem}.rejects.jsonl")
    if not preview:
        _check_targets(Path(source), (out, rejects), force)
    rows, notes, own_split = _read(source, split)
    found_names = {"tolerance": tolerance, "answer_type": answer_type}
    columns, fixed, told = _columns(
        rows, question, answer, found_names, id=id_, split=split or own_split, group=group, solution=solution,
        choices=choices, answers=answers, split_by=split_by, lower=lower, upper=upper,
    )  # fmt: skip
    path = Path(source)
    options = Options(
        dev=dev, test=test, seed=seed, domain=domain, answer_is=answer_is, list_means=list_means, decimal=decimal,
        prefix=(path.stem if path.suffix else source.rpartition("/")[2].partition(":")[0]) or "row",
        date_order=date_order, **fixed,
    )  # fmt: skip
    found = convert(rows, columns, options, source)
    if not found.problems:
        place, why, _ = found.rejects[0]
        hint = f" ({notes[-1]})" if notes else ""
        raise DataError(f"{source}: none of the {len(rows)} rows can be used, e.g. {place}: {why}{hint}")
    if not preview:
        write_rows(out, found.problems)
        _write_rejects(rejects, found.rejects)
    counted = [[s, str(n), str(kinds), common] for s, n, kinds, common in place_counts(found.problems)]
    tables = [Table("Problems", ["split", "problems", "different answers", "most frequent"], counted)]
    notes += [f"{p.id} ({p.split}): {_cut(p.question, 200)} -> {_cut(p.answer, 60)}" for p in found.problems[:PREVIEW]]
    notes += [*told, *found.notes, *reject_notes(found.rejects, len(rows))]
    solved = sum(problem.gold_solution is not None for problem in found.problems)
    if solved:
        notes.append(f"{solved} written solutions" + ("" if preview else f": --teacher jsonl:{out} teaches them"))
    if not preview:
        whole = out.parent if out.name == "problems.jsonl" and (out.parent / "recipe.yaml").exists() else out
        notes.append(f"next: realm check {whole}")
    types = {problem.answer_type: 0 for problem in found.problems}
    data = {
        "problems": len(found.problems),
        "rejected": len(found.rejects),
        "reasons": reasons(found.rejects),
        "answer_type": found.problems[0].answer_type,
        "answer_types": {kind: sum(p.answer_type == kind for p in found.problems) for kind in types},
        "splits": {s: n for s, n, _, _ in place_counts(found.problems)},
        "notes": notes,
    }
    files = [] if preview else [str(out), *([str(rejects)] if found.rejects else [])]
    show(Summary("import", data, tables, notes, files), as_json)


def _check_targets(source: Path, files: tuple[Path, ...], force: bool) -> None:
    from realm_cli.errors import ArtifactError

    for file in filter(Path.exists, files):
        if source.exists() and source.samefile(file):
            raise ArtifactError(f"{file}: is read here and would be written; choose an --out in another folder")
        if not force:
            raise ArtifactError(f"{file}: exists; add --force to overwrite it, or choose another --out")


def _read(source: str, split: str | None) -> tuple[list[Any], list[str], str | None]:
    """(rows, notes, the column of a dataset's own splits)."""
    from realm_cli.errors import DataError
    from realm_cli.stages.table_files import read_table

    path = Path(source)
    if path.is_file() and path.suffix.lower() != ".parquet":
        return (*read_table(path), None)
    if not path.exists() and path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
        raise DataError(f"{source}: not found; check the path")
    from realm_cli.engines.tables import read_dataset

    rows, notes = read_dataset(source)
    if split is None and rows and all(cells.get("split") for _, cells in rows):
        return rows, [*notes, "splits as the dataset has them (its column split)"], "split"
    return rows, notes, None


def _columns(
    rows: list[Any], question: str, answer: str, found: dict[str, str | None], **named: str | None
) -> tuple[Any, dict[str, str | None], list[str]]:
    """(columns, options, notes): --tolerance and --answer-type may name a column or be the thing itself."""
    from realm_cli.method.answers import known_types
    from realm_cli.stages.import_cells import MISSING, lookup
    from realm_cli.stages.import_rows import Columns

    def is_column(name: str) -> bool:
        return any(lookup(cells, name) is not MISSING for _, cells in rows[:1000])

    def each(text: str | None) -> list[str]:
        if text is None or is_column(text):
            return [text] if text else []
        return [name.strip() for name in text.split(",") if name.strip()]

    fixed: dict[str, str | None] = {}
    notes = []
    tolerance, kind = found["tolerance"], found["answer_type"]
    if tolerance is not None and not is_column(tolerance):
        fixed["tolerance"], tolerance = tolerance.replace(" ", ""), None
    braced = kind[1:-1] if kind is not None and kind.startswith("{") and kind.endswith("}") else None
    if braced is None and kind is not None and (kind in known_types() or not is_column(kind)):
        if is_column(kind):
            notes.append(f"--answer-type {kind} is the type; the column of this name is --answer-type {{{kind}}}")
        fixed["answer_type"], kind = kind, None
    columns = Columns(
        question, answer, choices=each(named.pop("choices")), answers=each(named.pop("answers")),
        tolerance=tolerance, answer_type=braced or kind, **named,
    )  # fmt: skip
    return columns, fixed, notes


def _write_rejects(path: Path, rejects: list[tuple[str, str, dict[str, Any]]]) -> None:
    import json

    from realm_cli.artifacts import replacing
    from realm_cli.stages.import_cells import text_of
    from realm_cli.stages.table_files import MORE

    if not rejects:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as lines:
        for place, reason, cells in rejects:
            told = {"more cells" if name == MORE else name.strip("\0"): value for name, value in cells.items()}
            row = {"place": place, "reason": reason, "row": told}
            lines.write(json.dumps(row, ensure_ascii=False, default=text_of) + "\n")


def _cut(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
