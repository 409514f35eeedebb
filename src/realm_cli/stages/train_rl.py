"""Plan the fade, then GRPO with routes that fade to none and the bridge to the bare prompt (method.md 7-10).

Reads problems and verify/sets.jsonl; writes train_rl/plan.jsonl before training, then samples.jsonl, metrics.jsonl and
adapter/ (the checkpoint with the best bare dev accuracy).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from realm_cli.artifacts import Appender, iter_json, read_rows
from realm_cli.method import answers, bridge, eaai, members
from realm_cli.method.parsing import parse_completion
from realm_cli.method.rewards import RewardOptions, RewardWeights, score_group
from realm_cli.method.steering import Steering
from realm_cli.prompts import bare_messages, hinted_messages, question_text
from realm_cli.protocols import (
    Completion,
    Contrast,
    Member,
    Progress,
    RlJob,
    RlTrainer,
    Scored,
    TrainResult,
)
from realm_cli.recipe import Recipe
from realm_cli.records import PlanRow, Problem, Sample
from realm_cli.run_folder import Stage
from realm_cli.stages.alarms import Alarms
from realm_cli.stages.monitor import Shown, make_evaluator
from realm_cli.stages.plan import routed_share, without_spares
from realm_cli.stages.preflight import check_start
from realm_cli.stages.summary import Summary, Table, percent


def make_scorer(
    recipe: Recipe, problems: Mapping[str, Problem], credited: Counter[str] | None = None
) -> Callable[[PlanRow, Sequence[Completion]], list[Scored]]:
    """The reward of method.md section 8 and the bridge weights of 9.1, as one plain function.

    credited: groups of each problem that the bridge has learned from, counted up for `bridge.quota`.
    """
    used: Counter[str] = Counter() if credited is None else credited
    config = recipe.train_rl
    reward = config.reward
    options = RewardOptions(
        weights=RewardWeights(
            ans=reward.w_ans, ver=reward.w_ver, loc=reward.w_loc, fmt=reward.w_fmt, len=reward.w_len, copy=reward.w_copy
        ),
        order=recipe.prompt.order,
        min_think_words=reward.min_think_words,
        max_tokens=config.max_tokens,
        cache_tokens=config.cache_tokens,
    )

    def score(row: PlanRow, completions: Sequence[Completion]) -> list[Scored]:
        problem = problems[row.problem_id]
        samples = score_group(
            eaai.placebo(row, recipe.seed) if reward.placebo_verdicts else row,
            completions,
            grade=lambda answer: answers.is_correct(answer, problem),
            key=lambda answer: answers.answer_key(answer, problem),
            options=options,
            scale=config.scale_rewards,
        )
        full = config.bridge.quota is not None and used[row.problem_id] >= config.bridge.quota
        if not row.routed or config.bridge.beta == 0 or full:
            return [Scored(sample) for sample in samples]
        parsed = [
            parse_completion(
                c.text, k=len(row.shown), order=recipe.prompt.order, min_think_words=reward.min_think_words
            )
            for c in completions
        ]
        weights = bridge.bridge_weights(
            samples,
            parsed,
            routed=True,
            all_right=config.bridge.all_right,
            drop_copied=config.bridge.drop_copied,
            negatives=config.bridge.negatives,
        )
        used[row.problem_id] += any(weights)
        return [
            Scored(
                sample.model_copy(update={"bridge_weight": weight}),
                part.own_solution if weight else "",
                completion.token_ids,
                completion.logprobs,
            )
            for sample, part, weight, completion in zip(samples, parsed, weights, completions, strict=True)
        ]

    return score


def make_contrast(recipe: Recipe, problems: Mapping[str, Problem]) -> Callable[[PlanRow], Contrast | None]:
    """What the token signal is read from: the bare prompt beside a right route, and beside each of two wrong ones."""
    beta = recipe.train_rl.token_signal

    def contrast(row: PlanRow) -> Contrast | None:
        found = members.contrast_routes(row.members)
        if found is None:
            return None
        question, style = question_text(problems[row.problem_id]), recipe.prompt.style
        right, *wrong = (hinted_messages(question, route, style) for route in (found[0], *found[1]))
        return Contrast(right, wrong, lambda a, r, w: members.token_factors(a, r, w, beta))

    return contrast


def make_steering(recipe: Recipe, train: Sequence[Problem]) -> Steering:
    """What decides while training which rows keep their routes."""
    config = recipe.train_rl
    return Steering(
        schedule=config.schedule,
        fade_steps=config.fade_steps,
        gate=config.gate,
        questions={problem.id: question_text(problem) for problem in train},
        style=recipe.prompt.style,
        seed=recipe.seed,
    )


@dataclass(frozen=True)
class RlInputs:
    """Problems by split, as train-rl needs them. shown: routes of dev problems, drawn without labels."""

    train: Sequence[Problem]
    dev: Sequence[Problem]
    shown: Shown = field(default_factory=dict)


def run_train_rl(
    stage: Stage,
    inputs: RlInputs,
    plan: Sequence[PlanRow],
    trainer: RlTrainer,
    *,
    progress: Progress,
    resume: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Train over the plan; rows and metrics are written as they come. say: gets the alarms (stages/alarms.py)."""
    recipe, config = stage.recipe, stage.recipe.train_rl
    problems = {problem.id: problem for problem in [*inputs.train, *inputs.dev]}
    style = recipe.prompt.style
    with (
        Appender(stage.path("samples.jsonl")) as samples_out,
        Appender(stage.path("metrics.jsonl")) as metrics_out,
        Appender(stage.path("timing.jsonl")) as timing_out,
        progress("train-rl", config.steps) as advance,
    ):
        steering, credited = make_steering(recipe, inputs.train), Counter[str]()
        alarms, said = Alarms(config.alarms), list[str]()

        def on_samples(samples: Sequence[Sample]) -> None:
            for sample in samples:
                samples_out.add(sample)
            steering.observe(samples)

        seen = 0

        def on_metrics(row: dict[str, Any]) -> None:
            nonlocal seen
            timing_out.add({k: v for k, v in row.items() if k in ("step", "resumed_from") or k.startswith("seconds")})
            if row["step"] == 0 and resume:  # there was no checkpoint: all comes again
                samples_out.keep_steps(0)
                metrics_out.keep_steps(0)
            if "resumed_from" in row:  # samples count steps from 0, metrics rows come after their step
                samples_out.keep_steps(row["resumed_from"])
                metrics_out.keep_steps(row["resumed_from"] + 1)
                for _, earlier in groupby(read_rows(samples_out.path, Sample, allow_empty=True), key=lambda s: s.step):
                    done = list(earlier)
                    steering.observe(done)
                    credited.update({s.plan_id: s.problem_id for s in done if s.bridge_weight}.values())
                for earlier_row in read_metrics(metrics_out.path):
                    alarms.see(earlier_row, replay=True)
            else:  # what a rerun with the same seed gives again, to the last digit
                metrics_out.add({key: value for key, value in row.items() if not key.startswith("seconds")})
            advance(row["step"] - seen, _note(row))
            seen = row["step"]
            for text in () if "resumed_from" in row else alarms.see(row):
                say(text)
                said.append(text)

        main, spares = without_spares(recipe, plan)
        if config.preflight.groups and not metrics_out.begun:
            advance(0, "pre-flight")
            check_start(stage, main, trainer, make_scorer(recipe, problems), say)
        job = RlJob(
            plan=main,
            spares=spares,
            steps=config.steps,
            groups_per_step=config.groups_per_step,
            group_size=config.group_size,
            score=make_scorer(recipe, problems, credited),
            bare_messages=lambda problem_id: bare_messages(question_text(problems[problem_id]), style),
            on_samples=on_samples,
            on_metrics=on_metrics,
            evaluate=make_evaluator(recipe, inputs.dev, inputs.shown),
            eval_every=config.eval_every,
            out_dir=stage.path("adapter"),
            resume=resume,
            revise=steering.revise,
            without_routes=steering.without_routes,
            members=choose_members,
            contrast=make_contrast(recipe, problems),
        )
        result = trainer.train(job)
    return _summary(stage, main, result, said)


