"""SmolLM2-135M-Instruct on LegalBench diversity, reasoning-gym's leg_counting, and GSM8K.

    python benchmarks/smollm2/run.py --data DIR                 # all sets: hours on two CPU cores
    python benchmarks/smollm2/run.py --set legs                 # needs no data: reasoning-gym makes it
    python benchmarks/smollm2/run.py --data DIR --quick         # a smoke run of minutes: its figures mean nothing

legalbench and legs: base, guided SFT, SFT + vanilla GRPO, routed RFT, ReaLM-R1, measured the same way, and guided SFT
with the rules in its prompt. gsm8k: the five commands once, a check that they run. Runs the real command line, one
process per stage, timed.
Writes benchmarks/results/smollm2-SET-seedN.json (accuracies with 95 % CIs, paired differences, the best constant
answer, minutes per stage, the commands, versions) and prints a table. Run folders stay under runs/smollm2/ for a look.
`--resume` continues an interrupted run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import prepare

from realm_cli.method.scoring import paired_difference

ROOT = Path(__file__).resolve().parents[2]
SETS = ("legalbench", "legs", "gsm8k")
REALM = (sys.executable, "-m", "realm_cli.cli.app")
LIBRARIES = ("realm-cli", "torch", "transformers", "peft", "trl")
ROUTED_LIMIT = 30  # test problems shown with routes; not GSM8K, whose solvers read gold text
PLAIN_GRPO = ("--set", "train_rl.schedule=zero", "--set", "train_rl.bridge.beta=0")
QUICK_SETTINGS = (
    "distill.sft.max_steps=2",
    "train_rl.steps=2",
    "train_rl.eaai_steps=1",
    "train_rl.groups_per_step=2",
    "train_rl.group_size=2",
    "train_rl.eval_every=2",
    "train_rl.dev_limit=2",
    "train_rl.max_tokens=64",
    "eval.max_tokens=64",
    "eval.bootstrap=1000",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code of the first stage that fails, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with legalbench-diversity/ and gsm8k/; not for legs")
    parser.add_argument("--set", choices=[*SETS, "all"], default="all", dest="which")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result files")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "smollm2", help="folder of the run folders")
    parser.add_argument("--resume", action="store_true", help="continue what an interrupted run left in --work")
    args = parser.parse_args(argv)
    for name in SETS if args.which == "all" else (args.which,):
        label = f"{name}-seed{args.seed}{'-quick' if args.quick else ''}"
        work = args.work / label
        if not (args.resume and (work / "data" / name / "problems.jsonl").exists()):
            options = ["--out", str(work / "data"), "--set", name, "--seed", str(args.seed)]
            options += ["--data", str(args.data)] if args.data else []
            prepare.main([*options, *(["--quick"] if args.quick else [])])
        stages = commands(name, work, args.seed, quick=args.quick, resume=args.resume)
        minutes, code = run_stages(stages, work / "minutes.json", resume=args.resume)
        if code:
            return code
        result = collect(name, work, stages, minutes, seed=args.seed, quick=args.quick)
        path = args.out / f"smollm2-{label}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(table(result), f"\nwritten: {path}\n", sep="\n", flush=True)
    return 0


def commands(name: str, work: Path, seed: int, *, quick: bool, resume: bool) -> list[tuple[str, list[str]]]:
    """(stage, arguments of `realm`) in running order."""
    data, run = work / "data" / name, work / "run"
    settings = [f"seed={seed}", *(QUICK_SETTINGS if quick else ())]
    common = ["--recipe", str(ROOT / "recipes" / "benchmarks" / f"smollm2-{name}.yaml")]
    common += ["--problems", str(data / "problems.jsonl"), "--resume" if resume else "--force"]
    for setting in settings:
        common += ["--set", setting]
    here = [*common, "--run", str(run)]
    models = [part for file in sorted(data.glob("routes_solver_*.jsonl")) for part in ("--model", f"jsonl:{file}")]
    rules = data / "rules.md"
    teacher = ["--teacher", f"jsonl:{data / 'teacher.jsonl'}", *(["--rules", str(rules)] if rules.exists() else [])]
    stages = [
        ("rollout", ["rollout", *here, *models]),
        ("verify", ["verify", *here]),
        ("distill", ["distill", *here, *teacher]),
    ]
    cold = ["--adapter", str(run / "distill" / "adapter")]
    if name == "gsm8k":
        compared = {"distilled": run / "distill", "rl": run / "train_rl"}
        stages.append(("train-rl", ["train-rl", *here, *cold]))
    else:
        grpo, r1 = (["--run", str(work / part)] for part in ("grpo", "r1"))
        sets = ["--sets", str(run / "verify" / "sets.jsonl")]
        routes = ["--routes", str(run / "rollout" / "routes.jsonl")]
        again = ["--adapter", str(work / "r1" / "refine" / "distill" / "adapter")]
        compared = {
            "distilled": run / "distill",
            "grpo": work / "grpo" / "train_rl",
            "refined": work / "r1" / "refine" / "distill",
            "realm_r1": work / "r1" / "train_rl",
        }
        stages += [
            ("grpo", ["train-rl", *common, *grpo, *cold, *PLAIN_GRPO]),
            ("refine", ["refine", *common, *r1, *cold, *sets, "--positives", routes[1]]),
            ("train-rl", ["train-rl", *common, *r1, *again, *sets]),
        ]
    adapters = [part for key, at in compared.items() for part in ("--adapter", f"{key}={at / 'adapter'}")]
    stages.append(("eval", ["eval", *here, *adapters, "--compare"]))
    if name != "gsm8k":
        limit = ["--limit", "4" if quick else str(ROUTED_LIMIT), "--set", f"eval.max_tokens={64 if quick else 160}"]
        last = ["eval", *common, "--run", str(work / "run-routed"), *adapters, *routes, "--mode", "routed", "--no-base"]
        stages.append(("eval routed", [*last, *limit]))
        shown = ["--adapter", adapters[1], "--mode", "ruled", "--rules", str(rules)]
        stages.append(("eval ruled", ["eval", *common, "--run", str(work / "run-ruled"), *shown]))
    return stages


def run_stages(stages: Sequence[tuple[str, list[str]]], clock: Path, *, resume: bool) -> tuple[dict[str, float], int]:
    """(minutes by stage, exit code). Minutes add up over resumed runs and are kept in `clock`."""
    minutes: dict[str, float] = json.loads(clock.read_text()) if resume and clock.exists() else {}
    for stage, arguments in stages:
        print(f"\n[{stage}] realm {shlex.join(arguments)}", file=sys.stderr, flush=True)
        start = time.monotonic()
        path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        done = subprocess.run([*REALM, *arguments], env={**os.environ, "PYTHONPATH": path}, check=False)
        minutes[stage] = round(minutes.get(stage, 0.0) + (time.monotonic() - start) / 60, 2)
        clock.write_text(json.dumps(minutes), encoding="utf-8")
        if done.returncode:
            print(f"stopped: {stage} ended with exit code {done.returncode}", file=sys.stderr)
            return minutes, done.returncode
    return minutes, 0


def collect(
    name: str, work: Path, stages: Sequence[tuple[str, list[str]]], minutes: dict[str, float], *, seed: int, quick: bool
) -> dict[str, Any]:
    """The result file's content, from the stages' own reports."""
    problems = prepare.read_jsonl(work / "data" / name / "problems.jsonl")
    report = _report(work / "run")
    apart = [] if name == "gsm8k" else [_report(work / "run-routed"), _report(work / "run-ruled")]
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "from source"
    return {
        "set": name,
        "model": "SmolLM2-135M-Instruct, float32, CPU",
        "quick": quick,
        "seed": seed,
        "results": [row for part in (report, *apart) for row in part["results"]],
        "comparisons": [
            *(row for part in (report, *apart) for row in part["comparisons"]),
            *([shown_rules(work / "run", work / "run-ruled", seed)] if apart else []),
        ],
        "routes": apart[0].get("routes") if apart else None,
        "contamination": report.get("contamination"),
        "constant_answer": constant_answers(problems),
        "problems": dict(Counter(f"{p['split']}/{p['group']}" for p in problems)),
        "minutes": {**minutes, "total": round(sum(minutes.values()), 2)},
        "commands": [
            shlex.join(["realm", *arguments]).replace(str(work), f"runs/smollm2/{name}").replace(f"{ROOT}/", "")
            for _, arguments in stages
        ],
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def shown_rules(bare: Path, ruled: Path, seed: int) -> dict[str, Any]:
    """What the rules in the prompt change at test for guided SFT: accuracy with them minus accuracy without, paired."""
    without, shown = (
        {row["problem_id"]: float(row["correct"]) for row in rows if row["model"] == "distilled"}
        for rows in (prepare.read_jsonl(run / "eval" / "predictions.jsonl") for run in (bare, ruled))
    )
    found = paired_difference(shown, without, seed)
    return {
        **{"from": "bare", "to": "ruled", "mode": "distilled", "group": "all", "n": found.n},
        **{"difference": found.mean, "low": found.lo, "high": found.hi},
        **{"discordant": found.discordant, "mcnemar_p": found.mcnemar_p},
    }


def _report(run: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run / "eval" / "report.json").read_text(encoding="utf-8"))
    return report


def constant_answers(problems: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per test group and over all: the one answer that would be right most often, and how often."""
    answers: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        if problem["split"] == "test":
            answers["all"].append(problem["answer"])
            answers[problem["group"]].append(problem["answer"])
    best = {group: (Counter(found).most_common(1)[0], len(found)) for group, found in answers.items()}
    return {g: {"answer": answer, "accuracy": count / n, "n": n} for g, ((answer, count), n) in best.items()}


