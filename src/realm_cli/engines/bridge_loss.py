"""The bridge: own solutions found with routes, credited to the bare prompt (method.md section 9.1).

    L_bridge = - beta / norm * sum_j w_j sum_t log pi(s_jt | x bare, s_j,<t)

s_j is the own-solution part of routed rollout j with its end-of-turn token, w_j = `sample.bridge_weight`, `norm` the
normaliser of the group's policy loss (dr_grpo: rows of the step x maximal completion length). Probabilities are those
of the model at temperature 1.

Usage: `rows = bridge_rows(tokenizer, groups, job.bare_messages)`; `bridge_loss(model, packs, ...)`

Deviation 1: no importance ratio pi_bare/pi_routed (an option of the section).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from realm_cli.engines.batches import Pack, TokenRow
from realm_cli.engines.loading import encode_completion, encode_prompt
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.protocols import Scored
from realm_cli.records import Message, PlanRow


def bridge_rows(
    tokenizer: Any,
    groups: Iterable[tuple[PlanRow, Sequence[Scored]]],
    bare_messages: Callable[[str], Sequence[Message]],
) -> list[TokenRow]:
    """The solutions to learn from: routed groups only, weight above 0, not truncated, with text.

    The prompt is the bare one, and the completion `bridge_text` alone: neither routes nor check block are in it.
    """
    rows = []
    for plan, scored in groups:
        chosen = [s for s in scored if s.bridge_text and s.sample.bridge_weight > 0 and not s.sample.truncated]
        if not plan.routed or not chosen:
            continue
        prompt = tuple(encode_prompt(tokenizer, bare_messages(plan.problem_id)))
        for s in chosen:
            rows.append(TokenRow(prompt, tuple(encode_completion(tokenizer, s.bridge_text)), s.sample.bridge_weight))
    return rows


def bridge_loss(
    model: Any, packs: Sequence[Pack], pad_id: int, norm: float, beta: float, *, shared: bool
) -> torch.Tensor:
    """L_bridge of the rows in `packs`, a scalar with graph; sums over calls with parts of the rows. None: 0."""
    if not packs:
        return torch.zeros((), device=next(model.parameters()).device)
    logp, _ = row_logprobs(model, packs, pad_id, shared=shared)
    rows = [row for pack in packs for row in pack]
    weights = torch.tensor([row.weight for row in rows], device=logp.device, dtype=logp.dtype)
    return -beta / norm * (logp.sum(-1) * weights).sum()
