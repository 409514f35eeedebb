"""One measurement in a process of its own: `python benchmarks/speed/measure.py KIND SIDE --prompt 400 ...` -> JSON.

    sample   `completions` of each of `groups` prompts, `response` tokens each, at temperature 1; none ends early
    update   one optimiser step of GRPO on given groups (ids, completions and advantages are the same on both sides)
    step     a whole RL step: sampling, a trivial reward, the update

Sides: `ours`; `peer` = transformers.generate (sample), TRL's own GRPOTrainer (update, step). For an update TRL gets its
prepared batch through `_generate_and_score_completions`; its log-probabilities, loss and optimiser are untouched.
Peak memory is the process's high-water mark, `loaded` what it was before the work began.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig
from trl import GRPOTrainer as TrlTrainer

from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.grpo import _Trainer
from realm_cli.engines.loading import keep_freed_memory, load_model
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.protocols import Completion, RlJob, SamplingParams, Scored
from realm_cli.recipe import BridgeConfig, EngineConfig, LoraSettings, TrainRlConfig
from realm_cli.records import PlanRow, Sample

LR = 1e-4


def gib() -> float:
    """High-water mark of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ids(count: int, length: int, vocab: int, seed: int) -> list[tuple[int, ...]]:
    """`count` rows of random token ids."""
    draw = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(100, min(vocab, 40000), (length,), generator=draw).tolist()) for _ in range(count)]


def advantages(groups: int, size: int) -> list[float]:
    """Half +1, half -1 in each group."""
    return [1.0 if j % 2 else -1.0 for _ in range(groups) for j in range(size)]


