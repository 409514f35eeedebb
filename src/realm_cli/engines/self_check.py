"""Whether a model's prompts may be shared, found out once: by what its configuration says, then by trying.

The trial compares training's packed forward and sampling's decoding with the model's own plain forward on a few random
tokens: log-probabilities of completions, the norm of their gradient, logits of the next tokens. Past the tolerance the
model runs plainly, and one line says so.

Usage: `if shares_prefix(model, recipe.engine.shared_prefix): ...`
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from realm_cli.engines.batches import TokenRow
from realm_cli.engines.decoding import SharedDecoder
from realm_cli.engines.grouped_attention import causal_model, use_grouped_attention, why_not
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.memory import out_of_memory
from realm_cli.engines.vocabulary import some_used, without_unused

log = logging.getLogger(__name__)
EXACT, COARSE = 1e-3, 0.25  # largest difference in float32 and in lower precision: nats, and relative of norms


def shares_prefix(model: Any, switch: str) -> bool:
    """Whether to share prompts in this model. `switch`: auto | off.

    The answer is kept on the model, one for a frozen model and one for a model in training, whose gradients count too.
    """
    if switch == "off":
        return False
    net = causal_model(model)
    answers: dict[bool, bool] = net.__dict__.setdefault("_realm_shares_prefix", {})
    trained = any(p.requires_grad for p in net.parameters())
    if trained not in answers:
        reason = why_not(model)
        if reason is None:
            use_grouped_attention(model)
            reason = differs(model)
        answers[trained] = reason is None
        if reason is not None:
            log.warning("%s: shared prefix off, each completion computes its prompt: %s", type(net).__name__, reason)
    return answers[trained]


def differs(model: Any) -> str | None:
    """Where the shared passes depart from the plain one on random tokens; None where they do not."""
    net = causal_model(model)
    draw = torch.Generator().manual_seed(0)
    vocab = net.config.get_text_config().vocab_size
    ids = (some_used(net, torch.randint(vocab, (n,), generator=draw)) for n in (21, 7, 4))
    prompt, *texts = (tuple(row.tolist()) for row in ids)
    training = net.training
    net.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            rows = [TokenRow(prompt, text, 1.0) for text in texts]
            shared, _ = row_logprobs(net, [rows], 0, shared=True)
            logits = [without_unused(net, _plain(net, (*prompt, *text))[len(prompt) - 1 : -1]) for text in texts]
            plain = torch.cat([_picked(x, text) for x, text in zip(logits, texts, strict=True)])
            shared = torch.cat([shared[i, : len(text)] for i, text in enumerate(texts)])
            norms = [_gradient_norm(net, x.sum()) for x in (shared, plain)]
        with torch.no_grad():
            decoder = SharedDecoder(net, 2)
            decoded = [
                decoder.admit([prompt] * len(texts)),
                decoder.step(torch.tensor([text[0] for text in texts]).to(plain.device)),
            ]
        gap = float((shared - plain).detach().abs().max())
        for k, found in enumerate(decoded):
            want = torch.stack([x[k] for x in logits]).detach().float()
            found = without_unused(net, found)
            gap = max(gap, float((found.log_softmax(-1) - want.log_softmax(-1)).abs().max()))
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        if out_of_memory(error):  # says nothing of the model
            raise
        return f"the trial failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]})"
    finally:
        net.train(training)
    limit = EXACT if logits[0].dtype == torch.float32 else COARSE
    if not gap <= limit:
        return f"log-probabilities differ by {gap:.2g} from a plain forward (limit {limit:g})"
    off = abs(norms[0] - norms[1]) / max(norms[1], 1e-12)
    return None if off <= limit else f"gradient norms differ by {off:.2g} from a plain forward (limit {limit:g})"


def _plain(net: Any, ids: tuple[int, ...]) -> torch.Tensor:
    """Logits (T, V) of one row by the model's own forward."""
    logits: torch.Tensor = net(input_ids=torch.tensor([ids]).to(next(net.parameters()).device), use_cache=False).logits[
        0
    ]
    return logits


def _picked(logits: torch.Tensor, ids: tuple[int, ...]) -> torch.Tensor:
    return logits.float().log_softmax(-1).gather(-1, torch.tensor(ids)[:, None].to(logits.device)).squeeze(-1)


def _gradient_norm(net: Any, value: torch.Tensor) -> float:
    """Norm of the gradient of the parameters in training, 0 if there are none; their `.grad` is left alone."""
    wanted = [p for p in net.parameters() if p.requires_grad]
    if not wanted or not value.requires_grad:
        return 0.0
    found = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
    return float(sum(float(g.double().square().sum()) for g in found if g is not None)) ** 0.5
