"""realm doctor: is this machine ready?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realm_cli.cli.options import JsonOpt, RecipeOpt, RunOpt, SetOpt

if TYPE_CHECKING:
    from realm_cli.recipe import Recipe
    from realm_cli.stages.checkup import Finding


def doctor(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    smoke: Annotated[
        bool, typer.Option("--smoke/--no-smoke", help="Train some steps in NF4, to see that it works.")
    ] = True,
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Look for what would stop a run here: versions, GPU, NF4, memory, disk, model files, servers. A line each.

    With a recipe or a run, its student and its servers are looked for too. Exit code 1 if there is an error.

    \b
    Example: realm doctor
    Example: realm doctor --recipe realm-r1-qwen2.5-0.5b --no-smoke
    """
    import importlib.metadata
    import os
    import sys

    from realm_cli.cli.check import report_findings
    from realm_cli.cli.context import load_context
    from realm_cli.stages.checkup import Finding
    from realm_cli.stages.doctoring import check_environment, check_packages, check_python, pinned_versions

    context = load_context(recipe, run, set_)

    def installed(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    asked = (importlib.metadata.requires("realm-cli") or []) if installed("realm-cli") else []
    findings = [check_python(), *check_packages(installed, asked, pinned_versions())]
    findings += check_environment(os.environ, os.cpu_count() or 1, getattr(sys.stdout, "encoding", "") or "")
    if all(installed(name) for name in ("torch", "transformers", "peft", "bitsandbytes")):
        try:
            findings += _machine(context.run, smoke) + _recipe(context.recipe)
        except (ImportError, AttributeError, OSError) as error:  # a library that is broken, or another one's version
            text = (str(error).splitlines() or [type(error).__name__])[0]
            findings.append(Finding("error", f"the libraries cannot be imported ({text}); reinstall the one it names"))
    report_findings("doctor", findings, as_json)


def _machine(run: Path, smoke: bool) -> list[Finding]:
    from realm_cli.cli.console import say
    from realm_cli.engines.machine import cuda_devices, has_driver, load, memory, nf4_smoke, places
    from realm_cli.stages.doctoring import Gpu, check_gpu, check_load, check_memory, check_place, check_smoke

    gpus, build = cuda_devices()
    findings = [*check_gpu([Gpu(*gpu) for gpu in gpus], build, has_driver()), check_memory(*memory())]
    findings.append(check_load(*load()))
    for what, place in {"run folder": run, **places()}.items():
        findings.append(check_place(what, place, *_writable(place)))
    if smoke:
        say("training some steps in NF4: seconds, on a busy processor up to minutes (--no-smoke leaves it out)")
        seconds, losses, trouble, device = nf4_smoke()
        findings.append(check_smoke(seconds, losses, trouble, device))
    return findings


def _recipe(recipe: Recipe) -> list[Finding]:
    """The student's files, and the servers that are named."""
    from realm_cli.engines.machine import offline, server_trouble, student_files
    from realm_cli.errors import RealmError
    from realm_cli.stages.checkup import Finding
    from realm_cli.stages.doctoring import check_server, check_student

    try:
        label, from_hub, here = student_files(recipe.student.model)
        findings = [check_student(label, from_hub=from_hub, here=here, offline=offline())]
    except RealmError as error:
        findings = [Finding("error", str(error))]
    servers = [spec for spec in (*recipe.rollout.models, recipe.distill.teacher) if spec.startswith("openai:")]
    return [*findings, *(check_server(spec, server_trouble(spec)) for spec in dict.fromkeys(servers))]


def _writable(place: Path) -> tuple[float | None, str | None]:
    """(GiB free, None) or (None, why it cannot be written). Nothing is left there."""
    import shutil
    import tempfile

    there = place
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            return shutil.disk_usage(there).free / 2**30, None
    except OSError as error:
        return None, error.strerror or type(error).__name__
