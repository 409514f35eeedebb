"""How work grows: routes verified, tokens sampled, memory and disk, and what a million problems would take.

    python benchmarks/growth.py --run runs/demo       # all, some 10 minutes on two idle cores; Linux
    python benchmarks/growth.py --only plan,plot      # again from what was measured

verify   processor time and memory of `realm verify` on 1,000 to 300,000 routes; one process and two, taken in turns
before   the same of 10,000 to 1,000,000 routes as `make bench` measured it (results/speed.json), for plan and plot
sample   tokens a processor second against rows decoded together, and against completions of a prompt
disk     bytes a row of every file that a run has left, which --run names (again for a folder with further stages)
plan     a million problems: the figures above times the counts, with the assumptions that PLAN names

Processor time (user and system, of one thread) suffers less than seconds from other programs, but suffers: compare
only figures of one go. Writes benchmarks/results/growth.json and growth.svg.
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
from dataclasses import replace
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "growth.json"
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks" / "speed")]
LENGTHS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
TURNS = 30_000  # routes of the comparison of one process with two
MODELS = {"tiny-student": (256, 48), "smollm2-135m": (16, 16)}  # most rows, tokens of each
LEAST = 4  # completions
ROWS, GROUPS = (1, 4, 16, 64, 256), (4, 16, 64)
PLAN = {  # assumptions: put your own here
    "problems": 1_000_000,
    "teacher_routes": 4,  # rollout.n of the teacher, a problem
    "student_routes": 8,  # rollout.self_n, a problem
    "guided_texts": 1,  # distill.n, a problem
    "epochs": 1,
    "route_tokens": 300,
    "route_bytes": 1_200,  # problems take four times what the measured ones do; rows without `copies` grow as texts do
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
    parser.add_argument("--only", default="verify,before,sample,disk,plan,plot", help="parts, with commas")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="routes of the files of verify")
    parser.add_argument("--run", type=Path, action="append", help="a run's folder, for disk. Repeatable")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    a = parser.parse_args(argv)
    if a.child:
        sample_model(a.child)
        return 0
    found = json.loads(a.out.read_text()) if a.out.exists() else {}
    if {"verify", "sample", "disk"} & set(a.only.split(",")):
        words = " ".join(["python benchmarks/growth.py", *(argv or sys.argv[1:])])
        found["about"] = {"command": words, "python": platform.python_version(), "cores": os.cpu_count()}
    parts = {
        "verify": lambda: verify([int(n) for n in a.lengths.split(",")]), "before": before,
        "sample": sample,
        "disk": lambda: disk(a.run or [Path("runs/demo")]), "plan": lambda: plan(found, PLAN),
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
            if length == TURNS:
                for _ in range(2):
                    turns.append([child(data, workers)["seconds"] for workers in (1, 2)])
                    say(f"verify, one process and two: {turns[-1]} seconds")
    two = {"routes": TURNS, "seconds": turns, "ratio": median(one / two for one, two in turns)} if turns else None
    return {"rows": rows, "two_processes": two}


def before() -> dict[str, Any]:
    """What `make bench` measured, one row a length (the median of its processor seconds) and two processes to one."""
    runs = json.loads((OUT.parent / "speed.json").read_text())["verify"]["runs"]
    alone = [sorted((r for r in runs if r["workers"] == 1 and r["routes"] == n), key=lambda r: r["cpu_seconds"])
             for n in sorted({r["routes"] for r in runs})]  # fmt: skip
    rows = [found[len(found) // 2] for found in alone]
    two = next(r["seconds"] for r in runs if r["workers"] == 2)
    return {"rows": rows, "two_processes": {"routes": rows[-1]["routes"], "ratio": rows[-1]["seconds"] / two}}


def sample() -> list[dict[str, Any]]:
    """The sampler on each model, in a process of its own: batches of growing size, then growing groups."""
    rows = []
    for model in MODELS:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        words = [sys.executable, __file__, "--child", model]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as process:
            for line in process.stdout or ():
                rows.append(json.loads(line))
                say(f"sample: {rows[-1]}")
        if process.returncode:
            raise SystemExit(f"sample: {model} failed")
    return rows


def sample_model(model: str) -> None:
    """Print a line for each case: tokens a processor second, and the most memory so far."""
    import torch

    from realm_cli.domains import load_domain
    from realm_cli.engines.loading import keep_freed_memory, load_model
    from realm_cli.engines.sampler import LocalGenerator
    from realm_cli.prompts import bare_messages
    from realm_cli.protocols import GenRequest, SamplingParams

    torch.set_num_threads(1)
    keep_freed_memory()
    largest, tokens = MODELS[model]
    loaded = load_model(model)
    problems = load_domain("rulebook").generate(largest, 0, 0, 0)
    prompts = [GenRequest(str(i), bare_messages(p["question"], "terse")) for i, p in enumerate(problems)]
    list(LocalGenerator(loaded, 4).generate(prompts[:4], SamplingParams(max_tokens=2)))  # warms up
    cases = [(1, size) for size in ROWS if size <= largest] + [(n, largest) for n in GROUPS if n <= largest]
    for group, size in cases:
        count = max(size, LEAST)
        requests = [replace(prompt, n=group) for prompt in prompts[: count // group]]
        start = time.process_time()
        wish = SamplingParams(max_tokens=tokens, temperature=1.0)
        done = dict(LocalGenerator(loaded, size).generate(requests, wish))
        seconds = time.process_time() - start
        total = sum(completion.n_tokens for completions in done.values() for completion in completions)
        row = {
            "model": model, "completions": count, "group": group, "batch_rows": size, "tokens": total,
            "cpu_seconds": round(seconds, 2), "tokens_per_cpu_second": round(total / seconds, 1),
            "peak_mib_so_far": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


def disk(runs: Sequence[Path]) -> dict[str, Any]:
    """Rows and bytes of every JSONL file that the runs' stages have left; the first run holds the routes."""
    files = {}
    for path in [path for run in runs for path in sorted(run.glob("**/*.jsonl"))]:
        run = next(run for run in runs if run in path.parents)
        files.setdefault(str(path.relative_to(run)), file_size(path))
    with (runs[0] / "rollout" / "routes.jsonl").open(encoding="utf-8") as lines:
        texts = [len(json.loads(line)["text"].encode()) for line in lines]
    with (runs[0] / "verify" / "scored.jsonl").open(encoding="utf-8") as lines:
        scored = len({json.loads(line)["problem_id"] for line in lines})
    return {"runs": [str(run) for run in runs], "mean_route_bytes": round(sum(texts) / len(texts)),
            "problems_scored": scored, "files": files}  # fmt: skip


