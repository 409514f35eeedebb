"""realm init: a domain's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

SAMPLE = {name: name for name in ("README.md", "recipe.yaml", "pipeline.sh")}  # file -> its text in _scaffold/
OWN = SAMPLE | {"README.md": "README-own.md", "rules.md": "rules-own.md"}
INSTRUCT = "recipe-instruct.yaml"  # recipe.yaml of a student that is an instruct model
SAMPLE_SIZES = (600, 60, 200)  # train, dev and test problems
TINY = "tiny-student"
RATES = {"smollm2-135m": "1.0e-3"}  # of fine-tuning, of students below 0.3B parameters; others have RATE
RATE = "2.0e-4"
STAND_INS = {"routes-a.jsonl": "forgetful", "routes-b.jsonl": "hasty"}


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    student: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="For a domain of your own: an instruct model, as hub id, folder, .gguf or smollm2-135m."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of the same names.")] = False,
) -> None:
    """Make a domain's folder: rules, notes, a recipe and pipeline.sh, which runs the stages one after the other.

    Without --student it holds a sample that runs as it is; with it, it waits for your problems and rules.

    \b
    Example: realm init mydomain
    Example: realm init mydomain --student Qwen/Qwen2.5-0.5B-Instruct
    """
    import json
    import stat

    from realm_cli.artifacts import write_text
    from realm_cli.cli.console import say
    from realm_cli.errors import ArtifactError
    from realm_cli.recipe import refuse_secret

    if student is not None:
        refuse_secret(student)
    sample = student is None
    copied = SAMPLE if sample else OWN
    if student not in (None, TINY):
        copied = copied | {"recipe.yaml": INSTRUCT}
    names = [*copied, "notes.md", *(("problems.jsonl", "rules.md", "teacher.jsonl", *STAND_INS) if sample else ())]
    there = next((folder / name for name in names if (folder / name).exists()), None)
    if there is not None and not force:
        raise ArtifactError(f"{there}: exists; choose a new folder, or add --force to overwrite it")
    left = next((folder / name for name in STAND_INS if (folder / name).exists()), None)
    if left is not None and not sample:
        raise ArtifactError(
            f"{left}: the folder holds the sample of `realm init`; choose a new one for a domain of yours"
        )
    source = Path(__file__).resolve().parents[1] / "_scaffold"
    for name, origin in copied.items():
        text = (source / origin).read_text(encoding="utf-8")
        if origin == INSTRUCT:
            text = text.replace("RATE", RATES.get(str(student), RATE)).replace("STUDENT", json.dumps(student))
        write_text(folder / name, text)
    script = folder / "pipeline.sh"
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    say(f"{folder}: {', '.join(names)}")
    if sample:
        _write_sample(folder)
        say(f"next: {script}  (runs as it is, some minutes)")
        return
    write_text(folder / "notes.md", "")
    columns = "--question text --answer label --solution explanation"
    say(f"next: realm import YOURS.csv {columns} --out {folder / 'problems.jsonl'}")
    say(
        f"then: put the rules into {folder / 'rules.md'}, and run {script}  ({folder / 'README.md'} says what it reads)"
    )


def _write_sample(folder: Path) -> None:
    """Problems, rules and notes of the built-in domain, and written solutions that stand in for models."""
    import json
    import random

    from realm_cli.artifacts import replacing
    from realm_cli.cli.context import make_domain
    from realm_cli.domains import load_domain

    problems, domain = make_domain("rulebook", folder, *SAMPLE_SIZES, seed=0), load_domain("rulebook")
    texts = {"teacher.jsonl": [(p.id, domain.oracle_solution(p.question)) for p in problems if p.split == "train"]}
    for name, solver in STAND_INS.items():
        draws = [(p, random.Random(f"{name}/{p.id}/{i}")) for p in problems for i in range(2)]
        texts[name] = [(p.id, domain.solve(solver, p.question, draw)) for p, draw in draws]
    for name, found in texts.items():
        with replacing(folder / name) as out:
            out.writelines(json.dumps({"problem_id": key, "text": text}) + "\n" for key, text in found)
