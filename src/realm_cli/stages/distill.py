"""Guided CoT distillation (method.md section 3): the teacher sees the rules, the student never does.

Reads problems, rules and notes, optionally scored routes and sets (for the route-checking format and corrections) and
external positives; writes distill/teacher.jsonl (raw, append-only), guided.jsonl (every CoT with keep or drop reason),
sft.jsonl, metrics.jsonl and adapter/.
"""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realm_cli.artifacts import Appender, digest, iter_rows, read_rows, write_rows
from realm_cli.errors import DataError, TooLong
from realm_cli.method import guidance
from realm_cli.method.grading import Verdicts
from realm_cli.method.rule_exposure import rule_fade, rule_question
from realm_cli.method.steps import step_facts
from realm_cli.method.targets import target_answer
from realm_cli.prompts import bare_messages, numbered, options_text, question_text, ruled_messages, solution_text
from realm_cli.protocols import NllScorer, Progress, SftTrainer, TrainResult
from realm_cli.recipe import DistillConfig
from realm_cli.records import GuidedCoT, Message, Problem, Route, RouteSet, ScoredRoute, SFTSample
from realm_cli.run_folder import Stage
from realm_cli.stages.failures import Failures
from realm_cli.stages.problems import spread
from realm_cli.stages.summary import Summary, Table
from realm_cli.stages.teacher import Guide as Guide
from realm_cli.stages.teacher import RuleCheck as RuleCheck
from realm_cli.stages.teacher import collect_cots

NLL_ROWS = 16  # CoTs scored between two signs of life
FEW_STEPS = 30  # of fine-tuning, which show that it runs and teach next to nothing


@dataclass(frozen=True)
class Extras:
    """Optional material from other stages: files, read where given."""

    positives: Path | None = None
    sets: Path | None = None
    scored: Path | None = None
    replay: Path | None = None
    problems: Mapping[str, Problem] = field(default_factory=dict)


def distill_problems(problems: Sequence[Problem], config: DistillConfig) -> list[Problem]:
    """Training problems the teacher may use: those tagged `distill` if any is and the recipe does not ask for all; of
    the difficulties that the recipe names. DataError if there is none."""
    train = [p for p in problems if p.split == "train"]
    if not train:
        raise DataError('distill: no problem with split "train"; mark some rows "split": "train"')
    tagged = [p for p in train if "distill" in p.tags] if config.problems == "tagged" else []
    chosen = tagged or train
    if config.buckets is not None:
        chosen = [p for p in chosen if p.bucket in config.buckets]
        if not chosen:
            raise DataError(
                f"distill: no problem of difficulty {', '.join(config.buckets)}; measure it with "
                "`realm rollout --model student`, or change distill.buckets"
            )
    return spread(chosen, config.limit)


def collect_shard(stage: Stage, problems: Sequence[Problem], guide: Guide, progress: Progress) -> Summary:
    """The teacher's texts for some of the problems, and no more: filters and fine-tuning need all of them."""
    cots = collect_cots(stage, problems, guide, progress)
    rows = [[str(len(problems)), str(len(cots)), str(sum(cot.correct for cot in cots))]]
    table = Table("Teacher", ["problems", "texts", "correct"], rows)
    data = {"problems": len(problems), "texts": len(cots)}
    return Summary("distill", data, [table], ["join the shards with `realm merge`"], [str(stage.path("teacher.jsonl"))])


def run_distill(
    stage: Stage,
    problems: Sequence[Problem],
    guide: Guide,
    extras: Extras,
    trainer: SftTrainer | None,
    *,
    progress: Progress,
    resume: bool = False,
) -> Summary:
    """Teacher, filters, samples, fine-tuning. `trainer` None stops after sft.jsonl."""
    chosen = distill_problems(problems, stage.recipe.distill)
    raw = collect_cots(stage, chosen, guide, progress)
    by_id = {problem.id: problem for problem in chosen}
    cots = _filter(stage, raw, by_id, guide, progress)
    write_rows(stage.path("guided.jsonl"), cots)
    kept = [cot for cot in cots if cot.kept]
    if not kept and extras.positives is None:
        reason, n = Counter(cot.drop_reason for cot in cots).most_common(1)[0]
        raise DataError(
            f"{stage.path('guided.jsonl')}: all {len(cots)} CoTs were dropped ({n} of them: {reason}); "
            "read the file, then change the teacher or the distill filters"
        )
    samples = _with_rules(stage, make_samples(stage, kept, by_id, extras), by_id | dict(extras.problems), guide.rules)
    path = stage.path("sft.jsonl")
    before = digest(path) if path.exists() else ""
    write_rows(path, samples)
    if before and digest(path) != before:  # samples that had failed have come: a checkpoint knows nothing of them
        shutil.rmtree(stage.path("checkpoints"), ignore_errors=True)
        resume = False
    result = None
    if trainer is not None:
        passes = 1 if stage.recipe.distill.rules_in_prompt > 0 else stage.recipe.distill.sft.epochs
        total = int(passes * len(samples))
        label = f"fine-tuning on {len(kept)} of {len(cots)} solutions, rows"
        with Appender(stage.path("metrics.jsonl")) as out, progress(label, total) as advance:
            seen = 0

            def on_metrics(row: dict[str, Any]) -> None:
                nonlocal seen
                if "resumed_from" in row:  # what came after the checkpoint will come again
                    out.keep_steps(row["resumed_from"] + 1)
                else:
                    if row.get("step") == 0:
                        out.keep_steps(0)
                    out.add(row)
                steps = row.get("total_steps")
                now = int(total * row.get("step", 0) / steps) if steps else seen
                advance(now - seen, f"loss {row['loss']:.3f}" if "loss" in row else "")
                seen = now

            result = trainer.train(
                samples,
                out_dir=stage.path("adapter"),
                on_metrics=on_metrics,
                resume=resume,
                in_order=stage.recipe.distill.rules_in_prompt > 0,
            )
    return _summary(stage, cots, samples, result, Failures(stage.path("errors.jsonl")).notes("--resume"))


