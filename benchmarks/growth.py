"""How work grows: routes verified, tokens sampled, memory and disk, and what a million problems would take.

    python benchmarks/growth.py                       # all, some 15 minutes on two idle cores; Linux
    python benchmarks/growth.py --only plan,plot      # again from what was measured

verify   processor time and memory of `realm verify` on 1,000 to 300,000 routes; one process and two, taken in turns
sample   tokens a processor second against rows decoded together, and against completions of a prompt
disk     bytes a row and a problem of every file that a run of the demo leaves
plan     a million problems: the figures above times the counts, with the assumptions that PLAN names

Processor time (user and system, of one thread) stays what it is where other programs run beside; seconds do not, and
stand only in the ratio of two processes to one. Writes benchmarks/results/growth.json and growth.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "growth.json"
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks" / "speed")]
LENGTHS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
TURNS = 100_000  # routes of the comparison of one process with two
MODELS = {"tiny-student": (256, 48), "smollm2-135m": (64, 16)}  # most rows, tokens of each
LEAST = 8  # completions
ROWS, GROUPS = (1, 4, 16, 64, 256), (1, 4, 16, 64)
DEMO = {"data.n_train": 240, "data.n_dev": 40, "data.n_test": 80, "train_rl.steps": 10, "train_rl.eaai_steps": 8,
        "train_rl.eval_every": 10, "train_rl.dev_limit": 40, "train_rl.dev_routed": 20, "distill.sft.epochs": 2,
        "engine.threads": 1}  # fmt: skip
PLAN = {  # assumptions: put your own here
    "problems": 1_000_000,
    "teacher_routes": 4,  # rollout.n of the teacher, a problem
    "student_routes": 8,  # rollout.self_n, a problem
    "guided_texts": 1,  # distill.n, a problem
    "epochs": 1,
    "route_tokens": 300,
    "route_bytes": 1_200,
    "rl_steps": 2_000,
    "rl_completions": 128,  # a step
    "rl_tokens": 512,  # a completion
    "teacher_tokens_per_gpu_second": 2_000,  # of the served teacher, many requests at a time
    "student_tokens_per_gpu_second": 8_000,  # of the frozen student, served
    "policy_tokens_per_gpu_second": 2_000,  # of the student in training, by realm's own sampler
    "trained_tokens_per_gpu_second": 6_000,  # fine-tuning and RL updates
    "cores": 16,
    "gpus": 8,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for, and write JSON and a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="verify,sample,disk,plan,plot", help="parts, with commas")
    parser.add_argument("--longest", type=int, default=LENGTHS[-1], help="routes of the longest file")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    a = parser.parse_args(argv)
    if a.child:
        print(json.dumps(sample_once(**json.loads(a.child))))
        return 0
    found = json.loads(a.out.read_text()) if a.out.exists() else {}
    found["about"] = {
        "command": "python benchmarks/growth.py", "python": platform.python_version(), "cores": os.cpu_count(),
        "note": "other work ran on the machine: compare processor time and ratios",
    }  # fmt: skip
    parts = {
        "verify": lambda: verify([n for n in LENGTHS if n <= a.longest]), "sample": sample, "disk": disk,
        "plan": lambda: plan(found, PLAN),
    }  # fmt: skip
    for name, part in parts.items():
        if name in a.only.split(","):
            found[name] = part()
            a.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if "plot" in a.only.split(","):
        say(plot(found, a.out.with_suffix(".svg")))
    return 0


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def verify(lengths: Sequence[int]) -> dict[str, Any]:
    """`realm verify` on files of growing length, in a process of its own each."""
    from verify import child, make_routes

    rows, turns = [], []
    with tempfile.TemporaryDirectory() as name:
        for length in lengths:
            data = Path(name) / str(length)
            make_routes(data, length)
            rows.append(child(data, 1))
            say(f"verify, {length} routes: {rows[-1]}")
            if length == min(TURNS, max(lengths)):
                for _ in range(2):
                    turns.append([child(data, workers)["seconds"] for workers in (1, 2)])
                    say(f"verify, one process and two: {turns[-1]} seconds")
    return {"rows": rows, "two_processes": {"seconds": turns, "ratio": median(one / two for one, two in turns)}}


def sample() -> list[dict[str, Any]]:
    """The sampler on each model: batches of growing size, then growing groups in full batches."""
    rows = []
    for model, (largest, tokens) in MODELS.items():
        cases = [(1, size) for size in ROWS if size <= largest] + [(group, largest) for group in GROUPS[1:]]
        for group, size in cases:
            count = max(size, LEAST)
            case = {"model": model, "count": count, "tokens": tokens, "group": group, "batch_rows": size}
            words = [sys.executable, __file__, "--child", json.dumps(case)]
            env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            say(f"sample: {rows[-1]}")
    return rows


def sample_once(model: str, count: int, tokens: int, group: int, batch_rows: int) -> dict[str, Any]:
    """Tokens a processor second and memory of one round; a short round warms up."""
    import torch

    from realm_cli.domains import load_domain
    from realm_cli.engines.loading import keep_freed_memory, load_model
    from realm_cli.engines.sampler import LocalGenerator
    from realm_cli.prompts import bare_messages
    from realm_cli.protocols import GenRequest, SamplingParams

    torch.set_num_threads(1)
    keep_freed_memory()
    problems = load_domain("rulebook").generate(count // group, 0, 0, 0)
    requests = [GenRequest(str(i), bare_messages(p["question"], "terse"), n=group) for i, p in enumerate(problems)]
    generator = LocalGenerator(load_model(model), batch_rows)
    list(generator.generate(requests[:1], SamplingParams(max_tokens=2)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    done = dict(generator.generate(requests, SamplingParams(max_tokens=tokens, temperature=1.0)))
    seconds = time.process_time() - start
    total = sum(completion.n_tokens for completions in done.values() for completion in completions)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "model": model, "completions": count, "group": group, "batch_rows": batch_rows, "tokens": total,
        "cpu_seconds": round(seconds, 2), "tokens_per_cpu_second": round(total / seconds, 1),
        "work_mib": round(peak - before), "peak_mib": round(peak),
    }  # fmt: skip


def disk() -> dict[str, Any]:
    """Bytes of every file of a demo run's stages, a row and a problem of its splits."""
    sizes = [word for key, value in DEMO.items() for word in ("--set", f"{key}={value}")]
    files = {}
    with tempfile.TemporaryDirectory() as name:
        for stage in ("rollout", "verify", "distill", "refine", "train-rl", "eval"):
            words = [sys.executable, "-m", "realm_cli", stage, "--recipe", "demo", "--run", "run", *sizes]
            env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
            subprocess.run(words, cwd=name, env=env, check=True, capture_output=True)
            say(f"disk: {stage}")
        run = Path(name) / "run"
        with (run / "rollout" / "routes.jsonl").open(encoding="utf-8") as lines:
            texts = [len(json.loads(line)["text"].encode()) for line in lines]
        for path in sorted(run.rglob("*.jsonl")):
            with path.open("rb") as lines:
                rows = sum(1 for _ in lines)
            size = path.stat().st_size
            files[str(path.relative_to(run))] = {
                "rows": rows, "bytes": size, "bytes_per_row": round(size / max(rows, 1)),
            }  # fmt: skip
    return {"problems": {k: DEMO[f"data.n_{k}"] for k in ("train", "dev", "test")},
            "mean_route_bytes": round(sum(texts) / len(texts)), "files": files}  # fmt: skip


