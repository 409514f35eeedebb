"""GRPO over a plan of bare and routed prompts, with the bridge (method.md sections 9, 9.1 and 10), through TRL.

One step: the plan's rows of this step -> G completions each from the live policy -> `job.score` -> advantages ->
TRL's clipped loss on the sampled tokens + the bridge -> one AdamW update. TRL gives the loss, the Trainer the loop;
engines/grpo_step.py is the step.

Usage: `RouteGrpoTrainer(loaded, recipe.train_rl, recipe.seed, recipe.engine).train(job)`
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from realm_cli.engines.callbacks import attach_lora, quiet
from realm_cli.engines.checkpoints import (
    newest_checkpoint,
    restore,
    resuming,
    save_adapter,
)
from realm_cli.engines.grpo_setup import check_plan, check_room
from realm_cli.engines.grpo_step import BEST_FILE, ROW_NORMED, TOKEN_NORMED, StepTrainer
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.parallel import END, Parted, join
from realm_cli.engines.preflight import probe
from realm_cli.engines.sampler import positions_of
from realm_cli.errors import Alarm, EngineError
from realm_cli.protocols import Probe, RlJob, TrainResult
from realm_cli.recipe import EngineConfig, TrainRlConfig
from realm_cli.records import PlanRow


class RouteGrpoTrainer:
    """Trains a LoRA policy by GRPO over a plan (protocols.RlTrainer).

    A raw base gets a new adapter (ReaLM-Zero); a model with an adapter continues that adapter (ReaLM-R1).
    """

    def __init__(self, loaded: LoadedModel, config: TrainRlConfig, seed: int, engine: EngineConfig) -> None:
        if config.loss_type not in ROW_NORMED + TOKEN_NORMED:
            known = ", ".join(ROW_NORMED + TOKEN_NORMED)
            raise EngineError(f"train_rl.loss_type: {config.loss_type} is not supported; use one of {known}")
        self.loaded, self.config, self.seed, self.engine = loaded, config, seed, engine

    def probe(self, rows: Sequence[PlanRow], group_size: int) -> Probe:
        """See protocols.RlTrainer."""
        with quiet():
            return probe(self.loaded, rows, group_size, self.config, self.engine, self.seed)

    def train(self, job: RlJob) -> TrainResult:
        """Run the plan. `job.out_dir` holds the adapter with the best `dev_bare` (ties: the later one),
        `job.out_dir.parent/last_adapter` the last, `.../checkpoints/step-N` what `job.resume` continues from.

        Ctrl-C and an alarm keep a checkpoint of the last complete step and are raised again. Raises EngineError.
        """
        check_plan(job)
        check_room(job, self.loaded.tokenizer, positions_of(self.loaded.model), self.loaded.label)
        with quiet():
            model = attach_lora(self.loaded, self.config.lora, self.seed, checkpointing=self.config.grad_checkpointing)
            live = dataclasses.replace(self.loaded, model=model)
            trainer = StepTrainer(job, live, self.config, self.seed, self.engine, join())
            if job.resume:
                restore(job.out_dir)
            start = newest_checkpoint(trainer.root) if job.resume else None
            if start is not None:
                trainer.best = json.loads((start / BEST_FILE).read_text(encoding="utf-8"))
            try:
                with resuming(start):
                    trainer.train(resume_from_checkpoint=str(start) if start else None)
            except (KeyboardInterrupt, Alarm, Parted) as error:
                if not isinstance(error, Alarm) or error.keep:
                    trainer.save_now()
                raise
            if trainer.team is not None:
                trainer.team.tell(END)
                trainer.team.leave()
            save_adapter(model, live.tokenizer, job.out_dir.parent / "last_adapter")
        metrics = {key: float(v) for key, v in trainer.last_metrics.items() if isinstance(v, int | float)}
        return TrainResult(job.out_dir, trainer.state.global_step, metrics)

    def follow(self, job: RlJob) -> None:
        """Do the share of a process that does not lead, until the lead ends. Writes nothing. Raises EngineError."""
        with quiet():
            model = attach_lora(self.loaded, self.config.lora, self.seed, checkpointing=self.config.grad_checkpointing)
            live = dataclasses.replace(self.loaded, model=model)
            StepTrainer(job, live, self.config, self.seed, self.engine, join()).follow()