class Clock(TrainerCallback):
    """Seconds of each optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.start)


def sample(side: str, a: argparse.Namespace) -> dict[str, Any]:
    """Seconds per round of sampling; the first round warms up with two tokens."""
    loaded = load_model(a.model, quant="none", dtype="float32", device="cpu")
    prompts = ids(a.groups, a.prompt, loaded.model.config.vocab_size, 0)
    before = gib()
    if side == "ours":
        generator = LocalGenerator(loaded, a.groups * a.completions)
        generator._ends = torch.tensor([-1])
        keys = [str(i) for i in range(a.groups)]

        def work(tokens: int) -> int:
            params = SamplingParams(max_tokens=tokens, temperature=1.0)
            return sum(c.n_tokens for row in generator.sample_ids(prompts, keys, a.completions, params) for c in row)
    else:
        net = loaded.model
        net.generation_config.eos_token_id = None
        rows = torch.tensor(prompts)

        def work(tokens: int) -> int:
            out = net.generate(
                rows,
                attention_mask=torch.ones_like(rows),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=a.completions,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                pad_token_id=0,
            )
            return int((out.size(1) - a.prompt) * out.size(0))

    work(2)
    seconds = []
    for _ in range(a.repeats):
        start = time.perf_counter()
        tokens = work(a.response)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "tokens": tokens, "loaded_gib": before, "peak_gib": gib()}


def plan_row(step: int, slot: int) -> PlanRow:
    """A bare row of the plan."""
    return PlanRow(
        id=f"{step}-{slot}", step=step, slot=slot, problem_id=str(slot), lam=0.0, p_routed=0.0, routed=False,
        shown=[], messages=[{"role": "user", "content": str(slot)}],
    )  # fmt: skip


def our_training(a: argparse.Namespace, sampled: bool) -> tuple[Any, Clock, float]:
    """Our trainer; `sampled`: it samples, else it takes the given completions."""
    from realm_cli.engines import grpo

    loaded = load_model(a.model, quant="none", dtype="float32", device="cpu")
    vocab = loaded.model.config.vocab_size
    prompts, done = ids(a.groups, a.prompt, vocab, 0), ids(a.groups * a.completions, a.response, vocab, 1)
    loaded.model = attach_lora(loaded, LoraSettings(r=16, alpha=32), 0)
    config = TrainRlConfig(
        steps=a.repeats, groups_per_step=a.groups, group_size=a.completions, lr=LR, warmup_steps=0,
        max_tokens=a.response, micro_tokens=a.micro_tokens, bridge=BridgeConfig(beta=0.0), save_every=10**6,
    )  # fmt: skip
    weights = advantages(a.groups, a.completions)

    def score(row: PlanRow, completions: Any) -> list[Scored]:
        return [
            Scored(
                Sample(
                    id=f"{row.id}/{j}",
                    plan_id=row.id,
                    step=row.step,
                    problem_id=row.problem_id,
                    routed=False,
                    sample=j,
                    completion="",
                    r_ans=0.0,
                    r_fmt=0.0,
                    p_len=0.0,
                    p_copy=0.0,
                    reward=0.0,
                    advantage=weights[row.slot * a.completions + j],
                    bridge_weight=0.0,
                    n_tokens=a.response,
                    truncated=False,
                )
            )
            for j in range(len(completions))
        ]

    folder = tempfile.TemporaryDirectory()
    job = RlJob(
        plan=[plan_row(step, slot) for step in range(a.repeats) for slot in range(a.groups)],
        steps=a.repeats, groups_per_step=a.groups, group_size=a.completions, score=score,
        bare_messages=lambda problem_id: [], on_samples=lambda rows: None, on_metrics=lambda row: None,
        evaluate=lambda generator, step: {"dev_bare": 0.0}, eval_every=10**6, out_dir=Path(folder.name) / "adapter",
    )  # fmt: skip
    grpo.encode_prompt = lambda tokenizer, messages: list(prompts[int(messages[0]["content"])])  # exact lengths

    class Fed(_Trainer):
        def _sample(self, plan: Any) -> list[list[Completion]]:
            if sampled:
                found = self.generator.sample_ids(prompts, [row.id for row in plan], a.completions, self.params)
                cut = [[Completion(c.text, c.n_tokens, False, c.token_ids, c.logprobs) for c in row] for row in found]
                return cut
            size = a.completions
            return [[Completion("", a.response, False, row) for row in done[i * size : (i + 1) * size]]
                    for i in range(a.groups)]  # fmt: skip

        def _with_end(self, completion: Completion) -> tuple[int, ...]:
            return completion.token_ids

    trainer = Fed(job, loaded, config, 0, EngineConfig())
    trainer.generator._ends = torch.tensor([-1])
    trainer.evaluate_policy = lambda step: {}  # type: ignore[method-assign]
    clock = Clock()
    trainer.add_callback(clock)
    trainer._folder = folder
    return trainer, clock, gib()


def trl_training(a: argparse.Namespace, sampled: bool) -> tuple[Any, Clock, float]:
    """TRL's trainer with the same options, on the same groups or its own samples."""
    loaded = load_model(a.model, quant="none", dtype="float32", device="cpu")
    vocab = loaded.model.config.vocab_size
    prompts, done = ids(a.groups, a.prompt, vocab, 0), ids(a.groups * a.completions, a.response, vocab, 1)
    model = attach_lora(loaded, LoraSettings(r=16, alpha=32), 0)
    rows = a.groups * a.completions
    folder = tempfile.TemporaryDirectory()
    options: dict[str, Any] = {"min_new_tokens": a.response} if sampled else {}
    args = GRPOConfig(
        output_dir=folder.name, max_steps=a.repeats, per_device_train_batch_size=a.peer_rows,
        gradient_accumulation_steps=rows // a.peer_rows, num_generations=a.completions,
        max_completion_length=a.response, temperature=1.0, loss_type="dr_grpo", scale_rewards="none", beta=0.0,
        epsilon=0.2, epsilon_high=0.28, learning_rate=LR, lr_scheduler_type="constant", warmup_steps=0,
        weight_decay=0.0, adam_beta1=0.9, adam_beta2=0.99, max_grad_norm=1.0, optim="adamw_torch_fused",
        gradient_checkpointing=False, use_cpu=True, bf16=False, seed=0, logging_strategy="no", save_strategy="no",
        report_to=[], disable_tqdm=True, dataloader_pin_memory=False, shuffle_dataset=False,
        generation_kwargs=options, top_k=0,
    )  # fmt: skip
    weights = torch.tensor(advantages(a.groups, a.completions))

    class Fed(TrlTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            if sampled:
                return super()._generate_and_score_completions(inputs)
            full = torch.tensor([prompt for prompt in prompts for _ in range(a.completions)])
            return {
                "prompt_ids": full,
                "prompt_mask": torch.ones_like(full),
                "completion_ids": torch.tensor(done),
                "completion_mask": torch.ones(rows, a.response, dtype=torch.long),
                "advantages": weights,
                "num_items_in_batch": torch.tensor(float(rows * a.response)),
            }

    tokenizer = loaded.tokenizer
    texts = [tokenizer.decode(prompt) for prompt in prompts]  # near the wanted length once tokenised again
    data = Dataset.from_dict({"prompt": texts * a.repeats})
    rewards = iter(range(10**9))
    trainer = Fed(
        model, lambda completions, **_: [float(next(rewards) % 2) for _ in completions], args=args, train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip
    clock = Clock()
    trainer.add_callback(clock)
    trainer._folder = folder
    return trainer, clock, gib()


def train(kind: str, side: str, a: argparse.Namespace) -> dict[str, Any]:
    """Seconds per step (the first is the warm-up), memory, and the weights' norm to compare the sides by."""
    logging.disable(logging.WARNING)
    trainer, clock, before = (our_training if side == "ours" else trl_training)(a, kind == "step")
    trainer.train()
    moved = [p.detach().double() for n, p in sorted(trainer.model.named_parameters()) if "lora_B" in n]
    norm = float(sum(p.square().sum() for p in moved)) ** 0.5
    mean = float(sum(p.sum() for p in moved))
    return {"seconds": clock.seconds, "lora_b_norm": norm, "lora_b_sum": mean, "loaded_gib": before, "peak_gib": gib()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["sample", "update", "step"])
    parser.add_argument("side", choices=["ours", "peer"])
    parser.add_argument("--model", default="smollm2-135m")
    for name, value in {
        "prompt": 400, "groups": 1, "completions": 8, "response": 48, "repeats": 2, "peer-rows": 8,
        "micro-tokens": 4096,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--keep-memory", type=int, default=0, help="1: give the peer our allocator settings as well")
    a = parser.parse_args()
    if a.side == "ours" or a.keep_memory:
        keep_freed_memory()  # as our commands do
    print(json.dumps(sample(a.side, a) if a.kind == "sample" else train(a.kind, a.side, a)))


if __name__ == "__main__":
    main()
