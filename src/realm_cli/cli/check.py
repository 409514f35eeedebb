"""realm check: is a domain ready?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from realm_cli.cli.options import JsonOpt

if TYPE_CHECKING:
    from realm_cli.stages.checkup import Finding

MARKS = {"error": "ERROR  ", "warning": "warning", "fine": "ok     "}


def check(
    place: Annotated[Path, typer.Argument(metavar="DIR_OR_FILE", help="A domain's folder, or a problems file.")],
    rules: Annotated[Optional[Path], typer.Option(help="Rules. Default: rules.md in the folder.")] = None,  # noqa: UP045
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--recipe", "-r", help="Recipe. Default: recipe.yaml in the folder, if it is there."),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Say what is missing or suspicious in problems, rules and recipe, a line each; exit code 1 if it would not run.

    \b
    Example: realm check mydomain
    Example: realm check problems.jsonl --rules handbook.md
    """
    from realm_cli.cli.context import read_text
    from realm_cli.errors import RealmError
    from realm_cli.recipe import load_recipe
    from realm_cli.stages.checkup import Finding, check_leftovers, check_lengths, check_problems, check_rules

    folder = place if place.is_dir() else place.parent
    findings, problems = check_problems(place / "problems.jsonl" if place.is_dir() else place)
    book = rules or folder / "rules.md"
    if rules is not None and not book.is_file():
        findings.append(Finding("error", f"{book}: no such file; check --rules"))
    elif book.exists():
        try:
            findings += check_rules(book.read_text(encoding="utf-8") if book.is_file() else "", book, problems)
        except (OSError, UnicodeDecodeError):
            findings.append(Finding("error", f"{book}: cannot be read as UTF-8 text; save it as such"))
    else:
        findings.append(Finding("warning", f"{book}: not there; without rules the teacher has to know them"))
    if place.is_dir():
        findings += check_leftovers(place, problems)
    chosen = recipe or (folder / "recipe.yaml" if (folder / "recipe.yaml").exists() else None)
    if chosen is not None:
        try:
            loaded = load_recipe(chosen, [])
            findings.append(Finding("fine", f"{chosen}: student {loaded.student.model}"))
            findings += check_lengths(problems, loaded.distill, str(chosen))
            named = loaded.data.rules
            beside = chosen.parent / named if named is not None else None  # commands run in the recipe's folder
            read_text(beside if beside is not None and beside.exists() else named, None, "rules", needed=False)
        except RealmError as error:
            findings.append(Finding("error", str(error)))
    report_findings("check", findings, as_json)


def report_findings(name: str, findings: list[Finding], as_json: bool) -> None:
    """Print findings, a line each; exit code 1 where one is an error."""
    from realm_cli.cli.console import show
    from realm_cli.stages.summary import Summary

    lines = [f"{MARKS[finding.level]}  {finding.text}" for finding in findings]
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    data = {
        "errors": errors,
        "warnings": warnings,
        "findings": [{"level": finding.level, "text": finding.text} for finding in findings],
    }
    lines.append(f"{errors} errors, {warnings} warnings")
    show(Summary(name, data, [], lines), as_json)
    if errors:
        raise typer.Exit(1)
