"""Attention in which a prompt is computed once for all its completions: exact, for training and for sampling.

A *layout* says which token sees which; it travels through a model's forward as the keyword argument LAYOUT and arrives
here, because we are registered as an attention implementation of transformers:

    packed   one row   prompt  c_1  c_2 ... c_G   prompt  c_1 ...   a token sees its prompt and its own segment so far
    decode   B rows of one new token each (engines/cache.py)        each sees its prompt and its own row so far

Keys of a prompt and of a row's own tokens are two parts of one softmax: each part gives an output and the logarithm of
its sum, z; the whole is sum_i exp(z_i - z) o_i with z = log sum_i exp(z_i). The backward pass needs no more than the
whole's output and z, given which the parts are independent (as in FlashAttention, 2205.14135, section 3.1). On the CPU
each part is torch's flash kernel; elsewhere, and where a sliding window is shorter than the text, a group is one SDPA
call with a mask, which is as exact and slower.

Usage: `use_grouped_attention(model)`; `model(ids, position_ids=..., attention_mask=NO_MASK, use_cache=False,
**{LAYOUT: PackedLayout(...)})`. Without a layout the model's attention is what it was: SDPA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from peft import PeftModel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "realm_grouped"
LAYOUT = "prefix_layout"
NO_MASK = torch.empty(1, 1, 1, 1)  # four dimensions: transformers hands it on and builds no mask of its own
_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_BACKWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


class Layout(Protocol):
    """What `grouped_attention` asks: the attention of one layer."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Query (B, H, T, d), key and value (B, H_kv, T, d) of the new tokens -> outputs (B, H, T, d)."""


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The registered function: a layout's attention where one is given, else transformers' SDPA. (B, T, H, d)."""
    layout: Layout | None = kwargs.pop(LAYOUT, None)
    if layout is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out, None
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    out = layout.attend(int(module.layer_idx), query, key, value, scale, kwargs.get("sliding_window"))  # type: ignore[arg-type]
    return out.transpose(1, 2), None


AttentionInterface.register(NAME, grouped_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def causal_model(model: Any) -> Any:
    """The language model itself, with LoRA layers in place, without PEFT's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def why_not(model: Any) -> str | None:
    """What in this model's attention we do not serve; None where a layout can be used."""
    net = causal_model(model)
    config = net.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"{' and '.join(sorted(kinds))} layers"
    if config._attn_implementation not in ("sdpa", NAME):
        return f"attention implementation {config._attn_implementation}"
    if not getattr(net, "_supports_attention_backend", False):
        return f"{type(net).__name__} does not use transformers' attention interface"
    if not (hasattr(config, "rope_parameters") or hasattr(config, "rope_theta")):
        return "positions other than rotary ones"
    if getattr(config, "attn_logit_softcapping", None):
        return "capped attention scores"
    if getattr(config, "num_kv_shared_layers", 0):
        return "layers that share keys and values"
    return None


def use_grouped_attention(model: Any) -> None:
    """Route the model's attention through `grouped_attention`; its plain forward passes stay as they are."""
    causal_model(model).set_attn_implementation(NAME)


