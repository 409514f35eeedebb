"""How much work a recipe is: samples and tokens of each stage at most, and the time they take.

Usage: `rows = workload(recipe, counts, lengths, tokens=None)`; `seconds(row, speeds)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from realm_cli.protocols import Speeds
from realm_cli.recipe import Recipe
from realm_cli.stages.footprint import Lengths

REMOTE = ("openai:", "jsonl:", "solver:", "oracle")  # models that do not run here


@dataclass(frozen=True)
class Work:
    """A stage: steps of training, samples drawn, tokens sampled and trained on here (prompts included).

    elsewhere: tokens that servers write, whose speed is not known here.
    """

    stage: str
    steps: int = 0
    samples: int = 0
    sampled: int = 0
    trained: int = 0
    elsewhere: int = 0


def workload(recipe: Recipe, counts: Mapping[str, int], lengths: Lengths, tokens: int | None = None) -> list[Work]:
    """Work of the stages in order. counts: problems by split. tokens: mean completion; None = to the limit, always."""
    train = counts.get("train", 0)

    def length(limit: int) -> int:
        return min(limit, tokens) if tokens is not None else limit

    return [
        _rollout(recipe, counts, length(recipe.rollout.max_tokens)),
        *_distillation(recipe, train, lengths, length(recipe.distill.max_tokens)),
        _refinement(recipe, train, lengths, length(recipe.train_rl.max_tokens)),
        _reinforcement(recipe, counts, lengths, length(recipe.train_rl.max_tokens)),
        _evaluation(recipe, counts, length(recipe.eval.max_tokens)),
    ]


def seconds(work: Work, speeds: Speeds) -> float:
    """Of what runs here."""
    return work.sampled / speeds.sampled + work.trained / speeds.trained


def _rollout(recipe: Recipe, counts: Mapping[str, int], length: int) -> Work:
    config = recipe.rollout
    problems = sum(counts.get(split, 0) for split in config.splits)
    problems = min(problems, config.limit) if config.limit else problems
    here = sum(config.self_n or config.n if m == "student" else config.n for m in config.models if not _remote(m))
    there = config.n * sum(map(_remote, config.models))
    served = config.n * sum(m.startswith("openai:") for m in config.models)
    samples = problems * (here + there)
    return Work("rollout", 0, samples, problems * here * length, 0, problems * served * length)


def _distillation(recipe: Recipe, train: int, lengths: Lengths, length: int) -> list[Work]:
    config = recipe.distill
    problems = min(train, config.limit) if config.limit else train
    asked = problems * config.n
    local = not _remote(config.teacher)
    share = config.mix.get("guided", 0) / sum(config.mix.values()) if sum(config.mix.values()) else 1.0
    rows = problems * config.keep_per_problem / (share or 1.0)
    steps, trained = _epochs(recipe, rows, config.sft.epochs, min(lengths.row, config.sft.max_length))
    served = asked * length if config.teacher.startswith("openai:") else 0
    return [Work("distill", steps, asked, asked * length if local else 0, trained, served)]


def _refinement(recipe: Recipe, train: int, lengths: Lengths, length: int) -> Work:
    config = recipe.refine
    samples = train * config.n
    epochs = config.epochs or recipe.distill.sft.epochs
    row = min(lengths.bare + length, recipe.distill.sft.max_length)
    steps, trained = _epochs(recipe, train * config.keep_per_problem, epochs, row)
    return Work("refine", steps, samples, samples * length, trained)


def _reinforcement(recipe: Recipe, counts: Mapping[str, int], lengths: Lengths, length: int) -> Work:
    config = recipe.train_rl
    groups = config.steps * config.groups_per_step
    samples = groups * config.group_size
    dev = min(counts.get("dev", 0), config.dev_limit) + config.dev_routed
    measured = math.ceil(config.steps / config.eval_every) * dev
    routed = 0.0 if config.schedule == "zero" else config.p_max * config.fade_steps / config.steps
    prompt = routed * lengths.routed + (1 - routed) * lengths.bare
    bridge = routed if config.bridge.beta else 0.0  # solutions found with routes, learned once more
    trained = groups * prompt + samples * length * (1 + bridge)
    return Work("train-rl", config.steps, samples + measured, (samples + measured) * length, int(trained))


def _evaluation(recipe: Recipe, counts: Mapping[str, int], length: int) -> Work:
    config = recipe.eval
    problems = counts.get(config.split, 0)
    problems = min(problems, config.limit) if config.limit else problems
    samples = 2 * problems * config.n * len(config.modes)  # the base and one adapter
    return Work("eval", 0, samples, samples * length)


def _epochs(recipe: Recipe, rows: float, epochs: float, row: int) -> tuple[int, int]:
    sft = recipe.distill.sft
    steps = sft.max_steps or math.ceil(math.ceil(rows / sft.batch_size) * epochs)
    return steps, steps * sft.batch_size * row


def _remote(model: str) -> bool:
    return model.startswith(REMOTE)
