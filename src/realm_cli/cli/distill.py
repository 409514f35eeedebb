"""realm distill: guided CoT distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import ForceOpt, JsonOpt, ProblemsOpt, RecipeOpt, ResumeOpt, RunOpt, SetOpt, ShardOpt


def distill(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    teacher: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--teacher",
            "-t",
            help="oracle, hf:MODEL, vllm:MODEL, openai:BASE_URL#MODEL, or jsonl:FILE with written CoTs.",
        ),
    ] = None,
    rules: Annotated[Optional[Path], typer.Option(help="Rules the teacher sees. Default: the run's rules.md.")] = None,  # noqa: UP045
    notes: Annotated[Optional[Path], typer.Option(help="Expert notes the teacher sees.")] = None,  # noqa: UP045
    positives: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Routes (JSONL) whose correct ones join in the bare format."),
    ] = None,
    sets: Annotated[Optional[Path], typer.Option(help="Route sets. Default: the run's verify/sets.jsonl.")] = None,  # noqa: UP045
    scored: Annotated[Path | None, typer.Option(help="Scored routes. Default: the run's verify/scored.jsonl.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Fine-tune this adapter further. Default: a new one.")] = None,
    problems: ProblemsOpt = None,
    data_only: Annotated[bool, typer.Option("--data-only", help="Stop after guided.jsonl and sft.jsonl.")] = False,
    shard: ShardOpt = None,
    set_: SetOpt = None,
    resume: ResumeOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Move the rules into the weights: the teacher sees them, the student learns its reasoning without them.

    With --shard it stops when the teacher has written; merge the shards, then go on with --resume. `accelerate launch`
    shares the fine-tuning.

    \b
    Example: realm distill --recipe demo --teacher oracle
    Example: realm distill --problems my.jsonl --rules rules.md --teacher openai:http://localhost:8000/v1#Qwen2.5-32B
    """
    from dataclasses import replace

    from realm_cli.checking import checking
    from realm_cli.cli.adapters import with_own_lora
    from realm_cli.cli.console import progress, say, show
    from realm_cli.cli.context import existing, follows, keep_recipe, load_context, problems_path, read_text
    from realm_cli.cli.teachers import follow_trainer, make_guide, replay_file
    from realm_cli.run_folder import finished, open_stage
    from realm_cli.stages.distill import Extras, collect_shard, distill_problems, run_distill
    from realm_cli.stages.failures import pending
    from realm_cli.stages.problems import load_problems
    from realm_cli.stages.sharding import Shard

    context = load_context(recipe, run, [*(set_ or []), *([f"distill.teacher={teacher}"] if teacher else [])])
    folder, data = context.run, context.recipe.data
    part = Shard.parse(shard) if shard else None
    whole = not (data_only or part)
    overrides = set_ or []
    asked, context = context, replace(context, recipe=with_own_lora(context.recipe, adapter, "distill.sft", overrides))
    if follows():
        complete = not pending(folder / "distill" / "errors.jsonl") and finished(folder / "distill")
        if whole and not (resume and complete):
            follow_trainer(context.recipe, folder / "distill" / "adapter", adapter)
        return
    path = problems_path(context, problems, measured=context.recipe.distill.buckets is not None)
    rows = load_problems(path)
    written = context.recipe.distill.teacher.startswith("jsonl:")  # such a teacher needs no rules
    rules_text = read_text(rules or data.rules, folder / "rules.md", "rules", needed=not written)
    notes_text = read_text(notes or data.notes, folder / "notes.md", "notes")
    sets_path = existing(sets, folder / "verify" / "sets.jsonl")
    scored_path = existing(scored, folder / "verify" / "scored.jsonl")
    for given in (sets, scored, positives, adapter):
        if given is not None and not given.exists():
            from realm_cli.errors import DataError

            raise DataError(f"{given}: not found; make it with `realm rollout` and `realm verify`, or leave it out")
    replay = replay_file(context.recipe)
    if whole:
        say(f"loading {context.recipe.student.model}")
    guide, trainer = make_guide(context.recipe, rules_text, notes_text, data_only=not whole, adapter=adapter)
    inputs = {"problems": path, "rules": rules, "positives": positives, "sets": sets_path, "scored": scored_path}
    inputs |= {"replay": replay, "adapter": adapter}
    name = str(part) if part else None
    stage = open_stage(folder, "distill", context.recipe, inputs, resume=resume, force=force, shard=name)
    keep_recipe(asked, problems, begun=True)
    if resume and stage.done:
        if not pending(stage.path("errors.jsonl")):
            say(f"{stage.folder}: already complete; nothing to do (use --force to redo it)")
            return
        stage.note()  # at work again: for samples that may fail (engine.server.max_failed), and did
    stage.same_model("student", getattr(guide.scorer, "digest", ""))
    if part is not None:
        with checking(context.recipe.checks, say):
            summary = collect_shard(stage, part.take(distill_problems(rows, context.recipe.distill)), guide, progress)
        stage.finish("sampled")
        show(summary, as_json)
        return
    extras = Extras(positives, sets_path, scored_path, replay, {p.id: p for p in rows})
    with checking(context.recipe.checks, say):
        summary = run_distill(stage, rows, guide, extras, trainer, progress=progress, resume=resume)
    stage.finish()
    keep_recipe(asked, problems)
    show(summary, as_json)
