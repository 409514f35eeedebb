"""What both trainers share: LoRA on a loaded model, quiet libraries, atomic adapter and checkpoint folders, metrics.

Usage: `model = attach_lora(loaded, settings, seed)`; `save_adapter(model, tokenizer, out_dir)`.

Deviation 1: `prepare_model_for_kbit_training` is not used on NF4 models. It casts norms, embeddings and head to
float32, which only pays under autocast; then the trainer would run in another precision than the sampler. The base is
frozen, the adapter kept in float32 (bfloat16 adapters round small updates away) and nothing else is cast.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import TrainerCallback
from transformers.utils import logging as hf_logging

from realm_cli.engines.loading import LoadedModel
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion, MetricSink, Scored
from realm_cli.recipe import LoraSettings
from realm_cli.records import PlanRow

Group = tuple[PlanRow, Sequence[Completion], Sequence[Scored]]


def attach_lora(loaded: LoadedModel, settings: LoraSettings, seed: int, *, checkpointing: bool = False) -> PeftModel:
    """The model with a trainable adapter: the one it carries, continued, or a new all-linear LoRA on a raw base."""
    model = loaded.model
    if isinstance(model, PeftModel):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name and ".default." in name)
        model.peft_config["default"].inference_mode = False
    else:
        torch.manual_seed(seed)  # the adapter's initial values
        model.requires_grad_(False)
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
    config = model.peft_config["default"]
    if not config.base_model_name_or_path:
        config.base_model_name_or_path = loaded.label
    if checkpointing:
        model.enable_input_require_grads()
    adapter_to_float32(model)
    if not any(p.requires_grad for p in model.parameters()):
        raise EngineError(f"{loaded.label}: the adapter has no trainable LoRA weights; train with a LoRA adapter")
    return model


def adapter_to_float32(model: Any) -> None:
    """Keep trained weights in float32 (TRL casts them to bfloat16 on quantised models)."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def optimizer_name(loaded: LoadedModel) -> str:
    """AdamW; its state in 8 bits for NF4 models on CUDA."""
    return "adamw_bnb_8bit" if loaded.quant == "nf4" and on_cuda(loaded) else "adamw_torch_fused"


def on_cuda(loaded: LoadedModel) -> bool:
    """Whether the model is on a CUDA device."""
    return str(loaded.device).startswith("cuda")


def one_gpu(args: Any) -> None:
    """Keep a Trainer's TrainingArguments to one GPU: of several that it sees it would multiply the batch by all."""
    args._n_gpu = min(1, args.n_gpu)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Mute the libraries' progress bars, warnings and log lines; ours come from `on_metrics`."""
    names = ("transformers", "trl", "peft", "accelerate", "datasets")
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hf_logging.set_verbosity_error()
        hf_logging.disable_progress_bar()
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)
            hf_logging.set_verbosity(verbosity)
            if bars:
                hf_logging.enable_progress_bar()


class LogSink(TrainerCallback):
    """Hands the Trainer's logs to `on_metrics` under our names."""

    names = {"learning_rate": "lr", "mean_token_accuracy": "token_accuracy", "num_tokens": "tokens"}

    def __init__(self, sink: MetricSink) -> None:
        self.sink = sink
        self.last: dict[str, Any] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return  # the closing summary
        row = {self.names.get(key, key): value for key, value in logs.items() if key != "total_flos"}
        self.last = {"step": state.global_step, "total_steps": state.max_steps, **row}
        self.sink(dict(self.last))


def step_metrics(groups: Sequence[Group], teaches: Callable[[Group], bool]) -> dict[str, float]:
    """What the samples of one RL step show; `_routed` and `_bare` apart, absent where no such group exists.

    `zero_variance`: share of groups in which every advantage is 0; `dead`: of those that do not teach at all
    (method/teaching.py). Lengths in tokens. `truncated`: share.
    """
    out: dict[str, float] = {}
    everything = [s.sample for _, _, scored in groups for s in scored]
    out["reward"] = mean(s.reward for s in everything)
    out["truncated"] = mean(float(c.truncated) for _, done, _ in groups for c in done)
    out["tokens_sampled"] = float(sum(len(c.token_ids) for _, done, _ in groups for c in done))
    out["routed_groups"] = float(sum(plan.routed for plan, _, _ in groups))
    for kind, routed in (("routed", True), ("bare", False)):
        chosen = [group for group in groups if group[0].routed == routed]
        if not chosen:
            continue
        samples = [s.sample for _, _, scored in chosen for s in scored]
        alike = [float(all(s.sample.advantage == 0 for s in scored)) for _, _, scored in chosen]
        out[f"r_ans_{kind}"] = mean(s.r_ans for s in samples)
        out[f"r_fmt_{kind}"] = mean(s.r_fmt for s in samples)
        out[f"zero_variance_{kind}"] = mean(alike)
        out[f"dead_{kind}"] = mean(float(not teaches(group)) for group in chosen)
        out[f"length_{kind}"] = mean(float(len(c.token_ids)) for _, done, _ in chosen for c in done)
        verdicts = [said for s in samples for said in s.verdicts or () if said is not None]
        if verdicts:
            out["verdicts_right"] = mean(map(float, verdicts))
        judged = [s.r_ver for s in samples if s.r_ver is not None]
        if judged:
            out["r_ver"] = mean(judged)
    return out


def mean(values: Iterable[float]) -> float:
    """Mean; 0 for nothing."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0


class RlStepEnd(TrainerCallback):
    """Around each RL step: dev evaluation, samples and metrics out, checkpoints (method.md section 9).

    `trainer` has job, config, groups, parts, clock, last_metrics, teaches(group) and evaluate_policy(step).
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.lr = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            metrics = self.trainer.evaluate_policy(0)
            self.trainer.job.on_metrics({"step": 0, "total_steps": state.max_steps, **metrics})
        else:  # rows of later steps in the files are from the interrupted run and will come again
            row = {"step": state.global_step, "total_steps": state.max_steps, "resumed_from": state.global_step}
            self.trainer.job.on_metrics({**row, "best_step": self.trainer.best["best_step"]})

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.lr = self.trainer.lr_scheduler.get_last_lr()[0]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer, step = self.trainer, state.global_step
        row: dict[str, Any] = {"step": step, "total_steps": state.max_steps, "lr": self.lr}
        row |= {"loss": trainer.parts["loss_policy"] + trainer.parts["loss_bridge"], **trainer.parts}
        row["loss"] += trainer.parts["loss_members"]
        row |= step_metrics(trainer.groups, trainer.teaches)
        row["tokens_sampled"] += sum(len(c.token_ids) for _, done, _ in trainer.discarded for c in done)
        row["lam"] = trainer.groups[0][0].lam
        row["seconds_update"] = time.perf_counter() - trainer.clock
        sampled = [*trainer.groups, *trainer.discarded]
        trainer.job.on_samples([s.sample for _, _, scored in sampled for s in scored])
        if step % trainer.job.eval_every == 0 or step == state.max_steps:
            row |= trainer.evaluate_policy(step)
        row["best_step"] = trainer.best["best_step"]
        trainer.last_metrics = row
        trainer.job.on_metrics(dict(row))
        if step % trainer.config.save_every == 0 or step == state.max_steps:
            trainer.save_now()
