"""Supervised fine-tuning of a LoRA adapter through TRL (method.md section 3.5).

The loss covers exactly `completion[loss_start:]` and the end-of-turn token, as a mean over the tokens of an
effective batch. Rows come tokenised (engines/sft_rows.py), so TRL only batches and trains.

Usage: `LoraSftTrainer(loaded, recipe.distill.sft, seed).train(samples, out_dir=..., on_metrics=print)`

Note. Several processes divide the micro-batches of each step between them
(engines/parallel.py); the batches and their order are those of one process. With LoRA dropout each draws its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer as TrlTrainer

from realm_cli.engines.callbacks import (
    LogSink,
    adapter_to_float32,
    attach_lora,
    on_cuda,
    one_gpu,
    optimizer_name,
    quiet,
)
from realm_cli.engines.checkpoints import AtomicCheckpoints, UpdateGuard, newest_checkpoint, resuming, save_adapter
from realm_cli.engines.loading import LoadedModel, end_ids
from realm_cli.engines.memory import with_less
from realm_cli.engines.parallel import END, UPDATE, Parted, Team, join
from realm_cli.engines.sampler import positions_of
from realm_cli.engines.sft_rows import Encoded, EpochOrder, encode_samples, micro_batch_size
from realm_cli.protocols import MetricSink, TrainResult
from realm_cli.recipe import SftConfig
from realm_cli.records import SFTSample

log = logging.getLogger(__name__)


class _Trainer(AtomicCheckpoints, TrlTrainer):
    """TRL's SFTTrainer with our checkpoints and order of rows, and without telemetry."""

    piece = 1 << 30  # rows that went through the model at once where memory did not suffice for more
    team: Team | None = None
    trained: Sequence[torch.Tensor] = ()
    place = (0, 0)  # of the next micro-batch in its step, and how many that has
    loss_here = 0.0  # of this process's micro-batches in the step
    _total_train_tokens: float  # TRL's count of those that it has seen

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy == "sequential":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return EpochOrder(self.train_dataset["length"], batch, self.args.seed)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, which the other processes get too."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.team is not None:
            sent = [{name: value.cpu() for name, value in batch.items()} for batch in batches]
            self.team.tell(UPDATE, sent, int(items))
            self._begin(len(batches))
        return batches, items

    def follow(self) -> None:
        """Differentiate this process's micro-batches of the steps that the lead sends, until it ends."""
        assert self.team is not None
        while (message := self.team.hear())[0] != END:
            _, batches, items = message
            self._begin(len(batches))
            self.model.zero_grad(set_to_none=True)
            for batch in batches:
                self.training_step(self.model, batch, torch.tensor(items, device=self.args.device))
        self.team.leave()

    def _begin(self, batches: int) -> None:
        """A step of so many micro-batches begins, from the lead's weights."""
        assert self.team is not None
        self.team.same(self.trained)
        self.place, self.loss_here = (0, batches), 0.0

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """A micro-batch; where there are several processes, only if it is this one's, and the last adds up all."""
        if self.team is None:
            return self._differentiated(model, inputs, num_items_in_batch)
        at, batches = self.place
        self.place = (at + 1, batches)
        if self.team.mine(at):
            self.loss_here += float(self._differentiated(model, inputs, num_items_in_batch))
        loss = self._added_up(self.team) if at + 1 == batches else 0.0
        return torch.tensor(loss, device=self.args.device)

    def _added_up(self, team: Team) -> float:
        """The step's loss over all processes; gradients and TRL's counts become the step's as well."""
        team.add_up_gradients(self.trained)
        counts = self._metrics["train"]
        parts = team.gather((self.loss_here, dict(counts) if team.rank else {}, self._total_train_tokens))
        if team.rank:
            counts.clear()
            self._total_train_tokens = 0
        for _, theirs, tokens in parts[1:]:
            for name, values in theirs.items():
                counts[name].extend(values)
            self._total_train_tokens += tokens
        if parts:
            counts["num_tokens"] = [self._total_train_tokens]
        return sum(loss for loss, *_ in parts)

    def _differentiated(self, model: Any, inputs: dict[str, Any], items: Any) -> torch.Tensor:
        """A micro-batch, in as many pieces as memory needs: the loss is a sum over a step's tokens, so they add up."""
        rows = len(inputs["input_ids"])
        trained = [p for p in model.parameters() if p.requires_grad]
        before = [p.grad for p in trained]

        def in_pieces(size: int) -> torch.Tensor:
            for parameter, grad in zip(trained, before, strict=True):
                parameter.grad = None if grad is None else grad.clone()
            pieces = ({name: x[at : at + size] for name, x in inputs.items()} for at in range(0, rows, size))
            step = super(_Trainer, self).training_step
            return torch.stack([step(model, piece, items) for piece in pieces]).sum()

        size = min(rows, self.piece)
        loss, used = with_less(in_pieces, size, least=lambda: 1, setting="distill.sft.micro_batch")
        if used < size:
            self.piece = used
        return loss


