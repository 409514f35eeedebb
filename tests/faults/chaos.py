"""Kills stages at random moments, lets them go on, and compares what they leave with undisturbed runs.

    make chaos                                         # 200 kills over all stages
    python tests/faults/chaos.py --kills 10 --stages rollout,train_rl --seed 3

For each stage: lost and doubled rows, files that differ from the undisturbed run's, exit codes. All must be zero. A
kill is SIGKILL at a moment drawn uniformly over the run time, one to three times before the stage may go on to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "data.n_train=60", "data.n_dev=12", "data.n_test=24", "engine.threads=1", "distill.limit=20",
    "distill.sft.max_steps=8", "distill.sft.save_every=2", "distill.sft.micro_batch=4", "distill.sft.batch_size=4",
    "train_rl.steps=8", "train_rl.eaai_steps=6", "train_rl.groups_per_step=2", "train_rl.group_size=2",
    "train_rl.micro_tokens=2048", "train_rl.max_tokens=48", "train_rl.cache_tokens=8", "train_rl.eval_every=3",
    "train_rl.dev_limit=4", "train_rl.dev_routed=2", "train_rl.save_every=2", "train_rl.alarms.patience=0",
    "eval.max_tokens=40", "eval.bootstrap=200",
)  # fmt: skip
# Stage -> (command and options, files compared by rows, files compared by bytes)
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "rollout": (("rollout", "-m", "solver:hasty", "-m", "solver:forgetful", "--n", "6"), ("routes.jsonl",),
                ("problems.jsonl",)),
    "verify": (("verify",), ("scored.jsonl", "sets.jsonl"), ("summary.json",)),
    "distill": (("distill",), ("teacher.jsonl", "guided.jsonl"), ("sft.jsonl", "adapter/adapter_model.safetensors")),
    "train_rl": (("train-rl",), ("plan.jsonl",), ("samples.jsonl", "metrics.jsonl", "adapter/adapter_model.safetensors",
                 "last_adapter/adapter_model.safetensors")),
    "eval": (("eval", "--compare"), ("predictions.jsonl",), ("report.json",)),
}  # fmt: skip


@dataclass
class Outcome:
    """What happened to one stage in one or many tries."""

    tries: int = 0
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Count another outcome in."""
        for name in ("tries", "kills", "lost", "doubled", "different"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.codes.update(other.codes)
        self.notes += other.notes


def command(stage: str, run: Path) -> list[str]:
    """The stage's command line, resuming."""
    pairs = [part for setting in SETTINGS for part in ("--set", setting)]
    verb, *options = STAGES[stage][0]
    resume = [] if stage == "rollout" else ["--resume"]  # a rollout goes on by itself
    return [sys.executable, "-m", "realm_cli", verb, "--recipe", "demo", "--run", str(run), *pairs, *options, *resume]


def environment() -> dict[str, str]:
    """One thread a process, this checkout's code."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def prepare(work: Path, stages: Sequence[str]) -> dict[str, float]:
    """An undisturbed run of all stages up to the last one asked for; seconds of each."""
    seconds = {}
    for stage in STAGES:
        begin = time.monotonic()
        done = subprocess.run(
            command(stage, work / "whole"), env=environment(), capture_output=True, text=True, cwd=ROOT
        )
        if done.returncode:
            raise SystemExit(f"{stage}: the undisturbed run failed: {done.stderr.splitlines()[-1]}")
        seconds[stage] = time.monotonic() - begin
        if stage == list(stages)[-1]:
            break
    return seconds


def disturb(work: Path, stage: str, seconds: float, rng: random.Random, kills: int) -> Outcome:
    """One run of a stage, killed `kills` times at most, then let go on to its end."""
    out = Outcome(tries=1)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        run = Path(folder) / "whole"
        shutil.copytree(work / "whole", run, ignore=lambda _, names: [n for n in names if n in later(stage)])
        for _ in range(kills):
            process = subprocess.Popen(
                command(stage, run), env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                process.wait(timeout=rng.uniform(0.05, 1.0) * seconds)
                break  # it was through before
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                out.kills += 1
        done = subprocess.run(command(stage, run), env=environment(), capture_output=True, text=True, cwd=ROOT)
        out.codes[done.returncode] += 1
        if done.returncode:
            out.notes.append(f"{stage}: {(done.stderr.splitlines() or ['?'])[-1]}")
            return out
        compare(stage, work / "whole" / stage, run / stage, out)
    return out


def later(stage: str) -> set[str]:
    """Folders that a stage and those after it make."""
    names = list(STAGES)
    return {*names[names.index(stage) :], f".{stage}.lock"}


def compare(stage: str, whole: Path, cut: Path, out: Outcome) -> None:
    """Rows by id (the order may differ), other files byte by byte."""
    _, by_rows, by_bytes = STAGES[stage]
    for name in by_rows:
        want, found = rows(whole / name), rows(cut / name)
        have = Counter(row["id"] for row in found)
        known = {row["id"]: row for row in want}
        out.lost += sum(key not in have for key in known)
        out.doubled += sum(count - 1 for count in have.values())
        changed = [row["id"] for row in found if known.get(row["id"]) != row]
        out.different += bool(changed)
        out.notes += [f"{stage}/{name}: {len(changed)} rows differ, e.g. {changed[0]}"] if changed else []
    for name in by_bytes:
        if not (cut / name).exists() or (cut / name).read_bytes() != (whole / name).read_bytes():
            out.different += 1
            out.notes.append(f"{stage}/{name} differs")


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def chaos(kills: int, stages: Sequence[str], seed: int, jobs: int, work: Path) -> dict[str, Outcome]:
    """Disturb the stages in turn until `kills` kills have hit; outcomes by stage."""
    seconds = prepare(work, stages)
    found = {stage: Outcome() for stage in stages}
    number = 0
    with ThreadPoolExecutor(jobs) as pool:
        while sum(outcome.kills for outcome in found.values()) < kills:
            batch = []
            for stage in stages:
                rng = random.Random(f"{seed}/{number}")
                number += 1
                batch.append((stage, pool.submit(disturb, work, stage, seconds[stage], rng, rng.choice([1, 1, 2, 3]))))
            for stage, future in batch:
                found[stage].add(future.result())
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 only if nothing was lost, doubled or different and every run came to its end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stages", type=lambda text: text.split(","), default=list(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    a = parser.parse_args(argv)
    a.stages = [stage for stage in STAGES if stage in a.stages]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = chaos(a.kills, a.stages, a.seed, a.jobs, Path(folder))
    total = Outcome()
    print(f"{'stage':<10}{'tries':>7}{'kills':>7}{'lost':>6}{'doubled':>9}{'different':>11}  exit codes")
    for stage, outcome in [*found.items(), ("all", total)]:
        if stage != "all":
            total.add(outcome)
        counts = f"{outcome.tries:>7}{outcome.kills:>7}{outcome.lost:>6}{outcome.doubled:>9}{outcome.different:>11}"
        print(f"{stage:<10}{counts}  {', '.join(f'{code}: {n}' for code, n in sorted(outcome.codes.items()))}")
    print("\n".join(total.notes[:20]))
    print(f"{time.monotonic() - begin:.0f} s")
    return int(bool(total.lost or total.doubled or total.different or set(total.codes) != {0}))


if __name__ == "__main__":
    sys.exit(main())
