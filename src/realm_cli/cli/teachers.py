"""Builds what distillation needs from a recipe: the teacher with its checks, the student and its trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from realm_cli.protocols import SftTrainer
    from realm_cli.recipe import Recipe
    from realm_cli.stages.distill import Guide


def replay_file(recipe: Recipe) -> Path | None:
    """distill.replay as a path; `student` is replay.jsonl in the student's own folder. Raises ConfigError."""
    from realm_cli.engines.sources import resolve_model
    from realm_cli.errors import ConfigError

    asked = recipe.distill.replay
    if asked != "student":
        return asked
    folder = resolve_model(recipe.student.model).path
    if folder is None or not (folder / "replay.jsonl").is_file():
        raise ConfigError(f"distill.replay: {recipe.student.model} ships no replay.jsonl; name a file or leave it out")
    return folder / "replay.jsonl"


def make_guide(
    recipe: Recipe, rules: str, notes: str, *, data_only: bool, adapter: Path | None = None
) -> tuple[Guide, SftTrainer | None]:
    """The teacher and, unless only data are wanted, the student's trainer, which continues `adapter` if one is given.

    Raises ConfigError, EngineError.
    """
    from realm_cli.engines.build import build_generator, load_student, local_generator
    from realm_cli.stages.distill import Guide

    config = recipe.distill
    teacher = build_generator(config.teacher, recipe)
    kind = config.teacher.partition(":")[0]
    check = None
    if recipe.data.domain is not None and config.rule_check:
        from realm_cli.domains import load_domain

        check = load_domain(recipe.data.domain).rule_check
    tries = 1 if kind == "oracle" else None
    retry = kind not in ("oracle", "jsonl")
    if data_only:
        return Guide(
            teacher, rules, notes, check, count_tokens=lambda t: len(t.split()), tries=tries, retry=retry
        ), None
    from realm_cli.engines.sft import LoraSftTrainer

    loaded = load_student(recipe, adapter=adapter, trainable=adapter is not None)
    scorer = local_generator(loaded, recipe)

    def count_tokens(text: str) -> int:
        return len(loaded.tokenizer(text, add_special_tokens=False).input_ids)

    guide = Guide(teacher, rules, notes, check, scorer, count_tokens, tries, retry)
    return guide, LoraSftTrainer(loaded, config.sft, recipe.seed)


def follow_trainer(recipe: Recipe, out_dir: Path, adapter: Path | None) -> None:
    """Help the process that fine-tunes the student (engines/parallel.py), once it begins. Raises EngineError."""
    from realm_cli.engines.build import load_student
    from realm_cli.engines.parallel import join
    from realm_cli.engines.sft import LoraSftTrainer

    join()  # the teacher writes first; until it has, nothing is loaded here
    loaded = load_student(recipe, adapter=adapter, trainable=adapter is not None)
    LoraSftTrainer(loaded, recipe.distill.sft, recipe.seed).follow(out_dir)