def part(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over one part of the keys, without gradient: outputs (N, h, m, d) and their log-sums (N, h, m).

    query (N, h, m, d), key and value (N, h, n, d); mask: added to the scores, finite (see `hidden`).
    """
    if query.device.type == "cpu" and _FLASH is not None and query.size(-1) == value.size(-1):
        out, total = _FLASH(query, key, value, 0.0, False, attn_mask=mask, scale=scale)
        return out, total
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores = scores + mask
    total = scores.logsumexp(-1)
    return (scores - total[..., None]).exp().to(value.dtype) @ value, total


def merge(
    one: tuple[torch.Tensor, torch.Tensor], two: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two parts of one softmax, as outputs (..., d) and log-sums (...), put together."""
    total = torch.logaddexp(one[1], two[1])
    out = one[0] * (one[1] - total).exp()[..., None] + two[0] * (two[1] - total).exp()[..., None]
    return out.to(one[0].dtype), total


def hidden(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add: 0 where `seen`, else half of the least number: exp gives 0, and nothing turns into NaN."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min / 2)


@dataclass(frozen=True)
class PackedGroup:
    """A prompt of `prompt` tokens from index `start` of the row on, and its completions' lengths, in order."""

    start: int
    prompt: int
    lengths: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of prompt and completions."""
        return self.prompt + sum(self.lengths)

    @cached_property
    def pad(self) -> torch.Tensor:
        """(G, longest) indices of each completion's tokens among the completions' tokens; past its end, the last."""
        ends = torch.tensor(self.lengths).cumsum(0)
        steps = torch.arange(max(self.lengths))
        return torch.minimum((ends - torch.tensor(self.lengths))[:, None] + steps, ends[:, None] - 1)

    @cached_property
    def valid(self) -> torch.Tensor:
        """(G, longest): which of `pad` are tokens."""
        return torch.arange(max(self.lengths)) < torch.tensor(self.lengths)[:, None]

    @cached_property
    def even(self) -> bool:
        """All completions are equally long."""
        return len(set(self.lengths)) == 1


@dataclass(frozen=True)
class PackedLayout:
    """Groups one after another in a batch of one row; `kept`, if given, takes (key, value) of each layer in order."""

    groups: Sequence[PackedGroup]
    kept: list[tuple[torch.Tensor, torch.Tensor]] | None = field(default=None, compare=False)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """See `Layout`; B = 1. Differentiable in query, key and value."""
        if self.kept is not None:
            self.kept.append((key, value))
        longest = max(group.prompt + max(group.lengths, default=0) for group in self.groups)
        short = window is not None and window < longest
        flash = _FLASH is not None and query.device.type == "cpu" and query.size(-1) == value.size(-1)
        if flash and not short:
            out: torch.Tensor = _PackedFlash.apply(query, key, value, self.groups, scale)
            return out
        outs = []
        for group in self.groups:
            span = slice(group.start, group.start + group.tokens)
            q, k, v = query[:, :, span], key[:, :, span], value[:, :, span]
            seen = packed_mask(group, window if short else None).to(query.device)
            k, v = (repeat_kv(x, q.size(1) // x.size(1)) for x in (k, v))
            outs.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale))
        return torch.cat(outs, dim=2)


def packed_mask(group: PackedGroup, window: int | None = None) -> torch.Tensor:
    """(T, T) bool of one group: earlier or equal, of the prompt or the own completion, within the window."""
    segment = torch.repeat_interleave(
        torch.arange(len(group.lengths) + 1), torch.tensor([group.prompt, *group.lengths])
    )
    position = torch.cat(
        [torch.arange(group.prompt), *(torch.arange(group.prompt, group.prompt + n) for n in group.lengths)]
    )
    size = len(segment)
    seen = torch.ones(size, size, dtype=torch.bool).tril()
    seen &= (segment == segment[:, None]) | (segment == 0)
    return seen if window is None else seen & (position[:, None] - position < window)


def _fold(states: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """(1, H, T, ...) -> (1, H_kv, H / H_kv * T, ...): all queries that read one key/value head."""
    return states.reshape(1, kv_heads, -1, *states.shape[3:])


def _segments(states: torch.Tensor, group: PackedGroup) -> torch.Tensor:
    """(1, h, C, ...) of a group's completions -> (G, h, longest, ...), padded at the end."""
    if group.even:
        return states[0].unflatten(1, (len(group.lengths), -1)).transpose(0, 1)
    return states[0][:, group.pad].transpose(0, 1)


def _joined(states: torch.Tensor, group: PackedGroup) -> torch.Tensor:
    """The inverse of `_segments`: (G, h, longest, ...) -> (1, h, C, ...)."""
    return states.transpose(0, 1)[:, group.valid][None]


class _PackedFlash(torch.autograd.Function):
    """A packed row's attention from flash parts: prompts; completions to prompts; completions to themselves."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, groups: Sequence[PackedGroup], scale: float
    ) -> torch.Tensor:
        kv, repeat = k.size(1), q.size(1) // k.size(1)
        out = q.new_empty(1, q.size(2), q.size(1), v.size(3)).transpose(1, 2)
        total = torch.empty(q.shape[:3], dtype=torch.float32)
        for group in groups:
            p, c = _spans(group)
            if group.prompt:
                out[:, :, p], total[:, :, p] = _FLASH(
                    q[:, :, p], repeat_kv(k[:, :, p], repeat), repeat_kv(v[:, :, p], repeat), 0.0, True, scale=scale
                )
            if group.lengths:
                qs, ks, vs = (_segments(x[:, :, c], group) for x in (q, k, v))
                own = _FLASH(qs, repeat_kv(ks, repeat), repeat_kv(vs, repeat), 0.0, True, scale=scale)
                o, z = (_joined(x, group) for x in own)
                if group.prompt:
                    o1, z1 = _FLASH(_fold(q[:, :, c], kv), k[:, :, p], v[:, :, p], 0.0, False, scale=scale)
                    o, z = merge((o1.reshape(o.shape), z1.reshape(z.shape)), (o, z))
                out[:, :, c], total[:, :, c] = o, z
        ctx.save_for_backward(q, k, v, out, total)
        ctx.groups, ctx.scale = groups, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, total = ctx.saved_tensors
        (grad,) = grads
        heads, kv, repeat = q.size(1), k.size(1), q.size(1) // k.size(1)
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)

        def back(causal: bool, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found: tuple[torch.Tensor, ...] = _FLASH_BACKWARD(*tensors, 0.0, causal, scale=ctx.scale)
            return found

        for group in ctx.groups:
            p, c = _spans(group)
            prompt = k[:, :, p], v[:, :, p]
            if group.prompt:
                dq[:, :, p], gk, gv = back(
                    True,
                    grad[:, :, p],
                    q[:, :, p],
                    *(repeat_kv(x, repeat) for x in prompt),
                    out[:, :, p],
                    total[:, :, p],
                )
                dk[:, :, p] += _summed(gk, kv)
                dv[:, :, p] += _summed(gv, kv)
            if group.lengths:
                if group.prompt:
                    g, query, o, z = (_fold(x[:, :, c], kv) for x in (grad, q, out, total))
                    gq, gk, gv = back(False, g, query, *prompt, o, z)
                    dq[:, :, c] += gq.reshape(1, heads, -1, q.size(3))
                    dk[:, :, p] += gk
                    dv[:, :, p] += gv
                g, query, o, z, key, value = (_segments(x[:, :, c], group) for x in (grad, q, out, total, k, v))
                if not group.even:
                    g = g * group.valid[:, None, :, None]  # a padded query asks nothing of the keys
                found = back(True, g, query, repeat_kv(key, repeat), repeat_kv(value, repeat), o, z)
                dq[:, :, c] += _joined(found[0], group)
                dk[:, :, c] += _joined(_summed(found[1], kv), group)
                dv[:, :, c] += _joined(_summed(found[2], kv), group)
        return dq, dk, dv, None, None


def _spans(group: PackedGroup) -> tuple[slice, slice]:
    """Where the prompt and the completions stand in the row."""
    middle = group.start + group.prompt
    return slice(group.start, middle), slice(middle, group.start + group.tokens)


def _summed(states: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """(B, H, T, d) -> (B, H_kv, T, d): the inverse of `repeat_kv` for gradients."""
    return states.unflatten(1, (kv_heads, -1)).sum(2) if states.size(1) > kv_heads else states
