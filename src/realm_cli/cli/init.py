"""realm init: a domain's folder that runs as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

COPIED = ("README.md", "recipe.yaml", "pipeline.sh")
INSTRUCT = "recipe-instruct.yaml"  # recipe.yaml of a student that is an instruct model
SAMPLE = (600, 60, 200)  # train, dev and test problems
TINY = "tiny-student"
RATES = {"smollm2-135m": "1.0e-3"}  # of fine-tuning, of students below 0.3B parameters; others have RATE
RATE = "2.0e-4"
STAND_INS = {"routes-a.jsonl": "forgetful", "routes-b.jsonl": "hasty"}


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    student: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="An instruct model for a domain of your own: hub id, folder, .gguf, smollm2-135m. Default: tiny."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of the same names.")] = False,
) -> None:
    """Make a folder with problems, rules, notes, a recipe and pipeline.sh: it runs, and you replace what is in it.

    \b
    Example: realm init mydomain
    Example: realm init mydomain --student Qwen/Qwen2.5-0.5B-Instruct
    """
    import json
    import random
    import stat

    from realm_cli.artifacts import replacing, write_text
    from realm_cli.cli.console import say
    from realm_cli.cli.context import make_domain
    from realm_cli.domains import load_domain
    from realm_cli.errors import ArtifactError
    from realm_cli.recipe import refuse_secret

    if student is not None:
        refuse_secret(student)
    names = [*COPIED, "problems.jsonl", "rules.md", "notes.md", "teacher.jsonl", *STAND_INS]
    there = next((folder / name for name in names if (folder / name).exists()), None)
    if there is not None and not force:
        raise ArtifactError(f"{there}: exists; choose a new folder, or add --force to overwrite it")
    problems = make_domain("rulebook", folder, *SAMPLE, seed=0)
    source = Path(__file__).resolve().parents[1] / "_scaffold"
    for name in COPIED:
        own = INSTRUCT if name == "recipe.yaml" and student not in (None, TINY) else name
        text = (source / own).read_text(encoding="utf-8")
        if own == INSTRUCT:
            text = text.replace("RATE", RATES.get(str(student), RATE)).replace("STUDENT", json.dumps(student))
        write_text(folder / name, text)
    script = folder / "pipeline.sh"
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    domain = load_domain("rulebook")
    texts = {"teacher.jsonl": [(p.id, domain.oracle_solution(p.question)) for p in problems if p.split == "train"]}
    for name, solver in STAND_INS.items():
        draws = [(p, random.Random(f"{name}/{p.id}/{i}")) for p in problems for i in range(2)]
        texts[name] = [(p.id, domain.solve(solver, p.question, draw)) for p, draw in draws]
    for name, found in texts.items():
        with replacing(folder / name) as out:
            out.writelines(json.dumps({"problem_id": key, "text": text}) + "\n" for key, text in found)
    readme = folder / "README.md"
    then = f"then: {script}  (runs as it is; {readme} says what to replace)"
    if student not in (None, TINY):
        then = f"then: put your problems and rules in the sample's place, as {readme} says, and run {script}"
    for line in (f"{folder}: {', '.join(names)}", f"next: realm check {folder}", then):
        say(line)
