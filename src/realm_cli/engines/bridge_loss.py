"""The bridge: own solutions found with routes, credited to the bare prompt (method.md section 9.1).

    L_bridge = - beta / norm * sum_j w_j sum_t u_jt log pi(s_jt | x bare, s_j,<t)

s_j is the own-solution part of routed rollout j with its end-of-turn token, w_j = `sample.bridge_weight`, `norm` the
normaliser of the group's policy loss (dr_grpo: rows of the step x maximal completion length). Probabilities are those
of the model at temperature 1.

Usage: `rows = bridge_rows(tokenizer, groups, job.bare_messages)`; `bridge_loss(model, packs, ...)`

u_jt is 1, but for two options: with `max_ratio` it is min(pi_bare / pi_routed, max_ratio), pi_routed as sampled (where
the solution's tokens are the tail of the completion's; else 1); tokens of a solution with negative weight (`negatives`)
count only where pi_bare > .1, so that what the bare model would not say is not pushed down further. No gradient runs
through u.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from realm_cli.engines.batches import Pack, TokenRow
from realm_cli.engines.chat import encode_chat, encode_completion, prompt_for
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.protocols import Member, Scored
from realm_cli.records import Message, PlanRow

LIKELY = 0.1  # negatives: probability under the bare prompt above which a token is pushed down


def bridge_rows(
    tokenizer: Any,
    groups: Iterable[tuple[PlanRow, Sequence[Scored]]],
    bare_messages: Callable[[str], Sequence[Message]],
) -> list[TokenRow]:
    """The solutions to learn from: routed groups only, weight not 0, not truncated, with text.

    The prompt is the bare one, and the completion `bridge_text` alone: neither routes nor check block are in it.
    """
    rows = []
    for plan, scored in groups:
        chosen = [s for s in scored if s.bridge_text and s.sample.bridge_weight != 0 and not s.sample.truncated]
        if not plan.routed or not chosen:
            continue
        messages = bare_messages(plan.problem_id)
        for s in chosen:
            prompt, ids = (tuple(part) for part in encode_chat(tokenizer, messages, s.bridge_text))
            rows.append(TokenRow(prompt, ids, s.sample.bridge_weight, _as_sampled(s, ids)))
    return rows


def member_rows(
    tokenizer: Any, bare: Callable[[str], Sequence[Message]], plan: PlanRow, members: Iterable[Member]
) -> list[TokenRow]:
    """External routes as rows of the bare prompt; the loss begins after a member's context (method/members.py)."""
    messages, rows = bare(plan.problem_id), []
    for member in members:
        prompt, text = prompt_for(tokenizer, messages, member.text)
        start = max(0, member.start - len(member.text) + len(text))  # without a <think> that the chat template wrote
        given = len(text) < len(member.text)
        before = encode_completion(tokenizer, text[:start], continued=given, whole=False) if start else []
        ids = encode_completion(tokenizer, text[start:], continued=given or start > 0, whole=member.whole)
        rows.append(TokenRow(tuple(prompt), (*before, *ids), member.weight, start=len(before)))
    return rows


def _as_sampled(scored: Scored, ids: tuple[int, ...]) -> tuple[float, ...]:
    """Log-probabilities under the routed prompt, where the solution is the tail of what was sampled; else ()."""
    own, logprobs = scored.token_ids, scored.logprobs
    for tail in (ids, ids[:-1]):  # the end-of-turn token may not have been sampled
        if tail and len(own) == len(logprobs) and own[-len(tail) :] == tail:
            return (*logprobs[-len(tail) :], *([float("nan")] * (len(ids) - len(tail))))
    return ()


def bridge_loss(
    model: Any,
    packs: Sequence[Pack],
    pad_id: int,
    norm: float,
    beta: float,
    *,
    shared: bool,
    max_ratio: float | None = None,
) -> torch.Tensor:
    """L_bridge of the rows in `packs`, a scalar with graph; sums over calls with parts of the rows. None: 0."""
    if not packs:
        return torch.zeros((), device=next(model.parameters()).device)
    logp, _ = row_logprobs(model, packs, pad_id, shared=shared)
    rows = [row for pack in packs for row in pack]
    weights = torch.tensor([row.weight for row in rows], device=logp.device, dtype=logp.dtype)
    factors = token_factors(logp.detach(), rows, max_ratio)
    return -beta / norm * ((logp * factors).sum(-1) * weights).sum()


def token_factors(logp: torch.Tensor, rows: Sequence[TokenRow], max_ratio: float | None) -> torch.Tensor:
    """u_jt of every token, (B, C) like `logp`: see the module."""
    factors = torch.ones_like(logp)
    for j, row in enumerate(rows):
        if max_ratio is not None and row.logprobs:
            routed = torch.tensor(row.logprobs, device=logp.device, dtype=logp.dtype)
            ratio = (logp[j, : len(routed)] - routed).exp().clamp(max=max_ratio)
            factors[j, : len(routed)] = torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio))
        if row.weight < 0:
            factors[j] *= logp[j] > math.log(LIKELY)
        factors[j, : row.start] = 0
    return factors
