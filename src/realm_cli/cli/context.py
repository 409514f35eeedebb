"""Finding the recipe, the run folder and the problems of a command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realm_cli.recipe import Recipe
    from realm_cli.records import Problem


@dataclass(frozen=True)
class Context:
    """What every stage command starts from."""

    recipe: Recipe
    run: Path


def load_context(recipe_name: str | None, run: Path | None, overrides: list[str] | None) -> Context:
    """Resolve --recipe, --run and --set. Without --recipe the run's own recipe.json is used where there is one."""
    from realm_cli.errors import ConfigError
    from realm_cli.recipe import load_recipe

    own = run / "recipe.json" if run is not None else None
    if recipe_name is None and own is not None and own.exists():
        recipe = load_recipe(own, overrides)
        asked = any(text.partition("=")[0].strip() == "student.trust_remote_code" for text in overrides or [])
        if recipe.student.trust_remote_code and not asked:  # the folder may be somebody else's
            raise ConfigError(
                f"{own}: lets code that comes with {recipe.student.model} run; if you trust it, say so: "
                "--set student.trust_remote_code=true"
            )
    else:
        recipe = load_recipe(find_recipe(recipe_name) if recipe_name else None, overrides)
    return Context(recipe, run if run is not None else Path("runs") / recipe.name)


def processes() -> int:
    """How many torchrun or `accelerate launch` has started for this command."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() and int(size) > 0 else 1


def follows() -> bool:
    """Whether this process was started to help another one (engines/parallel.py)."""
    return processes() > 1 and os.environ.get("RANK", "0") not in ("0", "")


def find_recipe(name: str) -> Path:
    """A path as given, or a name (with or without .yaml) in ./recipes or among the installed recipes."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") and path.exists():
        return path
    package = Path(__file__).resolve().parents[1]
    stem = name.removesuffix(".yaml")
    for folder in (Path("recipes"), package / "_recipes", package.parents[1] / "recipes"):
        candidate = folder / f"{stem}.yaml"
        if candidate.is_file():
            return candidate
    return path if path.suffix else path.with_suffix(".yaml")


def keep_recipe(context: Context, problems: Path | None, *, begun: bool = False) -> None:
    """Leave the resolved recipe, with --problems where given, in the run folder: later commands need only --run.

    A stage that has only `begun` does not replace the recipe that lies there: it may fail.
    """
    from realm_cli.artifacts import write_json

    if begun and (context.run / "recipe.json").exists():
        return
    recipe = context.recipe
    if problems is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"problems": problems})})
    write_json(context.run / "recipe.json", recipe.model_dump(mode="json"))


def problems_path(context: Context, given: Path | None, *, measured: bool = False) -> Path:
    """--problems, else (measured) the rollout's problems.jsonl, else the recipe's file, else the built-in domain's."""
    from realm_cli.errors import DataError

    if given is not None:
        return given
    counted = context.run / "rollout" / "problems.jsonl"
    if measured and counted.exists():
        return counted
    data = context.recipe.data
    if data.problems is not None:
        return data.problems
    path = context.run / "problems.jsonl"
    if not path.exists():
        if data.domain is None:
            raise DataError(
                f"{path}: not found; give --problems FILE, or set data.problems or data.domain in the recipe"
            )
        make_domain(data.domain, context.run, data.n_train, data.n_dev, data.n_test, context.recipe.seed)
    return path


def make_domain(name: str, out: Path, n_train: int, n_dev: int, n_test: int, seed: int) -> list[Problem]:
    """Write a built-in domain's problems.jsonl, rules.md and notes.md."""
    from realm_cli.artifacts import write_rows, write_text
    from realm_cli.domains import load_domain
    from realm_cli.records import Problem

    domain = load_domain(name)
    rows = [Problem.model_validate(row) for row in domain.generate(n_train, n_dev, n_test, seed)]
    write_rows(out / "problems.jsonl", rows)
    write_text(out / "rules.md", domain.rules())
    write_text(out / "notes.md", domain.notes())
    return rows


def read_text(path: Path | None, fallback: Path | None, what: str, *, needed: bool = True) -> str:
    """A rules or notes file; "" where none is given or lies in the run folder. Notes may be empty, rules may not.

    Rules that are not written yet (`realm init --student`) are "" where they are not `needed`.
    """
    from realm_cli.errors import DataError
    from realm_cli.stages.checkup import UNWRITTEN

    chosen = path or (fallback if fallback is not None and fallback.exists() else None)
    if chosen is None:
        return ""
    try:
        text = chosen.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{chosen}: {what} file not found; check the path") from None
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{chosen}: {what} file cannot be read as UTF-8 text") from None
    if not text.strip():
        if what == "notes":
            return ""
        raise DataError(f"{chosen}: {what} file is empty; write the {what} into it or leave the option out")
    if what == "rules" and UNWRITTEN in text:
        if needed:
            raise DataError(f"{chosen}: the rules are not written yet; put them in the place of this file's text")
        return ""
    return text


def last_adapter(run: Path, given: Path | None) -> Path:
    """The adapter that is given, else the run's last one. ArtifactError where there is none."""
    from realm_cli.errors import ArtifactError

    own = (run / name / "adapter" for name in ("train_rl", "refine/distill", "distill"))
    places = [given] if given is not None else list(own)
    found = next((place for place in places if (place / "adapter_model.safetensors").is_file()), None)
    if found is None:
        raise ArtifactError(f"{given or run}: no adapter; train one with `realm distill` or `realm train-rl`")
    return found


def existing(path: Path | None, default: Path) -> Path | None:
    """An option's path as given; else the default where that file exists."""
    if path is not None:
        return path
    return default if default.exists() else None
