"""One measurement in a process of its own: `python benchmarks/speed/measure.py KIND SIDE --prompt 400 ...` -> JSON.

    sample   `completions` of each of `groups` prompts, `response` tokens each, at temperature 1; none ends early
    update   one optimiser step of GRPO on given groups (ids, completions and advantages are the same on both sides)
    step     a whole RL step: sampling, a trivial reward, the update

Sides: `ours` (ours.py), `peer` (peers.py). Peak memory is the process's high-water mark, `loaded_gib` what it was
before the work began. The process may take no more than the memory that is free, so a case that does not fit ends with
an error of its own and takes nothing else down.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
from pathlib import Path
from typing import Any

import torch
from cases import DEFAULTS
from work import Clock, gib

from realm_cli.engines.loading import keep_freed_memory, load_model

FREE_SHARE = 0.95


def limit_memory() -> None:
    """No more than what is free, where the system tells."""
    info = Path("/proc/meminfo")
    if info.exists():
        free = next(int(row.split()[1]) * 1024 for row in info.read_text().splitlines() if row.startswith("MemAvail"))
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        share = int(FREE_SHARE * free)
        resource.setrlimit(resource.RLIMIT_DATA, (share if hard == resource.RLIM_INFINITY else min(share, hard), hard))


def sample(side: Any, loaded: Any, a: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each repeat of sampling; a round of two tokens warms up."""
    work = side.sampling(loaded, a)
    before = gib()
    work(2)
    seconds, tokens = [], 0
    for _ in range(a.repeats):
        start = time.perf_counter()
        tokens = work(a.response)
        seconds.append(time.perf_counter() - start)
    if tokens != a.groups * a.completions * a.response:
        raise SystemExit(f"{tokens} tokens drawn, not {a.groups * a.completions * a.response}")
    return {"seconds": seconds, "tokens": tokens, "loaded_gib": before, "peak_gib": gib()}


def train(side: Any, loaded: Any, a: argparse.Namespace) -> dict[str, Any]:
    """Seconds per step (the first warms up), memory, and what the sides are compared by."""
    logging.disable(logging.WARNING)
    trainer = side.training(loaded, a, sampled=a.kind == "step")
    clock = Clock()
    trainer.add_callback(clock)
    before = gib()
    trainer.train()
    peak = gib()  # before the weights are gathered
    moved = [p.detach().reshape(-1) for n, p in sorted(trainer.model.named_parameters()) if "lora_B" in n]
    flat = torch.cat(moved).double()
    if a.weights:
        Path(a.weights).write_bytes(flat.float().numpy().tobytes())
    return {
        "seconds": clock.seconds,
        "losses": list(trainer.losses.values()),
        "grad_norms": trainer.grad_norms,
        "lora_b_norm": float(flat.norm()),
        "lora_b_sum": float(flat.sum()),
        "rows": a.peer_rows if a.side == "peer" else None,
        "loaded_gib": before,
        "peak_gib": peak,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=["sample", "update", "step"])
    parser.add_argument("side", choices=["ours", "peer"])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--weights", help="file for the trained weights, float32")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="continuous batching: tokens in one forward")
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    a = parser.parse_args()
    limit_memory()
    if a.side == "ours" or a.keep_memory:
        keep_freed_memory()  # as our commands do
    if a.side == "ours":
        import ours as side
    else:
        import peers as side
    loaded = load_model(a.model, quant="none", dtype="float32", device="cpu")
    result = sample(side, loaded, a) if a.kind == "sample" else train(side, loaded, a)
    print(json.dumps({**result, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
