"""Before the first step of RL: is there anything to learn from, and is what is sampled what is trained?

Some groups of the plan's first steps are sampled and scored as in training, and thrown away. Figures (and spread, the
mean deviation of the reward within a group) go to train_rl/preflight.json. Limits: `train_rl.preflight` and `.alarms`.

    truncated  completions that hit the limit          nothing is learned from them; all of them: stop
    dead       groups that teach nothing (protocols.py) all of them, and more all wrong than all right: stop
    form       bare answers in the asked form
    ended      trained rows that end in an end token   else the model never learns to stop
    gap        sampler against trainer, nats a token

Usage: `summary = check_start(stage, main_rows, trainer, score, say)`; raises Alarm where the run would be dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from statistics import fmean, pstdev

from realm_cli.artifacts import write_json
from realm_cli.errors import Alarm
from realm_cli.method.members import members
from realm_cli.protocols import Completion, Member, Probe, RlTrainer, Scored, teaches
from realm_cli.recipe import TrainRlConfig
from realm_cli.records import PlanRow
from realm_cli.run_folder import Stage

Beside = Callable[[PlanRow, Sequence[Scored]], Sequence[Member]]
Score = Callable[[PlanRow, Sequence[Completion]], list[Scored]]
Figures = Mapping[str, float]


def check_start(
    stage: Stage, plan: Sequence[PlanRow], trainer: RlTrainer, score: Score, say: Callable[[str], None]
) -> dict[str, float]:
    """Probe, write preflight.json, say what is wrong; Alarm where nothing can be learned and `preflight.stop` is on."""
    config = stage.recipe.train_rl
    rows = choose(plan, config.preflight.groups)
    probe = trainer.probe(rows, config.group_size)
    tried = [done and not any(c.failure for c in done) for done in probe.completions]
    if not any(tried):  # all too long for the model, which the trainer says; nothing is known of the others
        return {}
    rows = list(compress(rows, tried))
    probe = replace(probe, completions=list(compress(probe.completions, tried)))
    groups = [score(row, done) for row, done in zip(rows, probe.completions, strict=True)]
    figures = measure(rows, groups, probe, lambda row, group: _members(row, group, config))
    dead, doubtful = judge(figures, config)
    write_json(stage.path("preflight.json"), {**figures, "stop": dead, "warn": doubtful})
    if dead and config.preflight.stop:
        more = f" ({len(dead) - 1} more in {stage.path('preflight.json')})" if dead[1:] else ""
        raise Alarm(
            f"train-rl: not started: {dead[0]}{more}, then rerun with --force (to start all the same: --resume with "
            "train_rl.preflight.stop=false)",
            keep=False,
        )
    for text in (*dead, *doubtful):
        say(f"pre-flight: {text}")
    return figures


def _members(row: PlanRow, group: Sequence[Scored], config: TrainRlConfig) -> Sequence[Member]:
    if row.routed or not config.routes_in_group:
        return ()
    return members(row.members, [s.sample.r_ans for s in group], row.lam)


def choose(plan: Sequence[PlanRow], n: int) -> list[PlanRow]:
    """Up to n rows from the start of the plan, half of them bare and half routed as far as there are any."""
    bare, routed = ([row for row in plan if row.routed == kind][:n] for kind in (False, True))
    few = min(len(bare), max(n - n // 2, n - len(routed)))
    chosen = {row.id for row in (*bare[:few], *routed[: n - few])}
    return [row for row in plan if row.id in chosen]


def measure(
    rows: Sequence[PlanRow], groups: Sequence[Sequence[Scored]], probe: Probe, beside: Beside = lambda row, group: ()
) -> dict[str, float]:
    """Figures of a probe; keys of what was not seen are absent. beside: external routes that join a group's loss."""
    everything = [completion for done in probe.completions for completion in done]
    lengths = sorted(c.n_tokens for c in everything if not c.truncated)
    nothing = [group for row, group in zip(rows, groups, strict=True) if not teaches(group, beside(row, group))]
    bare = [s.sample.r_fmt for row, group in zip(rows, groups, strict=True) if not row.routed for s in group]
    found: dict[str, float | None] = {
        "groups": len(groups),
        "routed": sum(row.routed for row in rows),
        "truncated": fmean(float(c.truncated) for c in everything),
        "length_95": float(lengths[int(0.95 * (len(lengths) - 1))]) if lengths else None,
        "dead": len(nothing) / len(groups),
        "all_right": sum(all(s.sample.r_ans == 1 for s in group) for group in groups) / len(groups),
        "all_wrong": sum(all(s.sample.r_ans != 1 for s in group) for group in groups) / len(groups),
        "spread": fmean(pstdev(s.sample.reward for s in group) for group in groups),
        "form": fmean(bare) if bare else None,
        "gap": probe.gap,
        "ended": probe.ended,
    }
    return {key: round(value, 6) for key, value in found.items() if value is not None}


def judge(figures: Figures, config: TrainRlConfig) -> tuple[list[str], list[str]]:
    """(what makes the run dead, what is doubtful), each with what to change."""
    dead = list(_dead(figures, config))
    return dead, [text for text in _doubtful(figures, config) if text not in dead]


def _dead(figures: Figures, config: TrainRlConfig) -> Iterator[str]:
    if figures["truncated"] == 1:
        yield _cut(figures, config)
    elif figures["dead"] == 1 and figures["all_right"] < figures["all_wrong"] and config.routes_in_group == 0:
        yield _lifeless(figures)
    if figures.get("ended", 1.0) < 1:
        yield (
            f"{1 - figures['ended']:.0%} of the trained rows do not end in a token that ends sampling, so the model "
            "would never learn to stop; correct eos_token_id in the model's generation_config.json"
        )


def _doubtful(figures: Figures, config: TrainRlConfig) -> Iterator[str]:
    limits = config.alarms
    if figures["truncated"] > limits.truncated:
        yield _cut(figures, config)
    elif figures["dead"] > config.preflight.zero_variance:
        yield _lifeless(figures)
    if figures.get("form", 1.0) < limits.form:
        yield (
            f"{figures['form']:.0%} of the bare answers have the asked form; distill first, or raise "
            "train_rl.reward.w_fmt"
        )
    if figures.get("gap", 0.0) > limits.gap:
        yield (
            f"sampler and trainer differ by {figures['gap']:.2g} nats a token (limit {limits.gap:g}); set "
            "engine.shared_prefix=off and compare"
        )


def _cut(figures: Figures, config: TrainRlConfig) -> str:
    need = figures.get("length_95")
    seen = f" (95 % of the complete ones need {need:.0f})" if need else ""
    return (
        f"{figures['truncated']:.0%} of the completions are cut off at {config.max_tokens} tokens{seen}; raise "
        f"train_rl.max_tokens to {2 * config.max_tokens}, or distill shorter solutions first"
    )


def _lifeless(figures: Figures) -> str:
    if figures["all_right"] >= figures["all_wrong"]:
        change = "choose harder problems (train_rl.bucket_quotas, or --problems)"
    else:
        change = "distill or refine first, show more routes (train_rl.p_max), or choose easier problems"
    return (
        f"{figures['dead']:.0%} of {figures['groups']:.0f} groups teach nothing ({figures['all_right']:.0%} all right, "
        f"{figures['all_wrong']:.0%} all wrong); {change}"
    )
