"""What the policy does before training (protocols.Probe): completions, and the trainer's view of them.

Usage: `probe(loaded, rows, 8, config, engine, seed)`; global random states are left as they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from realm_cli.engines.batches import TokenRow, micro_batches, pad_id_of
from realm_cli.engines.chat import encode_prompt, end_ids
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.self_check import shares_prefix
from realm_cli.protocols import GenRequest, Probe, SamplingParams, sampled
from realm_cli.recipe import EngineConfig, TrainRlConfig
from realm_cli.records import PlanRow


def probe(
    loaded: LoadedModel, rows: Sequence[PlanRow], n: int, config: TrainRlConfig, engine: EngineConfig, seed: int
) -> Probe:
    """n completions a row, as a step would sample them, and how the trainer's log-probabilities differ. EngineError."""
    generator = LocalGenerator(loaded, engine.batch_rows, shared=engine.shared_prefix, kv_gib=engine.kv_gib)
    params = SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature, seed=seed)
    requests = [GenRequest(f"preflight/{row.id}", row.messages, n) for row in rows]
    with torch.random.fork_rng():
        done = dict(sampled(generator, requests, params))
        completions = [done[i] for i in range(len(rows))]
        ends = end_ids(loaded.tokenizer, loaded.model)
        trained = [
            TokenRow(tuple(encode_prompt(loaded.tokenizer, row.messages)), c.token_ids, 1.0, c.logprobs)
            for row, group in zip(rows, completions, strict=True)
            for c in group
            if not c.truncated and c.token_ids
        ]
        if not trained:
            return Probe(completions)
        gap = _gap(loaded, trained, config, engine)
    ended = sum(row.completion_ids[-1] in ends for row in trained) / len(trained)
    return Probe(completions, gap, ended)


def _gap(loaded: LoadedModel, rows: Sequence[TokenRow], config: TrainRlConfig, engine: EngineConfig) -> float | None:
    """Mean |log pi of the trainer - log pi of the sampler| over the sampled tokens, nats."""
    shared, pad = shares_prefix(loaded.model, engine.shared_prefix), pad_id_of(loaded.tokenizer)
    total, tokens = 0.0, 0
    with torch.no_grad():
        for packs in micro_batches(rows, config.micro_tokens, shared=shared):
            logps, _ = row_logprobs(loaded.model, packs, pad, shared=shared, temperature=config.temperature)
            for i, row in enumerate(row for pack in packs for row in pack):
                known = torch.tensor(row.logprobs)
                total += float((logps[i, : len(known)].cpu() - known).abs().sum())
                tokens += len(known)
    return total / tokens if tokens else None
