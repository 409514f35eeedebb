"""One step of GRPO over a plan: sampling, scoring, TRL's loss on the sampled tokens, the bridge (method.md 9, 9.1, 10).

Usage: engines/grpo.py.

Notes. (1) A step is one TRL batch (no gradient accumulation by the Trainer); micro-batches are cut in here, by tokens,
and a group's prompt is computed once for all its completions (engines/logprobs.py). (2) Rows with advantage 0 have no
gradient and are left out of the forward pass; each micro-batch loss is rescaled, so the sum equals the loss with them.
With a KL weight they stay in. (3) Truncated completions are masked. (4) The KL reference is the policy at the start of
this stage. (5) Every row's completion is trained on as sampled: token ids, never re-tokenised text. (6) Several
processes divide sampling and gradients between them (engines/parallel.py).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOTrainer as TrlTrainer
from trl.trainer.utils import use_adapter

from realm_cli.engines.batches import Pack, TokenRow, micro_batches, pad_id_of, pad_rows
from realm_cli.engines.bridge_loss import bridge_loss, bridge_rows, member_rows
from realm_cli.engines.callbacks import RlStepEnd, adapter_to_float32, one_gpu
from realm_cli.engines.checkpoints import (
    AtomicCheckpoints,
    UpdateGuard,
    save_adapter,
)
from realm_cli.engines.grpo_setup import fitted, trl_arguments
from realm_cli.engines.loading import LoadedModel, encode_prompt, end_ids
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.memory import with_less
from realm_cli.engines.parallel import END, SAMPLE, UPDATE, SharedGenerator, Team, sample_share
from realm_cli.engines.sampler import LocalGenerator, positions_of
from realm_cli.engines.self_check import shares_prefix
from realm_cli.engines.token_signal import signalled
from realm_cli.errors import EngineError
from realm_cli.protocols import (
    Completion,
    Generator,
    GenRequest,
    Member,
    RlJob,
    SamplingParams,
    Scored,
    sampled,
    teaches,
)
from realm_cli.recipe import EngineConfig, TrainRlConfig
from realm_cli.records import PlanRow

Group = tuple[PlanRow, list[Completion], list[Scored]]
ROW_NORMED = ("dr_grpo", "grpo", "sapo")  # losses that divide by the rows of a batch
TOKEN_NORMED = ("dapo", "cispo")  # losses that divide by the tokens of the step
BEST_FILE = "best.json"
LOSSES, COUNTS = ("loss_policy", "loss_bridge", "loss_members"), ("rows_trained", "rows_bridge", "rows_members")
SUMS = (*LOSSES, *COUNTS, "gap", "known", "entropy", "tokens")  # of a step, over all processes


def _scored_by_job(**kwargs: Any) -> list[float]:
    """TRL asks for a reward function at construction; ours is `job.score`, so this one is never called."""
    raise EngineError("rewards come from job.score")


class StepTrainer(AtomicCheckpoints, TrlTrainer):
    """TRL's GRPOTrainer with our sampling, scoring, micro-batches and bridge in `training_step`."""

    def __init__(
        self,
        job: RlJob,
        loaded: LoadedModel,
        config: TrainRlConfig,
        seed: int,
        engine: EngineConfig,
        team: Team | None = None,
    ) -> None:
        args = trl_arguments(job, config, loaded, seed)
        one_gpu(args)
        rows = list(range(len(job.plan))) or [0]  # a follower has none
        data = Dataset.from_dict({"prompt": [str(row) for row in rows], "row": rows})
        super().__init__(loaded.model, _scored_by_job, args=args, train_dataset=data, processing_class=loaded.tokenizer)
        self.current_gradient_accumulation_steps = 1
        adapter_to_float32(self.model)
        self.job, self.config, self.loaded = job, config, loaded
        self.root = Path(args.output_dir)
        self.team, self.trained = team, [p for p in self.model.parameters() if p.requires_grad]
        own = LocalGenerator(loaded, engine.batch_rows, shared=engine.shared_prefix, kv_gib=engine.kv_gib)
        self.generator: Generator = own if team is None else SharedGenerator(own, team, self.trained)
        self.params = SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature, seed=seed)
        self.best: dict[str, float] = {"best_step": -1, "dev_bare": float("-inf")}
        self.groups: list[Group] = []
        self.discarded: list[Group] = []  # sampled in this step, without variance, replaced
        self.parts: dict[str, float] = {}  # metrics of the step under way
        self.micro_tokens, self.longest = config.micro_tokens, 1  # in one pass; tokens of the step's longest row
        self.clock = 0.0
        self.last_metrics: dict[str, Any] = {}
        self.ends = tuple(end_ids(loaded.tokenizer, self.model))
        self._packs: Sequence[Pack] = []  # of the micro-batch under way
        self._logps: torch.Tensor | None = None
        self.shared = shares_prefix(self.model, engine.shared_prefix)
        self.remove_callback(PrinterCallback)
        self.add_callback(UpdateGuard(self))
        self.add_callback(RlStepEnd(self))

    # --- one step ---------------------------------------------------------------------------------------------

    def training_step(self, model: Any, inputs: list[dict[str, Any]], num_items_in_batch: Any = None) -> torch.Tensor:
        """Sample, score, and accumulate the step's gradient. `inputs`: plan row indices, each repeated G times."""
        plan = [self._revised(self.job.plan[item["row"]]) for item in inputs[:: self.job.group_size]]
        self.parts, self.discarded = {"seconds_sample": 0.0, "seconds_score": 0.0}, []
        self.groups = self._refilled(self._scored(plan), list(self.job.spares.get(plan[0].step, ())))
        self.clock = time.perf_counter()
        if self.team is not None:
            self.team.tell(UPDATE, self.groups)
        return self._make_gradient(model)

    def _make_gradient(self, model: Any) -> torch.Tensor:
        """The loss and the gradient of the step's groups: of this process's share, then added up over all."""
        model.train()

        def backward(tokens: int) -> torch.Tensor:
            self.micro_tokens = tokens
            self._metrics["train"].clear()
            self.model.zero_grad(set_to_none=True)  # what an attempt before left
            return self._policy_backward(model) + self._bridge_backward(model) + self._members_backward(model)

        setting = "train_rl.micro_tokens"
        loss, _ = with_less(backward, self.micro_tokens, least=lambda: self.longest, setting=setting)
        for parameter in self.trained:  # nothing to learn: a zero gradient, so AdamW's momentum runs on
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        sums = {"loss": float(loss)} | {key: float(self.parts.pop(key)) for key in SUMS}
        if self.team is not None:
            sums = self.team.add_up_step(self.trained, sums)
            self.generator.stale = True  # type: ignore[attr-defined]
        gap, known, entropy, tokens = (sums.pop(key) for key in SUMS[-4:])
        loss = torch.tensor(sums.pop("loss"), device=self.args.device) if self.team else loss
        self.parts |= sums | ({"entropy": entropy / tokens} if tokens else {})
        self.parts |= {"sampler_trainer_gap": gap / known} if known else {}
        return loss

    def follow(self) -> None:
        """Sample and differentiate what the lead sends, until it ends."""
        assert self.team is not None and isinstance(self.generator, SharedGenerator)
        if self.config.grad_checkpointing:  # which Trainer.train does for the lead
            self.model.gradient_checkpointing_enable(self.args.gradient_checkpointing_kwargs)
        while (message := self.team.hear())[0] != END:
            if message[0] == SAMPLE:
                sample_share(self.generator.own, self.team, self.trained, *message[1:])
            else:
                self.parts, self.groups = {}, message[1]
                self._make_gradient(self.model)
        self.team.leave()

    def _mine(self) -> list[Group]:
        """The groups whose gradient this process makes."""
        return [group for i, group in enumerate(self.groups) if self.team is None or self.team.mine(i)]

    def _scored(self, plan: Sequence[PlanRow]) -> list[Group]:
        """Samples of these rows and what they earn; the time it takes is added to the step's."""
        start = time.perf_counter()
        completions = self._sample(plan)
        sampled = time.perf_counter()
        groups = [(row, done, self.job.score(row, done)) for row, done in zip(plan, completions, strict=True)]
        self.parts["seconds_sample"] += sampled - start
        self.parts["seconds_score"] += time.perf_counter() - sampled
        return groups

    def _refilled(self, groups: list[Group], spares: list[PlanRow]) -> list[Group]:
        """Groups that teach nothing make room for spare rows, as far as these have any (DAPO 2503.14476)."""
        while spares and (dead := [i for i, group in enumerate(groups) if not self.teaches(group)]):
            taken = [spares.pop(0) for _ in dead[: len(spares)]]
            found = self._scored([self._revised(row) for row in taken])
            places = iter(dead)
            for group in found:
                if not self.teaches(group):
                    self.discarded.append(group)
                    continue
                place = next(places)
                self.discarded.append(groups[place])
                groups[place] = group
        self.parts["groups_discarded"] = float(len(self.discarded))
        return groups

    def teaches(self, group: tuple[PlanRow, Sequence[Completion], Sequence[Scored]]) -> bool:
        """Whether any term of the loss has something of this group."""
        plan, _, scored = group
        return teaches(scored, self._members(plan, scored))

    def _members(self, plan: PlanRow, scored: Sequence[Scored]) -> Sequence[Member]:
        return self.job.members(plan, scored) if self.config.routes_in_group and not plan.routed else ()

    def _revised(self, row: PlanRow) -> PlanRow:
        return fitted(self.job.revise(row), self.job, self.loaded.tokenizer, positions_of(self.model))

    def _sample(self, plan: Sequence[PlanRow]) -> list[list[Completion]]:
        """G completions per row, from the live policy; seeds from (seed, plan id, sample)."""
        requests = [GenRequest(key=row.id, messages=row.messages, n=self.job.group_size) for row in plan]
        done: dict[int, list[Completion]] = dict(sampled(self.generator, requests, self.params))
        return [done[i] for i in range(len(plan))]

    def _with_end(self, completion: Completion) -> tuple[int, ...]:
        """The sampled ids with the end-of-turn token, which is a sampled token as well."""
        ids = completion.token_ids
        return ids if ids and ids[-1] in self.ends else (*ids, self.ends[0])

    def _policy_backward(self, model: Any) -> torch.Tensor:
        rows: list[TokenRow] = []
        tokens = sum(len(self._with_end(c)) for _, done, _ in self.groups for c in done if not c.truncated)
        for plan, completions, scored in self._mine():
            own: list[TokenRow] = []
            prompt = tuple(encode_prompt(self.loaded.tokenizer, plan.messages))
            for completion, s in zip(completions, scored, strict=True):
                if completion.truncated:
                    continue
                ids = self._with_end(completion)
                if s.sample.advantage != 0 or self.beta != 0:
                    own.append(TokenRow(prompt, ids, s.sample.advantage, completion.logprobs))
            rows += self._signalled(model, plan, own)
        self.longest = max((len(row.prompt_ids) + len(row.completion_ids) for row in rows), default=1)
        step_rows = len(self.groups) * self.job.group_size
        per_row = self.loss_type in ROW_NORMED
        self.norm = float(step_rows * self.max_completion_length if self.loss_type == "dr_grpo" else max(tokens, 1))
        total = torch.zeros((), device=self.args.device)
        gap = live = 0.0
        trained: list[float] = []  # tokens of each pass
        for packs in micro_batches(rows, self.micro_tokens, shared=self.shared):
            batch = self._tensors(packs, tokens)
            loss = self._compute_loss(model, batch) * (len(batch["advantages"]) / step_rows if per_row else 1.0)
            self.accelerator.backward(loss)
            total += loss.detach()
            mask, known = batch["completion_mask"], batch["sampling_per_token_logps"]
            gap += float(((self._logps - known).abs() * mask).nan_to_num().sum())
            live += float((mask * known.isfinite()).sum())
            trained.append(float(mask.sum()))
        entropy = [n * value for n, value in zip(trained, self._metrics["train"].get("entropy") or [], strict=False)]
        self.parts |= {"gap": gap, "known": live, "entropy": sum(entropy), "tokens": sum(trained[: len(entropy)])}
        self._metrics["train"].clear()
        self.parts |= {"loss_policy": float(total), "rows_trained": len(rows)}
        return total

    def _signalled(self, model: Any, plan: PlanRow, rows: list[TokenRow]) -> list[TokenRow]:
        """The rows of one group with the token signal, where it is on and there are routes to read it from."""
        contrast = self.job.contrast(plan) if self.config.token_signal and rows and not plan.routed else None
        if contrast is None:
            return rows
        tokenizer = self.loaded.tokenizer
        tokens, pad = self.micro_tokens, pad_id_of(tokenizer)
        return signalled(model, rows, contrast, tokenizer, pad, micro_tokens=tokens, shared=self.shared)

    def _bridge_backward(self, model: Any) -> torch.Tensor:
        beta, rows = self.config.bridge.beta, []
        if beta:
            groups = [(plan, scored) for plan, _, scored in self._mine()]
            rows = bridge_rows(self.loaded.tokenizer, groups, self.job.bare_messages)
        return self._beside(model, rows, beta, "bridge")

    def _members_backward(self, model: Any) -> torch.Tensor:
        beta, rows = self.config.routes_in_group, []
        for plan, _, scored in self._mine():
            members = self._members(plan, scored)
            rows += member_rows(self.loaded.tokenizer, self.job.bare_messages, plan, members) if members else []
        return self._beside(model, rows, beta, "members")

    def _beside(self, model: Any, rows: Sequence[TokenRow], beta: float, name: str) -> torch.Tensor:
        """Backward pass of a term on rows that were not sampled from their prompt; `name` is that of its metrics."""
        total = torch.zeros((), device=self.args.device)
        for packs in micro_batches(rows, self.micro_tokens, shared=self.shared):
            ratio, pad = self.config.bridge.max_ratio, pad_id_of(self.loaded.tokenizer)
            loss = bridge_loss(model, packs, pad, self.norm, beta, shared=self.shared, max_ratio=ratio)
            self.accelerator.backward(loss)
            total += loss.detach()
        self.parts[f"loss_{name}"] = float(total)
        self.parts[f"rows_{name}"] = len(rows)
        return total

    def _tensors(self, packs: Sequence[Pack], tokens: int) -> dict[str, torch.Tensor]:
        """What TRL's `_compute_loss` reads, B rows; `sampling_per_token_logps` is (B, C), NaN where unknown."""
        device = self.args.device
        chunk = [row for pack in packs for row in pack]
        batch = pad_rows(chunk, pad_id_of(self.loaded.tokenizer), device)
        known = torch.full(batch.completion_ids.shape, float("nan"), device=device)
        for i, row in enumerate(chunk):
            if row.logprobs:
                known[i, : len(row.logprobs)] = torch.tensor(row.logprobs, device=device)
        out = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        out["advantages"] = torch.tensor([row.weight for row in chunk], device=device)
        if any(row.factors for row in chunk):
            out["advantages"] = out["advantages"][:, None].repeat(1, batch.completion_ids.size(1))
            for i, row in enumerate(chunk):
                out["advantages"][i, : len(row.factors)] *= torch.tensor(row.factors, device=device)
        out["num_items_in_batch"] = torch.tensor(float(tokens), device=device)
        out["sampling_per_token_logps"] = known
        self._packs = packs
        if self.beta != 0:
            name = "ref" if "ref" in self.model.peft_config else None
            with torch.no_grad(), use_adapter(self.accelerator.unwrap_model(self.model), adapter_name=name):
                out["ref_per_token_logps"] = self._get_per_token_logps_and_entropies(self.model)[0]
        return out

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, compute_entropy: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Of the micro-batch's rows, with shared prompts computed once; TRL's padded ids are not used."""
        pad_id = pad_id_of(self.loaded.tokenizer)
        logps, entropies = row_logprobs(
            model, self._packs, pad_id, shared=self.shared, temperature=self.temperature, entropy=compute_entropy
        )
        self._logps = logps.detach()
        return logps, entropies, None

    # --- around the steps -------------------------------------------------------------------------------------

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        self.parts["grad_norm"] = float(norm)
        return norm

    def _extra_state(self, folder: Path) -> None:
        (folder / BEST_FILE).write_text(json.dumps(self.best), encoding="utf-8")

    def evaluate_policy(self, step: int) -> dict[str, float]:
        """Dev metrics at `step`; keeps the adapter if its `dev_bare` is at least the best so far."""
        start = time.perf_counter()
        metrics = dict(self.job.evaluate(self.generator, step))
        if metrics.get("dev_bare", float("-inf")) >= self.best["dev_bare"]:
            save_adapter(self.model, self.loaded.tokenizer, self.job.out_dir)
            self.best = {"best_step": step, "dev_bare": metrics.get("dev_bare", float("-inf"))}
        return {**metrics, "seconds_eval": time.perf_counter() - start, "best_step": self.best["best_step"]}
