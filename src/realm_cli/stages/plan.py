"""The plan of an RL run: all groups of all steps, written to train_rl/plan.jsonl before anything is trained.

Usage: `plan = run_plan(stage, train, sets_path)`; `rows, spares = without_spares(recipe, plan)`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from realm_cli.artifacts import iter_rows, read_rows, write_rows
from realm_cli.errors import DataError
from realm_cli.method import eaai
from realm_cli.recipe import Recipe
from realm_cli.records import PlanRow, Problem, RouteSet
from realm_cli.run_folder import Stage
from realm_cli.stages.same_choices import same_choices
from realm_cli.stages.summary import Summary, Table, percent


def make_plan(recipe: Recipe, problems: Sequence[Problem], sets: Sequence[RouteSet]) -> list[PlanRow]:
    """All groups of all steps, before anything is trained (method.md section 9); the last `refill` slots are spares."""
    config = recipe.train_rl
    by_problem: dict[str, list[RouteSet]] = defaultdict(list)
    for route_set in sets:
        by_problem[route_set.problem_id].append(route_set)
    weights = None
    if config.bucket_quotas is not None:
        sizes = Counter(p.bucket or "" for p in problems)
        weights = {p.id: config.bucket_quotas.get(p.bucket or "", 0.0) / sizes[p.bucket or ""] for p in problems}
        if not any(weights.values()):
            raise DataError("train_rl.bucket_quotas: no problem is in any of these difficulties; see problems.jsonl")
    elif config.bucket_weights is not None:
        table = config.bucket_weights
        weights = {p.id: table.get(p.bucket or "", 1.0) for p in problems}
    return list(
        eaai.build_plan(
            problems,
            by_problem,
            steps=config.steps,
            groups_per_step=config.groups_per_step + config.refill,
            eaai_steps=config.fade_steps,
            schedule=config.schedule,
            p_max=config.p_max,
            p_retain=config.p_retain,
            fades=frozenset(config.fades),
            style=recipe.prompt.style,
            order=recipe.prompt.order,
            seed=recipe.seed,
            kappa=config.kappa,
            weights=weights,
            with_members=config.routes_in_group > 0 or config.token_signal > 0,
        )
    )


def without_spares(recipe: Recipe, plan: Sequence[PlanRow]) -> tuple[list[PlanRow], dict[int, list[PlanRow]]]:
    """(rows of the steps, step -> its spare rows)."""
    size = recipe.train_rl.groups_per_step
    spares: dict[int, list[PlanRow]] = defaultdict(list)
    for row in plan:
        if row.slot >= size:
            spares[row.step].append(row)
    return [row for row in plan if row.slot < size], spares


def run_plan(stage: Stage, train: Sequence[Problem], sets_path: Path | None) -> list[PlanRow]:
    """Write plan.jsonl, or read the one that an interrupted run left."""
    path = stage.path("plan.jsonl")
    if path.exists():
        plan = read_rows(path, PlanRow)
        same_choices(stage, train, {row.problem_id for row in plan})
        return plan
    sets: list[RouteSet] = []
    if stage.recipe.train_rl.schedule != "zero":
        if sets_path is None:
            raise DataError(
                "train-rl: no route sets; run `realm verify`, give --sets, or use schedule zero (plain GRPO)"
            )
        ids = {problem.id for problem in train}
        sets = [s for s in iter_rows(sets_path, RouteSet, made_by="realm verify") if s.problem_id in ids]
        if not sets:
            raise DataError(f"{sets_path}: no route set for any training problem; run `realm rollout` on split train")
    plan = make_plan(stage.recipe, train, sets)
    write_rows(path, plan)
    return plan


def routed_share(plan: Sequence[PlanRow]) -> dict[int, float]:
    """Step -> share of its groups that show routes."""
    by_step: dict[int, list[bool]] = defaultdict(list)
    for row in plan:
        by_step[row.step].append(row.routed)
    return {step: sum(flags) / len(flags) for step, flags in by_step.items()}


def plan_summary(stage: Stage, plan: Sequence[PlanRow]) -> Summary:
    """What --plan-only prints: the fade by tenths of the run."""
    plan, spares = without_spares(stage.recipe, plan)
    shares, lam = routed_share(plan), {row.step: row.lam for row in plan}
    steps = stage.recipe.train_rl.steps
    marks = sorted({min(steps - 1, i * steps // 10) for i in range(11)})
    rows = [[str(step), f"{lam[step]:.3f}", percent(shares[step])] for step in marks]
    routed = sum(row.routed for row in plan)
    end = max((row.step for row in plan if row.routed), default=-1) + 1
    until = f"none from step {end}" if end < steps else "up to the last step"
    data = {"rows": len(plan), "routed": routed, "steps": steps, "eaai_steps": stage.recipe.train_rl.fade_steps}
    return Summary(
        "train_rl",
        data,
        [Table("Plan", ["step", "lambda", "routed %"], rows)],
        notes=[
            f"{routed} of {len(plan)} groups show routes; {until}",
            *([f"{sum(map(len, spares.values()))} spare groups, for those without variance"] if spares else []),
        ],
        files=[str(stage.path("plan.jsonl"))],
    )