def _filter(
    stage: Stage, raw: Sequence[GuidedCoT], problems: Mapping[str, Problem], guide: Guide, progress: Progress
) -> list[GuidedCoT]:
    config = stage.recipe.distill
    style = stage.recipe.prompt.style
    cots = [cot.model_copy(update={"leak_flags": guidance.leak_flags(cot.text)}) for cot in raw]
    if guide.rule_check is not None:
        check = guide.rule_check
        cots = [
            cot.model_copy(update={"rule_check": check(problems[cot.problem_id].question, _as_text(cot))})
            for cot in cots
        ]
    if guide.scorer is not None and config.nll_drop > 0:
        pairs = [
            (bare_messages(question_text(problems[c.problem_id]), style), solution_text(c.steps, c.final_answer or ""))
            for c in cots
        ]
        cots = [
            cot.model_copy(update={"nll_student": None if math.isnan(nll) else nll})
            for cot, nll in zip(cots, _nll(guide.scorer, pairs, progress), strict=True)
        ]
    options = guidance.FilterOptions(
        min_steps=config.min_steps,
        max_steps=config.max_steps,
        max_tokens=config.max_tokens,
        near_duplicate=config.near_duplicate,
        nll_drop=config.nll_drop,
        keep_per_problem=config.keep_per_problem,
        balance=config.balance,
        correct_only=config.correct_only,
    )
    labelled = any(p.answer_type in ("label", "choice") for p in problems.values())
    classes = {p.id: target_answer(p) for p in problems.values()} if labelled else None

    def facts(cot: GuidedCoT) -> set[str]:
        problem = problems[cot.problem_id]
        found = step_facts(cot.steps, problem.question, options=options_text(problem))
        return {fact for step in found for fact in step}

    return guidance.filter_cots(cots, options=options, n_tokens=guide.count_tokens, facts=facts, answer_class=classes)


def _nll(scorer: NllScorer, pairs: Sequence[tuple[Sequence[Message], str]], progress: Progress) -> Iterator[float]:
    """Each pair's loss under the student, some at a time: on a processor it takes minutes. nan: it is too long."""
    with progress("how hard the student finds them", len(pairs)) as advance:
        for at in range(0, len(pairs), NLL_ROWS):
            part = pairs[at : at + NLL_ROWS]
            try:
                yield from scorer.nll(part)
            except TooLong:
                yield from [math.nan] * len(part)
            advance(len(part), "")


def _as_text(cot: GuidedCoT) -> str:
    return f"{numbered(cot.steps)}\nAnswer: {cot.final_answer}"


