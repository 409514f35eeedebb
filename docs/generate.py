"""Writes docs/artifacts.md from the row models, docs/cli.md from the Typer app, and the guide of answer types in
docs/your-domain.md from the cases that the tests run.

Usage: `python docs/generate.py` writes them; `--check` writes nothing and exits 1, naming the file, if one is stale.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import sys
import tokenize
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from realm_cli import records

HERE = Path(__file__).resolve().parent
NOTICE = "<!-- Written by `make docs` from {source}; edit that instead. -->"

# Which rows stand in which file of a run folder, in the order in which a reader meets them.
FILES: list[tuple[str, str, str]] = [
    ("problems.jsonl", "Problem", "the questions, with answers that can be checked"),
    ("rollout/routes.jsonl", "Route", "the chains of thought of every model, append-only"),
    ("rollout/problems.jsonl", "Problem", "the problems with success rates and difficulty buckets filled in"),
    (
        "rollout/errors.jsonl",
        "FailedSample",
        "what a server did not give; gone when a rerun gets it (also in distill/, eval/)",
    ),
    ("verify/scored.jsonl", "ScoredRoute", "the routes with their process scores"),
    ("verify/sets.jsonl", "RouteSet", "the routes that one prompt contrasts"),
    ("distill/teacher.jsonl", "GuidedCoT", "everything the teacher wrote, append-only, before the filters"),
    (
        "distill/guided.jsonl",
        "GuidedCoT",
        "the same with the verdict of the filters and the reason for every dropped row",
    ),
    ("distill/sft.jsonl", "SFTSample", "what the student was fine-tuned on"),
    ("train_rl/plan.jsonl", "PlanRow", "every group of RL, written before the first step"),
    ("train_rl/samples.jsonl", "Sample", "every completion of RL with all parts of its reward"),
    ("eval/predictions.jsonl", "Prediction", "every evaluated completion"),
]


def type_name(annotation: Any) -> str:
    """A type as a reader writes it: `list[str] | null`, `"a" | "b"`."""
    if annotation is type(None):
        return "null"
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(json.dumps(arg) for arg in args)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(type_name(arg) for arg in args)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(type_name(arg) for arg in args)}]"
    return str(getattr(annotation, "__name__", annotation))


def default_text(field: FieldInfo) -> str:
    """A field's default as JSON, or `required`."""
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined and field.default_factory is not None:
        value = field.default_factory()  # type: ignore[call-arg]
    return f"`{json.dumps(value)}`"


def comments(model: type[BaseModel]) -> dict[str, str]:
    """Field name -> the comment at the end of the line that declares it."""
    found: dict[str, str] = {}
    name = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(model)).readline):
        if token.type == tokenize.NAME and not token.line[: token.start[1]].strip():
            name = token.string
        elif token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            found[name] = token.string.lstrip("# ")
    return found


