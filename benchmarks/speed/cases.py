"""What is measured: cases, sections, bounds. No torch here, and nothing but constants.

A case is (kind, options of measure.py, rounds); a round measures each side once. Options that a case does not name are
those of DEFAULTS. `peer` names who the peer is where it is not `generate` (sample) or TRL with our options (training).
"""

from __future__ import annotations

from typing import Any

Options = dict[str, Any]
Case = tuple[str, Options, int]

# of measure.py: numbers of tokens (prompt, response), prompts (groups), completions a prompt, timed repeats a process
DEFAULTS: Options = {
    "prompt": 400, "groups": 1, "completions": 8, "response": 48, "repeats": 2,
    "peer": "plain",  # batching: continuous batching; defaults: TRL's own defaults
    "peer-rows": 8,  # TRL's batch size on the device; the rest by accumulation
    "micro-tokens": 4096,  # ours: tokens in one forward and backward pass
    "checkpointing": 0,  # 1: gradient checkpointing on both sides
    "spread": 0,  # 1: prompts of P, P/2, P/4, ... tokens
    "keep-memory": 0,  # 1: the peer gets our allocator settings
}  # fmt: skip

SAMPLE = {"groups": 4, "response": 48}
LONG = {"prompt": 1200, "response": 150}
MIDDLE = {"prompt": 600, "response": 150}

SAMPLING: dict[str, Case] = {
    "sample-70": ("sample", {"prompt": 70, **SAMPLE, "repeats": 2}, 2),
    "sample-400": ("sample", {"prompt": 400, **SAMPLE, "repeats": 2}, 2),
    "sample-1200": ("sample", {"prompt": 1200, **SAMPLE, "repeats": 1}, 2),
    "sample-mixed": ("sample", {"prompt": 1200, **SAMPLE, "repeats": 1, "spread": 1}, 2),
    "batching-70": ("sample", {"prompt": 70, **SAMPLE, "repeats": 2, "peer": "batching"}, 2),
    "batching-400": ("sample", {"prompt": 400, **SAMPLE, "repeats": 1, "peer": "batching"}, 2),
    "batching-1200": ("sample", {"prompt": 1200, **SAMPLE, "repeats": 1, "peer": "batching"}, 1),
}
UPDATE: dict[str, Case] = {
    "update-70": ("update", {"prompt": 70, "response": 48, "repeats": 4}, 2),
    "update-200": ("update", {"prompt": 200, "response": 150, "repeats": 3}, 2),
    "update-600": ("update", {**MIDDLE, "repeats": 3}, 1),
    "update-1200": ("update", {**LONG, "repeats": 3, "peer-rows": 4}, 1),
    # The peer with our allocator settings; both with checkpointing; both with as little memory as they can do with.
    "update-1200-keep": ("update", {**LONG, "repeats": 3, "peer-rows": 4, "keep-memory": 1}, 1),
    "update-1200-checkpointed": ("update", {**LONG, "repeats": 2, "checkpointing": 1}, 1),
    "update-1200-small": ("update", {**LONG, "repeats": 2, "peer-rows": 1, "micro-tokens": 1536}, 1),
}
STEP: dict[str, Case] = {
    "step-70": ("step", {"prompt": 70, "response": 48, "repeats": 3}, 1),
    "step-1200": ("step", {**LONG, "repeats": 2, "peer-rows": 4}, 1),
    "step-1200-defaults": ("step", {**LONG, "repeats": 2, "peer": "defaults"}, 1),
}
# How time and memory grow; the cases above are points of the same curves. OURS_ALONE: the peer takes over a minute a
# point there, or its memory does not suffice.
GROWTH: dict[str, Case] = {
    **{f"growth-P{p}": ("update", {"prompt": p, "response": 150, "repeats": 2}, 1) for p in (300, 2400)},
    **{f"growth-G{g}": ("update", {**MIDDLE, "completions": g, "repeats": 2}, 1) for g in (2, 4, 16)},
    **{f"growth-R{r}": ("update", {"prompt": 600, "response": r, "repeats": 2}, 1) for r in (50, 300)},
    **{f"growth-sample-P{p}": ("sample", {"prompt": p, **SAMPLE, "repeats": 1}, 1) for p in (200, 2400)},
    **{f"growth-sample-G{g}": ("sample", {**SAMPLE, "completions": g, "repeats": 1}, 1) for g in (2, 4, 16)},
    **{f"growth-sample-R{r}": ("sample", {"groups": 4, "response": r, "repeats": 1}, 1) for r in (16, 96)},
}
OURS_ALONE = ("growth-P2400", "growth-G16", "growth-R300", "growth-sample-P2400")
CURVES = {  # what the points of a curve have in common, beside the kind; the axis takes the place of one of them
    "update": {**MIDDLE, "groups": 1, "completions": 8},
    "sample": {"prompt": 400, **SAMPLE, "completions": 8},
}
AXES = {"prompt": "P", "response": "R", "completions": "G"}

CASES = {**SAMPLING, **UPDATE, **STEP, **GROWTH}
SECTIONS = {
    "sampling": tuple(SAMPLING),
    "update": tuple(UPDATE),
    "step": tuple(STEP),
    "memory": (*UPDATE, *STEP),  # peak memory is measured in the same processes
    "growth": tuple(GROWTH),
    "verify": (),  # a program of its own: verify.py
}
# Raised when what a kind measures changes, so that older figures are not kept beside newer ones.
METHOD = {"step": 2}  # 2: TRL's prompts have exactly P tokens (before, they were decoded and tokenised again: 4 % more)

# Small sizes on the tiny student: does everything run? The figures mean nothing.
QUICK_OPTIONS: Options = {"response": 12, "groups": 2, "repeats": 2, "peer-rows": 4, "completions": 4}
QUICK_SECTIONS = {
    "sampling": ("sample-70", "sample-mixed", "batching-70"),
    "update": ("update-70", "update-1200-checkpointed"),
    "step": ("step-70", "step-1200-defaults"),
    "memory": ("update-70", "step-70"),
    "growth": ("growth-P300", "growth-sample-P200"),
    "verify": (),
}
# case -> least times faster than the peer, largest share of its peak memory
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "sample-70": (1.0, None),
    "sample-400": (4.0, None),
    "sample-1200": (8.0, None),
    "batching-70": (1.0, None),
    "update-70": (1.0, None),
    "update-1200": (3.5, 0.40),
    "step-70": (1.0, None),
    "step-1200": (4.0, None),
    "step-1200-defaults": (4.0, None),
}


def quick_options(name: str) -> Options:
    """The case's options at small sizes; prompts keep their order of length."""
    options = CASES[name][1]
    small = {**options, **QUICK_OPTIONS, "prompt": max(20, options.get("prompt", DEFAULTS["prompt"]) // 10)}
    return small if "peer-rows" in options else {k: v for k, v in small.items() if k != "peer-rows"}


def sides(name: str) -> tuple[str, ...]:
    """Who is measured."""
    return ("ours",) if name in OURS_ALONE else ("ours", "peer")
