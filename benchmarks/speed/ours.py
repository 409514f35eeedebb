"""Our engine, as the benchmark calls it. Every call is in this file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from work import LR, NO_END, Watched, advantages, completion_ids, prompt_ids

from realm_cli.engines import grpo_step, sampler
from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.protocols import Completion, GenRequest, RlJob, SamplingParams, Scored
from realm_cli.recipe import BridgeConfig, EngineConfig, LoraSettings, TrainRlConfig
from realm_cli.records import Message, PlanRow, Sample


def sampling(loaded: LoadedModel, a: Any) -> Callable[[int], int]:
    """f(new tokens per completion) -> tokens drawn."""
    prompts = prompt_ids(a, loaded.model.config.vocab_size)
    generator = LocalGenerator(loaded, a.groups * a.completions)
    generator._ends = torch.tensor([NO_END])
    give_ids(prompts)
    requests = [GenRequest(str(i), _numbered(i), n=a.completions) for i in range(a.groups)]

    def work(tokens: int) -> int:
        params = SamplingParams(max_tokens=tokens, temperature=1.0)
        return sum(c.n_tokens for _, row in generator.generate(requests, params) for c in row)

    return work


def training(loaded: LoadedModel, a: Any, *, sampled: bool) -> Any:
    """The trainer of `realm train-rl`; `sampled`: it samples, else it takes the given completions."""
    vocab = loaded.model.config.vocab_size
    prompts, given = prompt_ids(a, vocab), completion_ids(a, vocab)
    loaded.model = attach_lora(loaded, LoraSettings(r=16, alpha=32), 0, checkpointing=bool(a.checkpointing))
    config = TrainRlConfig(
        steps=a.repeats, groups_per_step=a.groups, group_size=a.completions, lr=LR, warmup_steps=0,
        max_tokens=a.response, micro_tokens=a.micro_tokens, bridge=BridgeConfig(beta=0.0), save_every=10**6,
        grad_checkpointing=bool(a.checkpointing),
    )  # fmt: skip
    folder = tempfile.TemporaryDirectory()
    job = RlJob(
        plan=[_plan_row(step, slot) for step in range(a.repeats) for slot in range(a.groups)],
        steps=a.repeats, groups_per_step=a.groups, group_size=a.completions, score=_scores(a),
        bare_messages=lambda problem_id: [], on_samples=lambda rows: None, on_metrics=lambda row: None,
        evaluate=lambda generator, step: {"dev_bare": 0.0}, eval_every=10**6, out_dir=Path(folder.name) / "adapter",
    )  # fmt: skip
    give_ids(prompts)

    class Fed(Watched, grpo_step.StepTrainer):
        def _sample(self, plan: Sequence[PlanRow]) -> list[list[Completion]]:
            if not sampled:
                rows = [Completion("", a.response, False, row) for row in given]
                return [rows[i * a.completions : (i + 1) * a.completions] for i in range(a.groups)]
            found = super()._sample(plan)
            # All are as long as they may be; they are to be trained on all the same.
            return [[Completion(c.text, c.n_tokens, False, c.token_ids, c.logprobs) for c in row] for row in found]

        def _with_end(self, completion: Completion) -> tuple[int, ...]:
            return completion.token_ids

        def evaluate_policy(self, step: int) -> dict[str, float]:
            return {}

    trainer = Fed(job, loaded, config, 0, EngineConfig())
    trainer.generator._ends = torch.tensor([NO_END])
    trainer._folder = folder  # lives as long as the trainer
    return trainer


def give_ids(prompts: Sequence[tuple[int, ...]]) -> None:
    """Prompts of exact lengths: `messages` holds a prompt's number, and encoding looks it up."""

    def encode(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> list[int]:
        return list(prompts[int(messages[0]["content"])])

    grpo_step.encode_prompt = sampler.encode_prompt = encode


def _numbered(number: int) -> list[Message]:
    return [{"role": "user", "content": str(number)}]


def _plan_row(step: int, slot: int) -> PlanRow:
    return PlanRow(
        id=f"{step}-{slot}", step=step, slot=slot, problem_id=str(slot), lam=0.0, p_routed=0.0, routed=False,
        shown=[], messages=_numbered(slot),
    )  # fmt: skip


def _scores(a: Any) -> Callable[[PlanRow, Sequence[Completion]], list[Scored]]:
    """A trivial reward: the advantages are given."""
    weights = advantages(a)

    def score(row: PlanRow, completions: Sequence[Completion]) -> list[Scored]:
        return [
            Scored(
                Sample(
                    id=f"{row.id}/{j}", plan_id=row.id, step=row.step, problem_id=row.problem_id, routed=False,
                    sample=j, completion="", r_ans=0.0, r_fmt=0.0, p_len=0.0, p_copy=0.0, reward=0.0,
                    advantage=weights[row.slot * a.completions + j], bridge_weight=0.0, n_tokens=a.response,
                    truncated=False,
                )
            )
            for j in range(len(completions))
        ]  # fmt: skip

    return score
