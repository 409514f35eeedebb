"""What both sides are given: token ids, advantages, a clock; and what is read off them."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from transformers import TrainerCallback

LR = 1e-4
NO_END = -1  # an end-of-sequence id that no token has: every completion gets its full length


def gib() -> float:
    """High-water mark of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ids(lengths: list[int], vocab: int, seed: int) -> list[tuple[int, ...]]:
    """Rows of random token ids; none of the special ones, which come first in the vocabularies used here."""
    draw = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(100, min(vocab, 40000), (n,), generator=draw).tolist()) for n in lengths]


def prompt_ids(a: Any, vocab: int) -> list[tuple[int, ...]]:
    """The prompts of a case: of one length, or of P, P/2, P/4, ..."""
    return ids([max(1, a.prompt >> i) if a.spread else a.prompt for i in range(a.groups)], vocab, 0)


def completion_ids(a: Any, vocab: int) -> list[tuple[int, ...]]:
    """Given completions, group after group."""
    return ids([a.response] * (a.groups * a.completions), vocab, 1)


def advantages(a: Any) -> list[float]:
    """Of each completion: of both signs, of mean 0.25, so that the loss is not 0 and can be compared."""
    return [1.0 if j % 2 else -0.5 for _ in range(a.groups) for j in range(a.completions)]


class Clock(TrainerCallback):
    """Seconds of each optimiser step, sampling and scoring included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.start)


class Watched:
    """Mixed into a trainer: keeps the loss and the gradient's norm (before clipping) of each optimiser step."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As it is; the losses of a step's micro-batches are added."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        self.__dict__.setdefault("losses", {})
        step = self.state.global_step  # type: ignore[attr-defined]
        self.losses[step] = self.losses.get(step, 0.0) + float(loss)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[misc]
        self.__dict__.setdefault("grad_norms", []).append(float(norm))
        return norm
