"""Log-probabilities of completions, with each prompt computed once (`shared`) or plainly, a padded row a completion.

A shared batch is one row without padding,

    prompt[:-1]  [prompt[-1] c_1]  [prompt[-1] c_2] ...  [prompt[-1] c_G]    next prompt ...

in which a token sees its prompt and its own segment, and positions go on from the prompt (grouped_attention.py). The
last prompt token is repeated so that each completion's first token is predicted from a place of its own.

Logits exist only for completion tokens, and only a piece of them at a time: the gradient of log softmax(h W)[y] with
respect to h, W[y] - softmax(h W) W, is worked out beside the value while the piece is there, and multiplied by what
comes from above in the backward pass. That holds while the head is frozen, as it is under LoRA on linear layers; other
heads go through the model's own. (TRL 1.16 has such a head in trl.kernels, with a third product to work the piece out
again in the backward pass; TRL 1.14, the last for Python 3.10, has none that takes chosen places.)

Usage: `logps, entropies = row_logprobs(model, packs, pad_id, shared=True, entropy=True)`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from realm_cli.engines.batches import Pack, TokenRow, pad_left, positions
from realm_cli.engines.grouped_attention import LAYOUT, NO_MASK, PackedGroup, PackedLayout, causal_model
from realm_cli.engines.vocabulary import unused_ids, without_unused

PIECE_LOGITS = 1 << 24  # logits held at once (64 MiB in float32)
# What some models do to logits beside multiplying: such heads go through the model's own forward.
_SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")


def row_logprobs(
    model: Any,
    packs: Sequence[Pack],
    pad_id: int,
    *,
    shared: bool,
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log pi (nats) of the completion tokens of the packs' rows in order, (B, C), 0 where padded; entropies if asked.

    Differentiable; entropies (B, C) are not.
    """
    rows = [row for pack in packs for row in pack]
    device = next(model.parameters()).device
    inputs, keep = _shared_inputs(packs) if shared else _plain_inputs(rows, pad_id)
    inputs = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    lengths = torch.tensor([len(row.completion_ids) for row in rows])
    targets = torch.tensor([token for row in rows for token in row.completion_ids], device=device)
    values, spread = _scored(causal_model(model), inputs, keep.to(device), targets, temperature, entropy)
    filled = (torch.arange(int(lengths.max())) < lengths[:, None]).to(device)
    empty = values.new_zeros(filled.shape)
    logps = empty.masked_scatter(filled, values)
    return logps, None if spread is None else empty.masked_scatter(filled, spread)


def _shared_inputs(packs: Sequence[Pack]) -> tuple[dict[str, Any], torch.Tensor]:
    """The forward's arguments, and the places (of the flattened row) that predict completion tokens, in order."""
    ids: list[int] = []
    places: list[int] = []
    keep: list[int] = []
    groups = []
    for pack in packs:
        prompt = pack[0].prompt_ids
        start, stem = len(ids), len(prompt) - 1
        ids += prompt[:-1]
        places += range(stem)
        for row in pack:
            keep += range(len(ids), len(ids) + len(row.completion_ids))
            ids += (prompt[-1], *row.completion_ids)
            places += range(stem, stem + 1 + len(row.completion_ids))
        groups.append(PackedGroup(start, stem, tuple(1 + len(row.completion_ids) for row in pack)))
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([places]),
        "attention_mask": NO_MASK,
        LAYOUT: PackedLayout(groups),
    }
    return inputs, torch.tensor(keep)


def _plain_inputs(rows: Sequence[TokenRow], pad_id: int) -> tuple[dict[str, Any], torch.Tensor]:
    ids, mask = pad_left([row.prompt_ids + row.completion_ids for row in rows], pad_id, "cpu")
    keep: list[int] = []
    for i, row in enumerate(rows, 1):
        end = i * ids.size(1) - 1  # the last token predicts nothing
        keep += range(end - len(row.completion_ids), end)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions(mask)}, torch.tensor(keep)


def _scored(
    net: Any, inputs: dict[str, Any], keep: torch.Tensor, targets: torch.Tensor, temperature: float, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log pi (N,) of `targets` at the flattened places `keep`, and entropies (N,)."""
    head = net.get_output_embeddings()
    config = net.config.get_text_config()
    body = getattr(net, net.base_model_prefix, None)
    plain = type(head) is torch.nn.Linear and not head.weight.requires_grad and head.bias is None
    if body is None or not plain or any(getattr(config, name, None) not in (None, 1, 1.0) for name in _SCALED):
        logits = net(**inputs, use_cache=False).logits.flatten(0, 1)[keep].float() / temperature
        logits = without_unused(net, logits)
        logps = logits.log_softmax(-1)
        spread = -(logps.exp() * logps).sum(-1).detach() if entropy else None
        return logps.gather(-1, targets[:, None]).squeeze(-1), spread
    states = body(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)[keep]
    values, spread = _HeadLogprobs.apply(states, head.weight, targets, temperature, entropy, unused_ids(net))
    return values, spread if entropy else None


class _HeadLogprobs(torch.autograd.Function):
    """log softmax(h W^T / T)[y] and entropies, in pieces; the gradient with respect to h is made in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        entropy: bool,
        unused: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.empty(len(states), device=states.device)
        spread = torch.zeros(len(states) if entropy else 0, device=states.device)
        slopes = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        size = max(1, PIECE_LOGITS // weight.size(0))
        for start in range(0, len(states), size):
            span = slice(start, start + size)
            logits = (states[span] @ weight.t()).float()
            if temperature != 1:
                logits /= temperature
            if unused is not None:
                logits.index_fill_(-1, unused, torch.finfo(logits.dtype).min)
            total = logits.logsumexp(-1, keepdim=True)
            values[span] = (logits.gather(-1, targets[span, None]) - total).squeeze(-1)
            if not entropy and slopes is None:
                continue
            probs = (logits - total).exp_()
            if entropy:
                spread[span] = total.squeeze(-1) - torch.linalg.vecdot(probs, logits)
            if slopes is not None:
                mean = probs.to(weight.dtype) @ weight
                slopes[span] = (weight[targets[span]] - mean) / temperature
        if slopes is not None:
            ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(spread)
        return values, spread

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        assert grads[0] is not None
        return (slopes * grads[0][:, None].to(slopes.dtype), None, None, None, None, None)