def table(result: dict[str, Any]) -> str:
    """Accuracies by model and mode with groups in columns, then the differences and the minutes."""
    constant = result["constant_answer"]
    groups = [g for g in constant if g == "all" or len(constant) > 2]
    rows = [["model", "mode", *(f"{g} (n={constant[g]['n']})" for g in groups)]]
    rows.append(["constant", "-", *(f"{100 * constant[g]['accuracy']:.1f} ({constant[g]['answer']})" for g in groups)])
    cells = {(r["model"], r["mode"], r["group"]): r for r in result["results"]}
    for model, mode in dict.fromkeys((r["model"], r["mode"]) for r in result["results"]):
        found = [cells.get((model, mode, g)) for g in groups]
        shown = cells[model, mode, "all"]["n"]
        label = mode if shown == constant["all"]["n"] else f"{mode} (n={shown})"
        rows.append([model, label, *(_interval(c, "accuracy") if c else "-" for c in found)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{result['set']}: accuracy % [95 % CI], greedy"]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for c in result["comparisons"]:
        if c["group"] == "all":
            p = "-" if c["mcnemar_p"] is None else f"{c['mcnemar_p']:.2g}"
            lines.append(f"{c['mode']}: {c['from']} -> {c['to']}: {_interval(c, 'difference')} points, McNemar p {p}")
    lines.append("minutes: " + ", ".join(f"{stage} {value:.1f}" for stage, value in result["minutes"].items()))
    return "\n".join(lines)


def _interval(cell: dict[str, Any], key: str) -> str:
    return f"{100 * cell[key]:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