def plan(found: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Requests, GPU hours, hours, disk and memory; what is measured comes from `found`, the rest from `given`."""
    g = dict(given)
    n, length = g["problems"], g["route_tokens"]
    routes = n * (g["teacher_routes"] + g["student_routes"])
    written = n * (g["teacher_routes"] + g["guided_texts"])
    longest = found["verify"]["rows"][-1]
    files, short = found["disk"]["files"], found["disk"]["mean_route_bytes"]
    stretch = g["route_bytes"] / short
    per_row = {name.rsplit("/", 1)[-1]: row["bytes_per_row"] for name, row in files.items() if "refine" not in name}
    rows = {"problems.jsonl": n, "routes.jsonl": routes, "scored.jsonl": routes, "teacher.jsonl": n * g["guided_texts"],
            "guided.jsonl": n * g["guided_texts"], "sft.jsonl": n * g["guided_texts"],
            "sets.jsonl": n * files["verify/sets.jsonl"]["rows"] / found["disk"]["problems"]["train"],
            "samples.jsonl": g["rl_steps"] * g["rl_completions"]}  # fmt: skip
    size = {name: count * per_row[name] * stretch for name, count in rows.items()}
    gpu = {
        "teacher_texts": written * length / g["teacher_tokens_per_gpu_second"],
        "student_routes": n * g["student_routes"] * length / g["student_tokens_per_gpu_second"],
        "fine_tuning": n * g["guided_texts"] * 2 * length * g["epochs"] / g["trained_tokens_per_gpu_second"],
        "rl_sampling": g["rl_steps"] * g["rl_completions"] * g["rl_tokens"] / g["policy_tokens_per_gpu_second"],
        "rl_updates": g["rl_steps"] * g["rl_completions"] * g["rl_tokens"] / g["trained_tokens_per_gpu_second"],
    }
    cpu = routes * stretch / longest["routes_per_cpu_second"]
    growth = (longest["peak_mib"] - found["verify"]["rows"][0]["peak_mib"]) / longest["problems"]
    return {
        "assumptions": g,
        "teacher_requests": written,
        "routes": routes,
        "gpu_hours": {name: round(seconds / 3600, 1) for name, seconds in gpu.items()},
        "gpu_hours_all": round(sum(gpu.values()) / 3600),
        "hours_on_gpus": round(sum(gpu.values()) / 3600 / g["gpus"], 1),
        "verify_core_hours": round(cpu / 3600, 1),
        "verify_peak_gib": round((longest["peak_mib"] + growth * n * stretch) / 1024, 1),
        "disk_gb": {name: round(value / 1e9, 1) for name, value in size.items()},
        "disk_gb_all": round(sum(size.values()) / 1e9),
    }


def plot(found: dict[str, Any], path: Path) -> str:
    """Three panels: routes a second, memory, tokens a second."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same file from the same figures
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(12, 3.6))
    rows = found["verify"]["rows"]
    for panel, key, label in ((panels[0], "routes_per_cpu_second", "routes a processor second"),
                              (panels[1], "peak_mib", "verify: peak MiB")):  # fmt: skip
        panel.plot([r["routes"] for r in rows], [r[key] for r in rows], "o-", color="#1b6ca8")
        panel.set(xscale="log", xlabel="routes", ylabel=label, ylim=(0, None))
    for model, colour in zip(MODELS, ("#1b6ca8", "#c8553d"), strict=True):
        points = [r for r in found["sample"] if r["model"] == model and r["group"] == 1]
        base = points[0]["tokens_per_cpu_second"]
        panels[2].plot(
            [r["batch_rows"] for r in points], [r["tokens_per_cpu_second"] / base for r in points], "o-",
            color=colour, label=f"{model} (1 row: {base:g})",
        )  # fmt: skip
    panels[2].set(xscale="log", yscale="log", xlabel="rows decoded together", ylabel="tokens, against one row")
    panels[2].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return f"plot: {path.name}"


if __name__ == "__main__":
    sys.exit(main())