class LoraSftTrainer:
    """Trains a LoRA adapter on a loaded model (protocols.SftTrainer)."""

    def __init__(self, loaded: LoadedModel, config: SftConfig, seed: int) -> None:
        self.loaded, self.config, self.seed = loaded, config, seed

    def train(
        self,
        samples: Sequence[SFTSample],
        *,
        out_dir: Path,
        on_metrics: MetricSink,
        resume: bool = False,
        in_order: bool = False,
    ) -> TrainResult:
        """Train and write `out_dir/adapter_model.safetensors`, adapter_config.json and the tokenizer.

        `on_metrics` first gets step 0 with row counts and dropped ids, or `resumed_from`, then loss (nats a token), lr
        and gradient norm every few steps. in_order: once over the samples, as they come. Checkpoints every `save_every`
        steps; Ctrl-C keeps the adapter as well and is raised again.
        """
        tokenizer = self.loaded.tokenizer
        limit = min(self.config.max_length, positions_of(self.loaded.model))
        rows, dropped = encode_samples(tokenizer, samples, limit, list(end_ids(tokenizer, self.loaded.model)))
        if dropped:
            log.warning(
                "%d of %d rows are longer than %d tokens and are left out: %s%s; %s",
                len(dropped), len(samples), limit, ", ".join(dropped[:3]), ", ..." if len(dropped) > 3 else "",
                "raise distill.sft.max_length" if limit == self.config.max_length else "the model reads no more",
            )  # fmt: skip
        checkpoints, team = out_dir.parent / "checkpoints", join()
        steps = self._steps(len(rows), 1 if in_order else self.config.epochs)
        sink = LogSink(on_metrics)
        with quiet():
            trainer = self._trainer(rows, steps, checkpoints, sink, in_order, team)
            start = newest_checkpoint(checkpoints) if resume else None
            if start is None:
                counts = {"rows": len(rows), "dropped": len(dropped), "dropped_ids": dropped}
                on_metrics({"step": 0, "total_steps": steps, **counts})
            else:
                at = int(start.name.removeprefix("step-"))
                on_metrics({"step": at, "total_steps": steps, "resumed_from": at})
            try:
                with resuming(start):
                    trainer.train(resume_from_checkpoint=str(start) if start else None)
            except (KeyboardInterrupt, Parted):
                trainer.save_now()
                save_adapter(trainer.model, tokenizer, out_dir)
                raise
            if team is not None:
                team.tell(END)
                team.leave()
            save_adapter(trainer.model, tokenizer, out_dir)
        last = {key: float(value) for key, value in sink.last.items() if isinstance(value, int | float)}
        return TrainResult(out_dir, trainer.state.global_step, {**last, "dropped": float(len(dropped))})

    def follow(self, out_dir: Path) -> None:
        """Do the share of a process that does not lead, until the lead ends. Writes nothing. Raises EngineError."""
        row = Encoded("", [0, 0], [0, 0])  # the Trainer wants one; the lead sends those that count
        with quiet():
            trainer = self._trainer([row], 1, out_dir.parent / "checkpoints", LogSink(lambda row: None), True, join())
            if self.config.grad_checkpointing:  # which Trainer.train does for the lead
                trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
            trainer.follow()

    def _steps(self, rows: int, epochs: float) -> int:
        if self.config.max_steps is not None:
            return self.config.max_steps
        return max(1, math.ceil(math.ceil(rows / self.config.batch_size) * epochs))

    def _trainer(
        self,
        rows: Sequence[Encoded],
        steps: int,
        checkpoints: Path,
        sink: LogSink,
        in_order: bool,
        team: Team | None,
    ) -> _Trainer:
        config = self.config
        each = config.batch_size // team.size if team else config.batch_size  # rows a process, where they suffice
        micro = micro_batch_size(config.batch_size, min(config.micro_batch, max(each, 1)))
        args = TrlConfig(
            output_dir=str(checkpoints),
            max_steps=steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=config.batch_size // micro,
            learning_rate=config.lr,
            lr_scheduler_type="cosine",
            warmup_steps=math.ceil(config.warmup * steps),
            weight_decay=0.0,
            optim=optimizer_name(self.loaded),
            gradient_checkpointing=config.grad_checkpointing,
            train_sampling_strategy="sequential" if in_order else "group_by_length",
            length_column_name="length",
            remove_unused_columns=False,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=not on_cuda(self.loaded),
            bf16=False,
            seed=self.seed,
            logging_steps=max(1, min(10, steps // 50)),
            save_strategy="steps",
            save_steps=config.save_every,
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=on_cuda(self.loaded),
        )
        one_gpu(args)
        data = Dataset.from_dict(
            {
                "input_ids": [row.input_ids for row in rows],
                "labels": [row.labels for row in rows],
                "length": [len(row.input_ids) for row in rows],
            }
        )
        model = attach_lora(self.loaded, config.lora, self.seed, checkpointing=config.grad_checkpointing)
        trainer = _Trainer(model=model, args=args, train_dataset=data, processing_class=self.loaded.tokenizer)
        adapter_to_float32(trainer.model)
        trainer.team, trainer.trained = team, [p for p in trainer.model.parameters() if p.requires_grad]
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(sink)
        trainer.add_callback(UpdateGuard(trainer))
        return trainer
