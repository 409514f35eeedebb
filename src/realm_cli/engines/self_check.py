"""Whether a model's prompts may be shared, found out once: by what its configuration says, then by trying.

The trial compares the shared-prefix forward with the plain one on a few random tokens: logits, log-probabilities of
completions and the norm of their gradient. Past the tolerance the model runs plainly, and one line says so.

Usage: `if shares_prefix(model, recipe.engine.shared_prefix): ...`
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from realm_cli.engines.grouped_attention import (
    LAYOUT,
    NO_MASK,
    PackedGroup,
    PackedLayout,
    causal_model,
    use_grouped_attention,
    why_not,
)

log = logging.getLogger(__name__)
TOLERANCE = {torch.float32: 1e-3}  # largest difference of log-probabilities, and relative of gradient norms
COARSE = 0.25  # in lower precision


def shares_prefix(model: Any, switch: str) -> bool:
    """Whether to share prompts in this model; the answer is kept on it. `switch`: auto | off."""
    if switch == "off":
        return False
    net = causal_model(model)
    known: bool | None = getattr(net, "_realm_shares_prefix", None)
    if known is None:
        reason = why_not(model)
        if reason is None:
            use_grouped_attention(model)
            reason = differs(model)
        known = net._realm_shares_prefix = reason is None
        if reason is not None:
            log.warning("shared prefix off, prompts are computed once per completion: %s", reason)
    return known


def differs(model: Any) -> str | None:
    """Where the shared forward departs from the plain one on random tokens; None where it does not."""
    net = causal_model(model)
    config = net.config.get_text_config()
    device = next(net.parameters()).device
    draw = torch.Generator().manual_seed(0)
    prompt = torch.randint(config.vocab_size, (21,), generator=draw)
    completions = [torch.randint(config.vocab_size, (n,), generator=draw) for n in (7, 4)]
    group = PackedGroup(0, len(prompt), tuple(len(c) for c in completions))
    ids = torch.cat([prompt, *completions])[None].to(device)
    places = torch.cat([torch.arange(21), *(torch.arange(21, 21 + len(c)) for c in completions)])[None].to(device)
    training = net.training
    net.eval()
    try:
        with torch.enable_grad():
            packed = net(
                input_ids=ids,
                position_ids=places,
                attention_mask=NO_MASK,
                use_cache=False,
                **{LAYOUT: PackedLayout([group])},
            ).logits[0]
            start, shared, plain = 21, [], []
            for c in completions:
                row = torch.cat([prompt, c])[None].to(device)
                full = net(input_ids=row, use_cache=False).logits[0]
                shared.append(_picked(packed[start : start + len(c) - 1], c[1:]))
                plain.append(_picked(full[21:-1], c[1:]))
                start += len(c)
            one, two = torch.cat(shared), torch.cat(plain)
            norms = [_gradient_norm(net, x.sum()) for x in (one, two)]
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        return f"the trial failed ({type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''})"
    finally:
        net.train(training)
    limit = TOLERANCE.get(packed.dtype, COARSE)
    gap = float((one - two).detach().abs().max())
    if not gap <= limit:
        return f"log-probabilities differ by {gap:.2g} from a plain forward (limit {limit:g})"
    off = abs(norms[0] - norms[1]) / max(norms[1], 1e-12)
    return None if off <= limit else f"gradient norms differ by {off:.2g} from a plain forward (limit {limit:g})"


def _picked(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1).gather(-1, ids[:, None].to(logits.device)).squeeze(-1)


def _gradient_norm(net: Any, value: torch.Tensor) -> float:
    """Norm of the gradient of the parameters in training, 0 if there are none; their `.grad` is left alone."""
    wanted = [p for p in net.parameters() if p.requires_grad]
    if not wanted or not value.requires_grad:
        return 0.0
    found = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
    return float(sum(float(g.double().square().sum()) for g in found if g is not None)) ** 0.5
