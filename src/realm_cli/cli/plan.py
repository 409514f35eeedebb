"""realm plan: what a recipe takes, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from realm_cli.cli.options import JsonOpt, ProblemsOpt, RecipeOpt, RunOpt, SetOpt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realm_cli.cli.context import Context
    from realm_cli.protocols import Speeds
    from realm_cli.records import Message, Problem
    from realm_cli.stages.footprint import Lengths


def plan(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    problems: ProblemsOpt = None,
    gpu: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option("--gpu", metavar="GIB", help="Memory of a GPU to plan for. Repeatable. Default: 8 to 48."),
    ] = None,
    tokens: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Mean length of a completion that you expect. Default: the recipe's limits."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Load the student, try its speed here, and tell the time.")
    ] = False,
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Say what a recipe takes: samples, tokens, memory by part, time, and what to lower where it does not fit.

    Nothing is loaded but the student's configuration and tokenizer. Counts are upper bounds; lengths are those of the
    run's files where they are there. Memory: docs/plan-and-doctor.md tells how far it is off.

    \b
    Example: realm plan --recipe demo
    Example: realm plan --recipe realm-r1-smollm2 --gpu 8 --tokens 200 --calibrate
    """
    from realm_cli.cli.console import say, show
    from realm_cli.cli.context import load_context
    from realm_cli.errors import ConfigError
    from realm_cli.stages.footprint import CUDA_RUNTIME, Device
    from realm_cli.stages.planned import plan_summary
    from realm_cli.stages.workload import workload

    if any(size <= 0 for size in gpu or []):
        raise ConfigError("--gpu: memory in GiB, more than 0, e.g. --gpu 24")
    context = load_context(recipe, run, set_)
    student = context.recipe.student
    rows = _problems(context, problems)
    from realm_cli.engines.shape import memory_here, model_shape

    say(f"reading the configuration of {student.model}")
    shape = model_shape(student.model, trust_remote_code=student.trust_remote_code)
    lengths, prompts = _lengths(context, rows)
    here = Device("cpu", *memory_here())
    counts = {split: sum(p.split == split for p in rows) for split in ("train", "dev", "test")}
    work = workload(context.recipe, counts, lengths, tokens)
    speeds = _speeds(context, prompts) if calibrate else None
    sizes = gpu or [8, 12, 16, 24, 48]
    devices = (here, Device("cuda", CUDA_RUNTIME))
    show(plan_summary(context.recipe, shape, lengths, counts, work, devices, sizes, speeds), as_json)


def _problems(context: Context, given: Path | None) -> list[Problem]:
    """The problems; those of a built-in domain without writing them into the run."""
    from tempfile import TemporaryDirectory

    from realm_cli.cli.context import Context, problems_path
    from realm_cli.stages.problems import load_problems

    data, own = context.recipe.data, (context.run / "problems.jsonl", context.run / "rollout" / "problems.jsonl")
    if given is None and data.problems is None and data.domain and not any(path.exists() for path in own):
        with TemporaryDirectory() as folder:
            return load_problems(problems_path(Context(context.recipe, Path(folder)), None))
    return load_problems(problems_path(context, given, measured=True))


def _lengths(context: Context, problems: list[Problem]) -> tuple[Lengths, list[list[Message]]]:
    """Tokens of the longest prompts and fine-tuning rows, and some bare prompts."""
    from realm_cli.artifacts import read_rows
    from realm_cli.engines.shape import prompt_lengths
    from realm_cli.prompts import bare_messages, question_text, routed_messages
    from realm_cli.records import RouteSet, SFTSample
    from realm_cli.stages.footprint import Lengths

    recipe, student = context.recipe, context.recipe.student
    style, order = recipe.prompt.style, recipe.prompt.order

    def longest(prompts: list[list[Message]]) -> int:
        longest_first = sorted(prompts, key=lambda p: -sum(len(m["content"]) for m in p))[:32]
        trust, args = student.trust_remote_code, recipe.student.template_args
        return max(prompt_lengths(student.model, longest_first, trust_remote_code=trust, template_args=args))

    questions = {problem.id: question_text(problem) for problem in problems}
    prompts = [bare_messages(question, style) for question in questions.values()]
    bare = longest(prompts)
    known: list[Path] = []
    sets, sft = context.run / "verify" / "sets.jsonl", context.run / "distill" / "sft.jsonl"
    routed = bare + recipe.verify.k * recipe.rollout.max_tokens
    if sets.exists():
        shown = [row for row in read_rows(sets, RouteSet) if row.problem_id in questions]
        if shown:
            routed = longest(
                [routed_messages(questions[s.problem_id], s.shown, style=style, order=order) for s in shown]
            )
            known = [sets]
    mixed = any(recipe.distill.mix.get(kind) for kind in ("mrpv", "lemma"))
    row = (routed if mixed else bare) + recipe.distill.max_tokens
    if sft.exists():
        written = [_as_one(s.messages, s.completion) for s in read_rows(sft, SFTSample)]
        row, known = longest(written), [*known, sft]
    source = " and ".join(str(path) for path in known)
    source = f"as in {source}" if known else "bounds by the recipe's limits; after `realm verify` those of its files"
    return Lengths(bare, routed, row, source), prompts


def _as_one(messages: Sequence[Message], completion: str) -> list[Message]:
    """Prompt and completion as a user's text, of which no chat template takes anything out."""
    *before, last = messages
    return [*before, {**last, "content": f"{last['content']}\n{completion}"}]


def _speeds(context: Context, prompts: list[list[Message]]) -> Speeds:
    """Of the student on this machine."""
    from realm_cli.cli.console import say
    from realm_cli.engines.build import load_student
    from realm_cli.engines.shape import trial

    say("loading the student, sampling and training on some tokens")
    return trial(load_student(context.recipe), context.recipe, prompts[:32])
