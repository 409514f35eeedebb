"""What the teacher writes (method.md 3.1, 3.2): distill/teacher.jsonl, appended as it comes, and errors.jsonl.

Usage: `cots = collect_cots(stage, problems, guide, progress)`; a rerun asks only for what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from realm_cli.artifacts import Appender, kept_rows
from realm_cli.errors import DataError
from realm_cli.method.answers import is_correct
from realm_cli.method.steps import parse_route
from realm_cli.method.targets import target_answer
from realm_cli.prompts import teacher_messages
from realm_cli.protocols import Generator, GenRequest, NllScorer, Progress, Replay, SamplingParams, sampled
from realm_cli.records import GuidedCoT, Problem
from realm_cli.run_folder import Stage
from realm_cli.stages.failures import Failures, gaps
from realm_cli.stages.same_choices import same_choices

RuleCheck = Callable[[str, str], str]  # (question, solution text) -> "pass" | "fail"


@dataclass(frozen=True)
class Guide:
    """What the teacher sees and what checks it. `scorer` is the student, for the hard-to-imitate filter."""

    teacher: Generator
    rules: str = ""
    notes: str = ""
    rule_check: RuleCheck | None = None
    scorer: NllScorer | None = None
    count_tokens: Callable[[str], int] = len
    tries: int | None = None  # samples per problem; None = recipe.distill.n, of written text all
    retry: bool = True  # ask once more with the label shown; off for programs and written text


def collect_cots(stage: Stage, problems: Sequence[Problem], guide: Guide, progress: Progress) -> list[GuidedCoT]:
    """Teacher samples, appended as they come; one retry with the label where no sample was right (3.2)."""
    config = stage.recipe.distill
    path = stage.path("teacher.jsonl")
    have = kept_rows(path, GuidedCoT)
    failures = Failures(stage.path("errors.jsonl"))
    tries = guide.tries or config.n
    if isinstance(guide.teacher, Replay):
        asked = [problem.id for problem in problems]
        guide.teacher.expect(asked)
        tries = guide.teacher.most(asked)  # what is written is read whole; `n` is for models
    else:
        same_choices(stage, problems, {cot.problem_id for cot in have})
    for with_label, n in ((False, tries), (True, 1)):
        todo = problems
        if with_label:
            spared = {cot.problem_id for cot in have if cot.correct}
            spared |= {row.problem_id for row in failures.rows.values()}  # they may still come right by themselves
            todo = [p for p in problems if p.id not in spared] if config.retry_with_label and guide.retry else []
        _ask(stage, todo, guide, n, with_label, progress, {cot.id for cot in have}, failures)
        have = kept_rows(path, GuidedCoT)
        failures.settle({cot.id for cot in have})
        failures.refuse(len(problems) * tries, stage.recipe.engine.server.max_failed, "--resume")
    if not have:
        failures.refuse_nothing()
        raise DataError(f"{path}: the teacher {guide.teacher.name} wrote nothing for {len(problems)} problems")
    ids = {problem.id for problem in problems}
    order = {problem.id: i for i, problem in enumerate(problems)}
    return sorted((cot for cot in have if cot.problem_id in ids), key=lambda cot: (order[cot.problem_id], cot.id))


def _ask(
    stage: Stage,
    problems: Sequence[Problem],
    guide: Guide,
    n: int,
    with_label: bool,
    progress: Progress,
    have: Container[str],
    failures: Failures,
) -> None:
    """Samples 0 .. n-1 of each problem, those that an interrupted run has left (`have`: row ids) excepted."""
    config, kind = stage.recipe.distill, "label" if with_label else "cot"
    params = SamplingParams(config.max_tokens, config.temperature, config.top_p, seed=stage.recipe.seed)
    requests = [
        GenRequest(
            key=f"{p.id}/label" if with_label else p.id,
            messages=teacher_messages(p, guide.rules, guide.notes, label=target_answer(p) if with_label else None),
            n=missing,
            problem=p,
            first_sample=first,
        )
        for p in problems
        for first, missing in gaps({i for i in range(n) if f"{p.id}/{kind}/{i}" in have}, n)
    ]
    if not requests:
        return
    stage.same_settings(guide.teacher.name, getattr(guide.teacher, "settings", None))
    label = f"teacher {guide.teacher.name}" + (" (label shown)" if with_label else "")
    with Appender(stage.path("teacher.jsonl")) as out, progress(label, len(requests)) as advance:
        for index, completions in sampled(guide.teacher, requests, params):
            request = requests[index]
            problem = request.problem
            assert problem is not None
            for sample, completion in enumerate(completions, request.first_sample):
                name = f"{problem.id}/{kind}/{sample}"
                if completion.failure:
                    failures.add(
                        name, problem.id, guide.teacher.name, sample, completion.failure, lasting=completion.lasting
                    )
                    continue
                steps, answer = parse_route(completion.text)
                out.add(
                    GuidedCoT(
                        id=name,
                        problem_id=problem.id,
                        teacher=guide.teacher.name,
                        rules_shown=bool(guide.rules),
                        label_given=with_label,
                        text=completion.text,
                        steps=steps,
                        final_answer=answer,
                        correct=not completion.truncated and is_correct(answer, problem),
                    )
                )
            advance(1, "")
    stage.refused(guide.teacher.name, getattr(guide.teacher, "refused", {}))
