"""The peers, as the benchmark calls them: transformers' `generate` and continuous batching, TRL's GRPOTrainer."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from trl import GRPOConfig
from trl import GRPOTrainer as TrlTrainer
from work import LR, NO_END, Watched, advantages, completion_ids, prompt_ids

PAGE = 256  # tokens in a block of continuous batching's cache: its default


def sampling(loaded: Any, a: Any) -> Callable[[int], int]:
    """f(new tokens per completion) -> tokens drawn."""
    prompts = prompt_ids(a, loaded.model.config.vocab_size)
    return _batching(loaded.model, prompts, a) if a.peer == "batching" else _generate(loaded.model, prompts, a)


def _generate(model: Any, prompts: list[tuple[int, ...]], a: Any) -> Callable[[int], int]:
    width = max(len(prompt) for prompt in prompts)
    rows = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = None

    def work(tokens: int) -> int:
        out = model.generate(
            rows, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0,
            num_return_sequences=a.completions, max_new_tokens=tokens, min_new_tokens=tokens,
        )  # fmt: skip
        return int((out.size(1) - width) * out.size(0))

    return work


def _batching(model: Any, prompts: list[tuple[int, ...]], a: Any) -> Callable[[int], int]:
    """Continuous batching with a cache as large as the work needs.

    Its default is a cache of 60 % of the machine's memory, which costs more time than the sampling itself.
    """
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    blocks = a.completions * sum(-(-(len(prompt) + a.response) // PAGE) + 1 for prompt in prompts)
    rows = [list(prompt) for prompt in prompts]

    def work(tokens: int) -> int:
        how = GenerationConfig(
            max_new_tokens=tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=NO_END,
            pad_token_id=0, num_return_sequences=a.completions,
        )  # fmt: skip
        size = ContinuousBatchingConfig(num_blocks=blocks, max_batch_tokens=a.batch_tokens)
        out = model.generate_batch(rows, generation_config=how, continuous_batching_config=size, progress_bar=False)
        errors = [str(result.error) for result in out.values() if result.error]
        if errors or len(out) != len(prompts) * a.completions:
            raise RuntimeError(f"continuous batching returned {len(out)} results: {' '.join(errors[:1])}")
        return sum(len(result.generated_tokens) for result in out.values())

    return work


def training(loaded: Any, a: Any, *, sampled: bool) -> Any:
    """TRL's trainer on the given completions or, `sampled`, on its own; its log-probabilities, loss and optimiser.

    peer "plain": our options; "defaults": its own, but for the learning rate and the model's precision.
    """
    vocab = loaded.model.config.vocab_size
    prompts, given = prompt_ids(a, vocab), completion_ids(a, vocab)
    torch.manual_seed(0)  # the adapter's initial values, equal to ours
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(loaded.model, lora)
    count = a.groups * a.completions
    rows = min(a.peer_rows, count)
    folder = tempfile.TemporaryDirectory()
    options: dict[str, Any] = {
        "output_dir": folder.name, "max_steps": a.repeats, "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": count // rows, "num_generations": a.completions,
        "max_completion_length": a.response, "learning_rate": LR, "bf16": False, "use_cpu": True, "seed": 0,
        "report_to": [], "disable_tqdm": True, "dataloader_pin_memory": False, "shuffle_dataset": False,
        "logging_strategy": "no", "save_strategy": "no", "generation_kwargs": {"min_new_tokens": a.response},
    }  # fmt: skip
    if a.peer != "defaults":
        options |= {
            "loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0, "epsilon": 0.2, "epsilon_high": 0.28,
            "temperature": 1.0, "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0,
            "adam_beta1": 0.9, "adam_beta2": 0.99, "max_grad_norm": 1.0, "optim": "adamw_torch_fused",
            "gradient_checkpointing": bool(a.checkpointing),
        }  # fmt: skip

    class Fed(Watched, TrlTrainer):
        def _tokenize_prompts(self, texts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
            return [list(prompts[int(text)]) for text in texts], None, {}  # of exact lengths

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            if sampled:
                return super()._generate_and_score_completions(inputs)
            full = [prompt for prompt in prompts for _ in range(a.completions)]
            width = max(len(prompt) for prompt in full)
            return {
                "prompt_ids": torch.tensor([[0] * (width - len(p)) + list(p) for p in full]),
                "prompt_mask": torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in full]),
                "completion_ids": torch.tensor(given),
                "completion_mask": torch.ones(count, a.response, dtype=torch.long),
                "advantages": torch.tensor(advantages(a)),
                "num_items_in_batch": torch.tensor(float(count * a.response)),
            }

    rewards = advantages(a)
    trainer = Fed(
        model, lambda completions, **_: rewards[: len(completions)], args=GRPOConfig(**options),
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(a.groups)] * a.repeats}),
        processing_class=loaded.tokenizer,
    )  # fmt: skip
    trainer._folder = folder  # lives as long as the trainer
    return trainer