def follower_job(stage_folder: Path, recipe: Recipe, inputs: RlInputs) -> RlJob:
    """What a process needs that helps another one with its run: no plan, and nothing that writes."""
    config, problems = recipe.train_rl, {problem.id: problem for problem in [*inputs.train, *inputs.dev]}
    return RlJob(
        plan=(),
        steps=config.steps,
        groups_per_step=config.groups_per_step,
        group_size=config.group_size,
        score=make_scorer(recipe, problems),
        bare_messages=lambda problem_id: bare_messages(question_text(problems[problem_id]), recipe.prompt.style),
        on_samples=lambda samples: None,
        on_metrics=lambda row: None,
        evaluate=lambda generator, step: {},
        eval_every=config.eval_every,
        out_dir=stage_folder / "adapter",
        members=choose_members,
        contrast=make_contrast(recipe, problems),
    )


def choose_members(row: PlanRow, scored: Sequence[Scored]) -> Sequence[Member]:
    """External routes that join a bare group's loss."""
    return members.members(row.members, [s.sample.r_ans for s in scored], row.lam)


def _note(row: Mapping[str, Any]) -> str:
    if "dev_bare" in row:
        return f"bare dev {100 * row['dev_bare']:.1f} %"
    reward = row.get("reward")
    return f"reward {reward:.2f}" if isinstance(reward, float) else ""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl file."""
    return [row for _, row in iter_json(path)]


def _summary(stage: Stage, plan: Sequence[PlanRow], result: TrainResult, said: list[str]) -> Summary:
    curve = [row for row in read_metrics(stage.path("metrics.jsonl")) if "dev_bare" in row]
    lam = {row.step: row.lam for row in plan}
    shares = routed_share(plan)
    beside = any("dev_routed" in row for row in curve)
    rows = [
        [
            str(row["step"]),
            f"{lam.get(int(row['step']), 0.0):.2f}",
            percent(shares.get(int(row["step"]))),
            percent(row["dev_bare"]),
            *([percent(row.get("dev_routed")), percent(row.get("dev_autonomy"))] if beside else []),
        ]
        for row in curve
    ]
    columns = ["step", "lambda", "routed %", "bare dev %", *(["with routes %", "bare/routed %"] if beside else [])]
    data = {
        **{key: value for key, value in result.metrics.items() if isinstance(value, int | float)},
        "steps": result.steps,
        "eaai_steps": stage.recipe.train_rl.fade_steps,
        "adapter": str(result.adapter_dir),
        "dev_bare": [[row["step"], row["dev_bare"]] for row in curve],
        "alarms": said,
    }
    return Summary(
        "train_rl",
        data,
        [Table("Bare accuracy on dev while the routes fade", columns, rows)],
        notes=["no step was better on dev than the start: the adapter is the one it began with"]
        if data.get("best_step") == 0 and len(curve) > 1
        else [],
        files=[str(stage.path(n)) for n in ("adapter", "plan.jsonl", "samples.jsonl", "metrics.jsonl")],
    )
