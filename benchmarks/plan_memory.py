"""Memory as `realm plan` tells it before a run, against the peak of the run: SmolLM2-135M on the CPU, three stages.

    python benchmarks/plan_memory.py          # some ten minutes on two cores; Linux (peak resident memory of a process)

Plan and run get the same recipe. The plan reads what is there before the stage runs: the route sets of `realm verify`
and, for fine-tuning, the rows of `realm distill --data-only`; what it said before these were there is kept beside it.
Writes benchmarks/results/plan-memory.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "plan-memory.json"
REALM = [sys.executable, "-m", "realm_cli"]
SIZES = {"data.n_train": 120, "data.n_dev": 8, "data.n_test": 8, "train_rl.dev_limit": 2, "train_rl.eval_every": 6}
COMMON = {
    "student.model": "smollm2-135m",
    "distill.replay": "null",
    "distill.max_tokens": 96,
    "distill.sft.micro_batch": 8,
    "distill.sft.batch_size": 8,
    "distill.sft.max_steps": 30,
    "distill.sft.lr": 1e-3,
    "train_rl.steps": 6,
    "train_rl.eaai_steps": 6,
    "train_rl.groups_per_step": 8,
    "train_rl.preflight.groups": 0,
}
CASES = {  # name -> (command, stage of the plan, settings)
    "fine-tuning, float32": ("distill", "fine-tuning", {}),
    "RL, float32, 2048 tokens a pass": ("train-rl", "RL: update", {"train_rl.micro_tokens": 2048}),
    "RL, NF4, 3072 tokens a pass": ("train-rl", "RL: update", {"train_rl.micro_tokens": 3072, "student.quant": "nf4"}),
}


def main() -> int:
    """Run the cases in order (RL starts from what the first one trained)."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stage in (["rollout", "--model", "solver:hasty", "--model", "solver:forgetful"], ["verify"]):
            peak(folder, stage, {})
        for name, (command, part, more) in CASES.items():
            limits = plan(folder, part, more)
            if command == "distill":
                peak(folder, [command, "--data-only"], more)
            planned = plan(folder, part, more)
            measured = peak(folder, [command], more)
            rows.append({"case": name, "from_limits_gib": limits, "planned_gib": planned, "measured_gib": measured})
            print(
                f"{name}: planned {planned:.2f} GiB, measured {measured:.2f}, {planned / measured - 1:+.0%}", flush=True
            )
    OUT.write_text(json.dumps({"command": "python benchmarks/plan_memory.py", "rows": rows}, indent=1) + "\n")
    return 0


def arguments(folder: str, more: dict[str, object]) -> list[str]:
    """Of all commands alike."""
    settings = [part for key, value in {**SIZES, **COMMON, **more}.items() for part in ("--set", f"{key}={value}")]
    return ["--recipe", "demo", "--run", folder, *settings]


def plan(folder: str, stage: str, more: dict[str, object]) -> float:
    """GiB of a stage's peak on this processor."""
    command = [*REALM, "plan", *arguments(folder, more), "--json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found: int = next(row["bytes"] for row in told["memory"]["cpu"] if row["stage"] == stage)
    return found / 2**30


def peak(folder: str, stage: list[str], more: dict[str, object]) -> float:
    """GiB that a command held at most."""
    command = [*REALM, *stage, *arguments(folder, more), "--force"]
    child = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return used.ru_maxrss / 2**20  # Linux counts KiB


if __name__ == "__main__":
    sys.exit(main())