def file_size(path: Path) -> dict[str, Any]:
    """Rows and bytes; where rows hold a model's text, the line bytes = fixed + copies * text bytes through them."""
    with path.open(encoding="utf-8") as lines:
        rows = [(json.loads(line), len(line.encode())) for line in lines]
    total = sum(size for _, size in rows)
    row: dict[str, Any] = {"rows": len(rows), "bytes": total, "bytes_per_row": round(total / max(len(rows), 1))}
    key = next(
        (key for key in ("text", "completion") if rows and key in rows[0][0] and "messages" not in rows[0][0]), ""
    )
    texts = [len(data[key].encode()) for data, _ in rows] if key else []
    if len(set(texts)) > 1:
        copies, fixed = linear_regression(texts, [size for _, size in rows])
        row |= {"fixed": round(fixed), "copies": round(copies, 2)}
    return row


def plan(found: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Requests, GPU hours, hours, disk and memory; what is measured comes from `found`, the rest from `given`."""
    g = dict(given)
    n, length = g["problems"], g["route_tokens"]
    routes = n * (g["teacher_routes"] + g["student_routes"])
    written = n * (g["teacher_routes"] + g["guided_texts"])
    longest = found["before"]["rows"][-1]
    files, short = found["disk"]["files"], found["disk"]["mean_route_bytes"]
    stretch = g["route_bytes"] / short
    per_row = {}
    for name, row in files.items():
        text = g["rl_tokens"] * g["route_bytes"] / length if name.endswith("samples.jsonl") else g["route_bytes"]
        long = row["fixed"] + row["copies"] * text if "copies" in row else row["bytes_per_row"] * stretch
        per_row[name.rsplit("/", 1)[-1]] = long if "problems" not in name else row["bytes_per_row"] * 4
    rows = {"problems.jsonl": n, "routes.jsonl": routes, "scored.jsonl": routes, "teacher.jsonl": n * g["guided_texts"],
            "guided.jsonl": n * g["guided_texts"], "sft.jsonl": n * g["guided_texts"],
            "sets.jsonl": n * files["verify/sets.jsonl"]["rows"] / found["disk"]["problems_scored"],
            "samples.jsonl": g["rl_steps"] * g["rl_completions"]}  # fmt: skip
    size = {name: count * per_row[name] for name, count in rows.items()}
    gpu = {
        "teacher_texts": written * length / g["teacher_tokens_per_gpu_second"],
        "student_routes": n * g["student_routes"] * length / g["student_tokens_per_gpu_second"],
        "fine_tuning": n * g["guided_texts"] * 2 * length * g["epochs"] / g["trained_tokens_per_gpu_second"],
        "rl_sampling": g["rl_steps"] * g["rl_completions"] * g["rl_tokens"] / g["policy_tokens_per_gpu_second"],
        "rl_updates": g["rl_steps"] * g["rl_completions"] * g["rl_tokens"] / g["trained_tokens_per_gpu_second"],
    }
    heavier = per_row["scored.jsonl"] / files["verify/scored.jsonl"]["bytes_per_row"]  # work grows with what is written
    cpu = routes * heavier / longest["routes_per_cpu_second"]
    growth = (longest["peak_mib"] - found["before"]["rows"][0]["peak_mib"]) / longest["problems"]
    return {
        "assumptions": g,
        "teacher_requests": written,
        "routes": routes,
        "gpu_hours": {name: round(seconds / 3600, 1) for name, seconds in gpu.items()},
        "gpu_hours_all": round(sum(gpu.values()) / 3600),
        "hours_on_gpus": round(sum(gpu.values()) / 3600 / g["gpus"], 1),
        "verify_core_hours": round(cpu / 3600, 1),
        "verify_peak_gib": round((longest["peak_mib"] + growth * n) / 1024, 1),
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
    rows = found["before"]["rows"]
    for panel, key, label in ((panels[0], "routes_per_cpu_second", "routes a processor second"),
                              (panels[1], "peak_mib", "verify: peak MiB")):  # fmt: skip
        panel.plot([r["routes"] for r in rows], [r[key] for r in rows], "o-", color="#1b6ca8")
        panel.set(xscale="log", xlabel="routes", ylabel=label, ylim=(0, None))
    for model, colour in zip(MODELS, ("#1b6ca8", "#c8553d"), strict=True):
        points = [r for r in found["sample"] if r["model"] == model and r["group"] == 1]
        if not points:
            continue
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