def make_samples(
    stage: Stage, kept: Sequence[GuidedCoT], problems: Mapping[str, Problem], extras: Extras
) -> list[SFTSample]:
    """The R1 mix: guided CoTs, external positives, the route-checking format, corrections (3.6)."""
    prompt = stage.recipe.prompt
    style, order = prompt.style, prompt.order
    solutions = {cot.problem_id: (cot.steps, _stated(problems[cot.problem_id], cot)) for cot in reversed(kept)}
    guided = [guidance.guided_sample(problems[cot.problem_id], cot, style) for cot in kept]
    positives, verdicts = [], Verdicts(check=False)
    if extras.positives is not None:
        for route in iter_rows(extras.positives, Route, made_by="realm rollout"):
            problem = extras.problems.get(route.problem_id)
            if problem is None or problem.split != "train" or route.truncated:
                continue
            whole = verdicts.take(route, problem)
            if whole.correct:
                positives.append(guidance.positive_sample(problem, whole, style))
        if not positives:
            raise DataError(f"{extras.positives}: no correct route on a training problem; leave --positives out")
        positives = guidance.distinct(positives, guided, stage.recipe.distill.keep_per_problem)
    mrpv, lemma = [], []
    if extras.sets is not None:
        for route_set in iter_rows(extras.sets, RouteSet, made_by="realm verify"):
            if route_set.problem_id in solutions:
                steps, answer = solutions[route_set.problem_id]
                problem = problems[route_set.problem_id]
                mrpv.append(guidance.mrpv_sample(problem, route_set, steps, answer, style, order))
    if extras.scored is not None:
        for scored in iter_rows(extras.scored, ScoredRoute, made_by="realm verify"):
            if scored.problem_id in solutions and not scored.correct:
                found = guidance.lemma_sample(
                    problems[scored.problem_id], scored, solutions[scored.problem_id][0], style
                )
                if found is not None:
                    lemma.append(found)
    rng = random.Random(f"{stage.recipe.seed}:mix")
    replay = [] if extras.replay is None else _replay(extras.replay)
    mix, asked = stage.recipe.distill.mix, []
    if mix.get("rule_qa"):
        asked = [
            rule_question(problems[c.problem_id], c, style, random.Random(f"{stage.recipe.seed}:{c.id}")) for c in kept
        ]
    return guidance.sample_mix(guided, positives, mrpv, lemma, replay, asked, weights=mix, rng=rng)


def _stated(problem: Problem, cot: GuidedCoT) -> str:
    """The answer of a CoT; a right choice by its letter, as in the other rows."""
    return target_answer(problem) if problem.answer_type == "choice" and cot.correct else cot.final_answer or ""


def _with_rules(stage: Stage, samples: list[SFTSample], problems: Mapping[str, Problem], rules: str) -> list[SFTSample]:
    """All passes in order, rules shown in some prompts of the first half, where `rules_in_prompt` is set."""
    config, style = stage.recipe.distill, stage.recipe.prompt.style
    if not config.rules_in_prompt:
        return samples
    if not rules:
        raise DataError("distill.rules_in_prompt: there are no rules to show; give --rules FILE, or set it to 0")
    rng = random.Random(f"{stage.recipe.seed}:rules")
    return rule_fade(
        samples,
        passes=max(1, round(config.sft.epochs)),
        share=config.rules_in_prompt,
        ruled=lambda sample: ruled_messages(question_text(problems[sample.problem_id]), rules, style),
        rng=rng,
    )


def _replay(path: Path) -> list[SFTSample]:
    """Rows that keep what the student could do before, whatever kind they are called in their file."""
    return [row.model_copy(update={"kind": "replay"}) for row in read_rows(path, SFTSample)]


def _short(reason: str | None) -> str:
    """Drop reasons without their particulars, for counting."""
    text = reason or "kept"
    for cut in (" of ", " (", ":"):
        text = text.split(cut)[0]
    return text


def _summary(
    stage: Stage,
    cots: Sequence[GuidedCoT],
    samples: Sequence[SFTSample],
    result: TrainResult | None,
    failed: Sequence[str],
) -> Summary:
    reasons = Counter(_short(cot.drop_reason) if not cot.kept else "kept" for cot in cots)
    kinds = Counter(sample.kind for sample in samples)
    per_problem: dict[str, int] = defaultdict(int)
    for cot in cots:
        per_problem[cot.problem_id] += cot.kept
    data = {
        "cots": len(cots),
        "kept": reasons["kept"],
        "dropped": {reason: count for reason, count in reasons.items() if reason != "kept"},
        "problems_with_cot": sum(count > 0 for count in per_problem.values()),
        "problems": len(per_problem),
        "samples": dict(kinds),
        "adapter": str(result.adapter_dir) if result else None,
        **(dict(result.metrics) if result else {}),
    }
    tables = [
        Table("Teacher CoTs", ["verdict", "count"], [[reason, str(count)] for reason, count in reasons.most_common()]),
        Table("Fine-tuning samples", ["kind", "count"], [[kind, str(count)] for kind, count in kinds.most_common()]),
    ]
    notes = [f"{data['problems_with_cot']} of {data['problems']} problems have a kept CoT", *failed]
    if result and "loss" in result.metrics:
        notes.append(f"last loss {result.metrics['loss']:.3f} after {result.steps} steps")
        if result.steps < FEW_STEPS:
            notes.append("so few steps show that it runs and teach little: more solutions, or distill.sft.epochs")
    names = ["guided.jsonl", "sft.jsonl"] + (["metrics.jsonl", "adapter"] if result else [])
    return Summary("distill", data, tables, notes, [str(stage.path(name)) for name in names])
