"""Drawing the next token: greedy, or by inverting the cumulative distribution at a given uniform number.

Row i of a request draws from its own Philox stream, keyed by SHA-256 of (seed, request key, sample index), one uniform
per token. The distribution is inverted in vocabulary order: in order of probability, a rounding error could swap two
tokens that are nearly as probable. Filters in this order: temperature, top-k, top-p (the smallest set that reaches the
mass), min-p (relative to the top).

Usage: `chosen, logprobs = choose(logits, params, uniforms)`
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from realm_cli.protocols import SamplingParams

CANDIDATES = (64, 1024)  # top-p sorts this many tokens, and all of them only where these do not reach the mass
PIECE = 256  # tokens whose probabilities are summed before the cumulative sum


def choose(
    logits: torch.Tensor, params: SamplingParams, uniforms: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token (B,) and its log-probability (B,) from logits (B, V) and uniforms (B,) in [0, 1); None = greedy.

    The log-probability is that of the full softmax at the given temperature, before any filter; greedy: at 1.
    """
    if uniforms is None:
        best, chosen = logits.max(-1)
        return chosen, best - logits.logsumexp(-1)
    scaled = logits if params.temperature == 1 else logits / params.temperature
    mass = (scaled - scaled.amax(-1, keepdim=True)).exp_()
    total = mass.sum(-1, keepdim=True)
    filtered = 0 < params.top_k < logits.size(-1) or params.top_p < 1 or params.min_p > 0
    chosen = _inverse(_filtered(scaled.log_softmax(-1).exp(), params) if filtered else mass, uniforms)
    return chosen, mass.gather(-1, chosen[:, None]).div(total).log().squeeze(-1)


def _inverse(mass: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The token (B,) at which the cumulative sum of mass (B, V) passes `uniforms` (B,) of the whole.

    Two stages, pieces of the vocabulary and then tokens, since a cumulative sum over all of it in float64 is slow.
    """
    short = -mass.size(-1) % PIECE
    pieces = (torch.nn.functional.pad(mass, (0, short)) if short else mass).unflatten(-1, (-1, PIECE))
    ends = pieces.sum(-1).double().cumsum(-1)
    target = uniforms.double() * ends[:, -1]
    piece, before = _passed(ends, target)
    inner = pieces[torch.arange(len(mass), device=mass.device), piece].double().cumsum(-1)
    token, _ = _passed(inner, target - before)
    return piece * PIECE + token


def _passed(ends: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First index (B,) whose cumulative sum is above the target, and the sum before it; never one without mass."""
    below = torch.nextafter(ends[:, -1], torch.zeros_like(target))
    index = torch.searchsorted(ends, torch.minimum(target.clamp(min=0), below)[:, None], right=True)
    before = torch.where(index > 0, ends.gather(-1, (index - 1).clamp(min=0)), 0.0)
    return index.squeeze(-1), before.squeeze(-1)


def _filtered(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """(B, V) probabilities with 0 for what top-k, top-p and min-p leave out; not normalised again."""
    top_k = params.top_k if 0 < params.top_k < probs.size(-1) else 0
    if top_k or params.top_p < 1:
        top, order = probs.topk(top_k, dim=-1) if top_k else _descending(probs, params.top_p)
        if params.top_p < 1:
            mass = top.cumsum(-1)
            top = top.where(mass - top < params.top_p * (mass[:, -1:] if top_k else 1.0), 0.0)
        probs = torch.zeros_like(probs).scatter(-1, order, top)
    if params.min_p > 0:
        probs = probs.where(probs >= params.min_p * probs.amax(-1, keepdim=True), 0.0)
    return probs


def _descending(probs: torch.Tensor, mass: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities from the top down and their ids: enough of them to hold `mass` in every row."""
    for k in CANDIDATES:
        if k < probs.size(-1):
            top = probs.topk(k, dim=-1)
            if bool((top.values.sum(-1) >= mass).all()):
                return top.values, top.indices
    full = probs.sort(dim=-1, descending=True)
    return full.values, full.indices


def stream(seed: int, key: str, sample: int, count: int) -> np.ndarray:
    """`count` uniform numbers in [0, 1) of one sample of one request."""
    name = f"{seed}\0{key}\0{sample}"
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=digest)).random(count)
