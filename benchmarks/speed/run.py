"""Our engine beside its peers: `python benchmarks/speed/run.py [--only update-1200 ...] [--out FILE] [--quick]`.

Each measurement is a process of its own (measure.py); sides alternate, ours, peer, ours, peer; medians and ratios are
taken over all timed rounds. What has been measured is kept in FILE after every process, so a cut run loses nothing, and
`--only` measures again what it names. Plots and the table are made from FILE: `--show` only prints.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "results" / "speed.json"
TORCH = ("torch", "transformers", "trl", "peft")

# name -> (kind, options of measure.py, rounds of alternation)
CASES: dict[str, tuple[str, dict[str, int], int]] = {
    "sample-70": ("sample", {"prompt": 70, "groups": 4, "response": 48, "repeats": 2}, 2),
    "sample-400": ("sample", {"prompt": 400, "groups": 4, "response": 48, "repeats": 2}, 2),
    "sample-1200": ("sample", {"prompt": 1200, "groups": 4, "response": 48, "repeats": 1}, 2),
    "update-70": ("update", {"prompt": 70, "response": 48, "repeats": 4}, 2),
    "update-200": ("update", {"prompt": 200, "response": 150, "repeats": 3}, 2),
    "update-600": ("update", {"prompt": 600, "response": 150, "repeats": 3}, 1),
    "update-1200": ("update", {"prompt": 1200, "response": 150, "repeats": 3, "peer-rows": 4}, 1),
    "update-1200-keep": (
        "update",
        {"prompt": 1200, "response": 150, "repeats": 3, "peer-rows": 4, "keep-memory": 1},
        1,
    ),  # TRL with our allocator settings
    "step-70": ("step", {"prompt": 70, "response": 48, "repeats": 3}, 1),
    "step-1200": ("step", {"prompt": 1200, "response": 150, "repeats": 2, "peer-rows": 4}, 1),
}
QUICK = {"prompt": 60, "response": 12, "groups": 2, "repeats": 2, "peer-rows": 16}
GROWTH = {
    **{f"growth-P{p}": ("update", {"prompt": p, "response": 150, "repeats": 2}, 1) for p in (300, 2400)},
    **{f"growth-G{g}": ("update", {"prompt": 600, "response": 150, "completions": g, "repeats": 2}, 1) for g in (2, 4)},
    **{f"growth-R{r}": ("update", {"prompt": 600, "response": r, "repeats": 2}, 1) for r in (50, 300)},
}  # ours alone: how time and memory grow


def one(kind: str, side: str, options: dict[str, int], model: str) -> dict[str, Any]:
    """One process; its JSON, or its last line of error."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(HERE / "measure.py"), kind, side, "--model", model, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
        return {"error": f"exit {done.returncode}: {last[-200:]}"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def timed(kind: str, runs: list[dict[str, Any]]) -> list[float]:
    """Seconds of all rounds; of training, without each process's first step, which warms up."""
    return [s for run in runs for s in run.get("seconds", [])[0 if kind == "sample" else 1 :]]


def summary(kind: str, sides: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Medians, the ratio peer/ours of time, and ours/peer of peak memory, where both sides were measured."""
    out: dict[str, float] = {}
    for side, runs in sides.items():
        seconds = timed(kind, runs)
        if seconds:
            out[f"{side}_seconds"] = median(seconds)
            out[f"{side}_peak_gib"] = max(run["peak_gib"] for run in runs if "peak_gib" in run)
    if "ours_seconds" in out and "peer_seconds" in out:
        out["speedup"] = out["peer_seconds"] / out["ours_seconds"]
        out["memory_share"] = out["ours_peak_gib"] / out["peer_peak_gib"]
    return out


def about() -> dict[str, Any]:
    """The machine and the versions."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in TORCH},
    }


def table(data: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    lines = ["| case | ours s | peer s | faster | ours GiB | peer GiB | memory |", "|---|---|---|---|---|---|---|"]
    for name, case in data["cases"].items():
        s = case["summary"]
        cells = [s.get("ours_seconds"), s.get("peer_seconds"), s.get("speedup"), s.get("ours_peak_gib")]
        cells += [s.get("peer_peak_gib"), s.get("memory_share")]
        text = ["" if value is None else f"{value:.2f}" for value in cells]
        lines.append(f"| {name} | " + " | ".join(text) + " |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Our engine beside transformers.generate and TRL's GRPOTrainer.")
    parser.add_argument("--only", nargs="*", help=f"cases: {', '.join([*CASES, *GROWTH])}")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--quick", action="store_true", help="small sizes on the tiny student: does it run?")
    parser.add_argument("--show", action="store_true", help="only print what FILE holds")
    a = parser.parse_args()
    data = json.loads(a.out.read_text()) if a.out.exists() else {"cases": {}}
    cases = {**CASES, **GROWTH}
    wanted = a.only if a.only else [name for name in cases if name not in data["cases"]]
    model = "tiny-student" if a.quick else a.model
    for name in [] if a.show else wanted:
        kind, options, rounds = cases[name]
        options = {**options, **QUICK} if a.quick else options
        runs: dict[str, list[dict[str, Any]]] = {"ours": []} if name in GROWTH else {"ours": [], "peer": []}
        for _ in range(1 if a.quick else rounds):
            for side, found in runs.items():
                found.append(one(kind, side, options, model))
                print(f"{name} {side}: {json.dumps(found[-1])[:200]}", file=sys.stderr, flush=True)
                data["cases"][name] = {
                    "kind": kind, "options": options, "model": model, "runs": runs, "summary": summary(kind, runs),
                }  # fmt: skip
                data["about"] = about()
                a.out.parent.mkdir(parents=True, exist_ok=True)
                a.out.write_text(json.dumps(data, indent=1) + "\n")
    print(table(data))


if __name__ == "__main__":
    main()
