"""One training step is TRL's own step on the same groups: loss and updated weights, with shared prompts and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig
from trl import GRPOTrainer as TrlTrainer

from engines.toys import lora_state, toy_job, toy_loaded, toy_plan, toy_score
from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.grpo_step import StepTrainer
from realm_cli.engines.loading import LoadedModel, encode_prompt
from realm_cli.protocols import Completion
from realm_cli.recipe import BridgeConfig, EngineConfig, TrainRlConfig

G = 4
TEXTS = [["a", "ab", "bba", "b"], ["aabba", "b", "a", "abab"]]  # of the two groups: rewarded if they start with a


def policy() -> LoadedModel:
    """A toy model with an adapter that is not at its start, where half of the gradient would be 0."""
    loaded = toy_loaded(chars="ab")
    loaded.model = attach_lora(loaded, TrainRlConfig().lora, 0)
    torch.manual_seed(1)
    for name, p in loaded.model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.2)
    return loaded


def completion(loaded: LoadedModel, text: str) -> Completion:
    ids = tuple(loaded.tokenizer(text, add_special_tokens=False).input_ids) + (2,)
    return Completion(text, len(ids), False, ids)


def ours(tmp_path: Path, loss: str, shared: str) -> tuple[float, dict[str, torch.Tensor]]:
    loaded = policy()
    config = TrainRlConfig(
        steps=1, groups_per_step=2, group_size=G, lr=1e-2, warmup_steps=0, max_tokens=8, micro_tokens=60,
        loss_type=loss, bridge=BridgeConfig(beta=0.0), temperature=0.8, epsilon=0.2, epsilon_high=0.28,
    )  # fmt: skip
    log: list[dict[str, Any]] = []
    job = toy_job(
        tmp_path, toy_plan(1, 2), 1, 2, G, on_metrics=log.append, score=toy_score(lambda t: float(t.startswith("a")))
    )
    trainer = StepTrainer(job, loaded, config, 0, EngineConfig(shared_prefix=shared))  # type: ignore[arg-type]
    assert trainer.shared == (shared == "auto")
    trainer._sample = lambda plan: [[completion(loaded, t) for t in group] for group in TEXTS]
    trainer.train()
    return float(log[-1]["loss_policy"]), lora_state(loaded.model)


def trls(tmp_path: Path, loss: str) -> tuple[float, dict[str, torch.Tensor]]:
    loaded = policy()
    args = GRPOConfig(
        output_dir=str(tmp_path / "trl"), max_steps=1, per_device_train_batch_size=2 * G, num_generations=G,
        max_completion_length=8, temperature=0.8, loss_type=loss, beta=0.0, epsilon=0.2, epsilon_high=0.28,
        learning_rate=1e-2, lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, adam_beta2=0.99,
        max_grad_norm=1.0, optim="adamw_torch_fused", use_cpu=True, bf16=False, gradient_checkpointing=False,
        save_strategy="no", report_to=[], disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    rows = [completion(loaded, t).token_ids for group in TEXTS for t in group]
    width = max(map(len, rows))
    prompt = encode_prompt(loaded.tokenizer, toy_plan(1, 1)[0].messages)
    rewards = [float(t.startswith("a")) for group in TEXTS for t in group]
    base = [sum(rewards[i : i + G]) / G for i in (0, G)]

    class Fed(TrlTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> dict[str, torch.Tensor]:
            return {
                "prompt_ids": torch.tensor([prompt] * 2 * G),
                "prompt_mask": torch.ones(2 * G, len(prompt), dtype=torch.long),
                "completion_ids": torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]),
                "completion_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
                "advantages": torch.tensor([r - base[i // G] for i, r in enumerate(rewards)]),
                "num_items_in_batch": torch.tensor(float(sum(map(len, rows)))),
            }

    data = Dataset.from_dict({"prompt": ["q"] * 2})
    trainer = Fed(loaded.model, lambda **_: [0.0], args=args, train_dataset=data, processing_class=loaded.tokenizer)
    trainer.train()
    return float(trainer.state.log_history[-1]["train_loss"]), lora_state(loaded.model)


@pytest.mark.parametrize("loss", ["dr_grpo", "dapo", "grpo", "cispo", "sapo"])
def test_one_step_is_trls_step(tmp_path: Path, loss: str) -> None:
    want_loss, want = trls(tmp_path, loss)
    start = lora_state(policy().model)
    assert max(float((want[name] - start[name]).abs().max()) for name in want) > 5e-3  # the step moved the weights
    for shared in ("auto", "off"):
        got_loss, got = ours(tmp_path / shared, loss, shared)
        assert got_loss == pytest.approx(want_loss, rel=1e-4, abs=1e-6)
        for name, weights in want.items():  # Adam's first step is lr * sign(g): gradients near 0 may differ in sign
            off = (got[name] - weights).abs() > 1e-4
            assert off.float().mean() < 2e-3, (shared, name, float(off.float().mean()))
