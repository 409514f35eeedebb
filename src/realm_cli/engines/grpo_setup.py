"""What TRL's GRPOTrainer is set up with, and whether a plan fits its job. Usage: `trl_arguments(job, config, ...)`."""

from __future__ import annotations

import logging
from typing import Any

from trl import GRPOConfig

from realm_cli.engines.batches import fitting
from realm_cli.engines.callbacks import on_cuda, optimizer_name
from realm_cli.engines.chat import encode_prompt
from realm_cli.engines.loading import LoadedModel
from realm_cli.errors import EngineError
from realm_cli.protocols import RlJob
from realm_cli.recipe import TrainRlConfig
from realm_cli.records import PlanRow

log = logging.getLogger(__name__)
SPARE = 1024  # tokens that a chat template may add, at most


def check_plan(job: RlJob) -> None:
    """EngineError unless the plan has `groups_per_step` rows for each step, in order."""
    want = job.steps * job.groups_per_step
    if len(job.plan) != want or any(row.step != i // job.groups_per_step for i, row in enumerate(job.plan)):
        raise EngineError(
            f"plan: {len(job.plan)} rows do not fit {job.steps} steps of {job.groups_per_step} groups in order "
            f"({want} rows); rebuild plan.jsonl"
        )


def fitted(row: PlanRow, job: RlJob, tokenizer: Any, room: int) -> PlanRow:
    """The row, without its routes where its prompt with them leaves no room for an answer."""
    return row if _fits(row, tokenizer, room) or not row.routed else job.without_routes(row)


def check_room(job: RlJob, tokenizer: Any, room: int, label: str) -> None:
    """Say which rows of the plan are too long for the model. TooLong where all are, also without routes."""
    long = [row for row in job.plan if not _fits(row, tokenizer, room)]
    if not long:
        return
    out = [row for row in long if not _fits(fitted(row, job, tokenizer, room), tokenizer, room)]
    if len(out) == len(job.plan):
        lengths = [len(encode_prompt(tokenizer, row.messages)) + 1 for row in out]
        fitting(lengths, room, label, lambda i: f"the prompt of {out[i].problem_id}")
    bare = len(long) - len(out)
    said = [f"{bare} show no routes"] if bare else []
    said += [f"{len(out)} are left out (e.g. of problem {out[0].problem_id})"] if out else []
    log.warning(
        "train-rl: %d of %d planned prompts (e.g. %s) are longer than the %d tokens that %s can read: %s; "
        "fewer or shorter routes (verify.k, rollout.max_tokens), shorter questions or a longer context keep them",
        len(long), len(job.plan), long[0].id, room, label, ", ".join(said),
    )  # fmt: skip


def _fits(row: PlanRow, tokenizer: Any, room: int) -> bool:
    if sum(len(m["content"].encode()) for m in row.messages) + SPARE < room:  # a token has a byte at least
        return True
    return len(encode_prompt(tokenizer, row.messages)) < room


def trl_arguments(job: RlJob, config: TrainRlConfig, loaded: LoadedModel, seed: int) -> GRPOConfig:
    """One TRL batch a step, no reward scaling, no saving or logging of TRL's own."""
    return GRPOConfig(
        output_dir=str(job.out_dir.parent / "checkpoints"),
        max_steps=job.steps,
        per_device_train_batch_size=job.groups_per_step * job.group_size,
        num_generations=job.group_size,
        max_completion_length=config.max_tokens,
        shuffle_dataset=False,
        temperature=config.temperature,
        loss_type=config.loss_type,
        scale_rewards="none",  # advantages come ready from `job.score`
        beta=config.beta,
        epsilon=config.epsilon,
        epsilon_high=config.epsilon_high,
        learning_rate=config.lr,
        lr_scheduler_type="constant_with_warmup" if config.lr_schedule == "constant" else config.lr_schedule,
        warmup_steps=config.warmup_steps,
        weight_decay=0.0,
        adam_beta1=0.9,
        adam_beta2=0.99,
        max_grad_norm=config.max_grad_norm,
        optim=optimizer_name(loaded),
        gradient_checkpointing=config.grad_checkpointing,
        use_cpu=not on_cuda(loaded),
        bf16=False,  # the model's own precision, in sampling as in training
        seed=seed,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=on_cuda(loaded),
        remove_unused_columns=False,
    )