def cell(text: str) -> str:
    """Text that is safe in a table cell: bars escaped, `<` too where it is not code."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return " ".join("`".join(parts).replace("|", "\\|").split())


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table, empty line after it included."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return [*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in rows), ""]


def model_section(model: type[BaseModel]) -> list[str]:
    """Heading, docstring and field table of one row model."""
    own = [name for name in model.model_fields if name not in records.Row.model_fields or model is records.Row]
    parent: type[BaseModel] = model.__mro__[1]  # the models inherit from one class each
    if parent not in (records.Row, BaseModel):
        own = [name for name in own if name not in parent.model_fields]
    notes = comments(model)
    rows = [
        [f"`{name}`", f"`{type_name(field.annotation)}`", default_text(field), notes.get(name, "")]
        for name, field in model.model_fields.items()
        if name in own
    ]
    above = f"All fields of `{parent.__name__}`, and:\n" if parent is not BaseModel else ""
    text = inspect.cleandoc(model.__doc__ or "")
    return [
        f"## {model.__name__}",
        "",
        text,
        "",
        *([above] if above else []),
        *table(["field", "type", "default", "meaning"], rows),
    ]


def artifacts_page() -> str:
    """docs/artifacts.md: which file holds which rows, then every field of every row."""
    models = [
        value
        for value in vars(records).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == records.__name__
    ]
    files = [[f"`{file}`", f"[{row}](#{row.lower()})", what] for file, row, what in FILES]
    lines = ["# Artifacts", "", NOTICE.format(source="src/realm_cli/records.py"), ""]
    lines += [
        "A run is a folder. Every stage reads and writes files in it, so a stage can be rerun, replaced or read with",
        "`jq`. JSONL files hold one row per line. An unknown field is an error, so a misspelt one is never ignored.",
        "Lists over steps are 0-based; step numbers are 1-based, as a reader counts them.",
        "",
        *table(["file", "rows", "what"], files),
        "Each stage folder also holds `recipe.json` (every setting, resolved) and `manifest.json` (status, versions,",
        "seed, digests of inputs and outputs, row counts). `metrics.jsonl` has one line of numbers per training step;",
        "`verify/summary.json` and `eval/report.json` hold what the tables on the screen show. Adapters are",
        "safetensors in the layout of `peft`.",
        "",
    ]
    for model in models:
        lines += model_section(model)
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str | None) -> str:
    """Help text without the marks that keep click from folding a paragraph."""
    return inspect.cleandoc((text or "").replace("\b\n", "").replace("\b", "")).strip()


def prose(text: str) -> list[str]:
    """Help text as Markdown: lines that start with `Example:` become a code block, `<` is escaped elsewhere."""
    lines = plain(text).splitlines()
    examples = [line.removeprefix("Example:").strip() for line in lines if line.startswith("Example:")]
    rest = [line.strip().replace("<", "&lt;") for line in lines if not line.startswith("Example:")]
    block = ["```sh", *examples, "```", ""] if examples else []
    return [*"\n".join(rest).strip().splitlines(), "", *block]


def command_section(command: Any, path: str, parent: Any) -> list[str]:
    """Heading, help, usage and options of a command, then of its subcommands."""
    context = command.context_class(command, info_name=path.split()[-1], parent=parent)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines = [f"{'#' * (1 + len(path.split()))} {path}", "", *prose(command.help or ""), "```", usage, "```", ""]
    helps = [param.get_help_record(context) for param in command.get_params(context) if param.name != "help"]
    rows = [[f"`{names}`", plain(meaning)] for names, meaning in filter(None, helps)]
    if rows:
        lines += table(["option", "meaning"], rows)
    if command.epilog:
        lines += prose(command.epilog)
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            lines += command_section(child, f"{path} {name}", context)
    return lines


def cli_page() -> str:
    """docs/cli.md: every command with its options."""
    from typer.main import get_command

    from realm_cli.cli.app import app

    intro = [
        "# Commands",
        "",
        NOTICE.format(source="src/realm_cli/cli/"),
        "",
        "Results go to stdout (`--json` for machines), progress and messages to stderr. Exit codes: 0 done, 1 an error",
        "that is told in one line, 2 wrong usage, 130 interrupted (what was made is kept; `--resume` goes on).",
        "",
    ]
    return "\n".join([*intro, *command_section(get_command(app), "realm", None)]).rstrip() + "\n"


def answer_types(page: str) -> str:
    """The page with its guide of answer types made anew, between the two marks."""
    begin, end = (
        "<!-- answer types, written by `make docs` from tests/method/answer_cases.py -->",
        "<!-- /answer types -->",
    )
    spec = importlib.util.spec_from_file_location("answer_cases", HERE.parent / "tests" / "method" / "answer_cases.py")
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)

    def shown(texts: tuple[str, ...]) -> str:
        return ", ".join(f"`{text}`" for text in texts)

    rows = [[f"`{c.type}`", c.what, shown((c.gold,)), shown(c.right), shown(c.wrong)] for c in cases.CASES]
    guide = table(["type", "what counts", "the answer", "right", "wrong"], rows)
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n" + "\n".join(guide).strip() + f"\n\n{end}" + rest.partition(end)[2]


def main(argv: list[str]) -> int:
    """Write the pages, or with --check compare them; returns the exit code."""
    stale = []
    guide = answer_types((HERE / "your-domain.md").read_text(encoding="utf-8"))
    for name, text in (("artifacts.md", artifacts_page()), ("cli.md", cli_page()), ("your-domain.md", guide)):
        path = HERE / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(f"docs/{name}")
        if "--check" not in argv:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in argv:
        print(f"{', '.join(stale)}: not current; run `make docs` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
