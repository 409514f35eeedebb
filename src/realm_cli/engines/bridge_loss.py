"""The bridge: own solutions found with routes, credited to the bare prompt (method.md section 9.1).

    L_bridge = - beta / norm * sum_j w_j sum_t log pi(s_jt | x bare, s_j,<t)

s_j is the own-solution part of routed rollout j with its end-of-turn token, w_j = `sample.bridge_weight`, `norm` the
normaliser of the group's policy loss (dr_grpo: rows of the step x maximal completion length). Probabilities are those
of the model at temperature 1.

Usage: `bridge_loss(model, tokenizer, bridge_rows(tokenizer, groups, job.bare_messages), norm, beta).backward()`

Deviation 1: solutions are scored in plain padded batches, not in one packed shared-prefix forward: bare prompts are
short, so little is lost. Deviation 2: no importance ratio pi_bare/pi_routed (an option of the section).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from realm_cli.engines.loading import encode_completion, encode_prompt
from realm_cli.protocols import Scored
from realm_cli.records import Message, PlanRow


@dataclass(frozen=True)
class TokenRow:
    """A prompt and its completion as token ids, and a weight: the bridge's w_j or the policy's advantage."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    weight: float
    logprobs: tuple[float, ...] = ()  # nats per completion token as sampled, where known

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class TokenBatch:
    """Prompts padded on the left and completions on the right, as TRL wants them. B rows; long tensors."""

    prompt_ids: torch.Tensor  # (B, P)
    prompt_mask: torch.Tensor  # (B, P)
    completion_ids: torch.Tensor  # (B, C)
    completion_mask: torch.Tensor  # (B, C)


LogProbs = Callable[[Any, torch.Tensor, torch.Tensor, int], torch.Tensor]


def pack(rows: Sequence[TokenRow], pad_id: int, device: torch.device | str) -> TokenBatch:
    """Rows as one batch."""
    width = max(len(row.prompt_ids) for row in rows)
    length = max(len(row.completion_ids) for row in rows)
    gaps = [(width - len(row.prompt_ids), length - len(row.completion_ids)) for row in rows]

    def tensor(values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return TokenBatch(
        tensor([[pad_id] * left + list(row.prompt_ids) for row, (left, _) in zip(rows, gaps, strict=True)]),
        tensor([[0] * left + [1] * (width - left) for left, _ in gaps]),
        tensor([list(row.completion_ids) + [pad_id] * right for row, (_, right) in zip(rows, gaps, strict=True)]),
        tensor([[1] * (length - right) + [0] * right for _, right in gaps]),
    )


def pad_id_of(tokenizer: Any) -> int:
    """The id to pad with; padding is masked everywhere, so the end-of-sequence id serves where there is none."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.eos_token_id or 0)


def positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Position ids that do not count padding, (B, T)."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def completion_logits(model: Any, input_ids: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """Logits that predict the last `keep` tokens, (B, keep, V). The LM head runs on those positions only."""
    out = model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=positions(mask),
        logits_to_keep=keep + 1,
        use_cache=False,
    )
    return out.logits[:, -keep - 1 : -1]


def completion_logprobs(model: Any, input_ids: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """log pi of the last `keep` tokens at temperature 1, nats, (B, keep)."""
    logits = completion_logits(model, input_ids, mask, keep).float()
    picked = torch.gather(logits, -1, input_ids[:, -keep:, None]).squeeze(-1)
    return picked - torch.logsumexp(logits, -1)


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
    model: Any,
    tokenizer: Any,
    rows: Sequence[TokenRow],
    norm: float,
    beta: float,
    logprobs: LogProbs = completion_logprobs,
) -> torch.Tensor:
    """L_bridge of these rows, a scalar with graph; sums over calls with parts of the rows. No rows: 0 without graph."""
    device = next(model.parameters()).device
    if not rows:
        return torch.zeros((), device=device)
    batch = pack(rows, pad_id_of(tokenizer), device)
    input_ids = torch.cat([batch.prompt_ids, batch.completion_ids], dim=1)
    mask = torch.cat([batch.prompt_mask, batch.completion_mask], dim=1)
    logp = logprobs(model, input_ids, mask, batch.completion_ids.size(1))
    weights = torch.tensor([row.weight for row in rows], device=device, dtype=logp.dtype)
    return -beta / norm * ((logp * batch.completion_mask).sum(-1) * weights).sum()


def micro_batches(rows: Sequence[TokenRow], size: int, waste: float = 1.25) -> list[list[TokenRow]]:
    """Rows by length in batches of at most `size` rows; a batch ends early where padding would exceed `waste`.

    Batches under 512 tokens are filled regardless: there a forward's fixed cost outweighs the padding.
    """
    batches: list[list[TokenRow]] = []
    tokens = width = length = 0
    for row in sorted(rows, key=lambda row: (len(row.prompt_ids), len(row.completion_ids))):
        width_1, length_1 = max(width, len(row.prompt_ids)), max(length, len(row.completion_ids))
        open_ = bool(batches) and len(batches[-1]) < size
        padded = (width_1 + length_1) * (len(batches[-1]) + 1) if open_ else 0
        if not open_ or (tokens >= 512 and padded > waste * (tokens + row.length)):
            batches.append([])
            tokens, width_1, length_1 = 0, len(row.prompt_ids), len(row.completion_ids)
        batches[-1].append(row)
        tokens, width, length = tokens + row.length, width_1, length_1
    return batches
