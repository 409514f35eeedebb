"""The lab: every baseline and ablation with the tiny student in the rulebook domain, over regimes and seeds.

    python benchmarks/lab/run.py --arms r1,grpo --seeds 0,1,2         # what benchmarks/results/lab does not hold yet
    python benchmarks/lab/run.py --regimes hard --jobs 2              # processes at a time, one thread each
    python benchmarks/lab/run.py --smoke                              # two arms, one seed, small: does it run?
    python benchmarks/lab/run.py --list

Each (regime, seed, arm) is a process of its own that runs `realm` commands, resumes what an interrupted one left, and
adds one line to benchmarks/results/lab/runs.jsonl: correctness of every test problem (test.json has their order), dev
curves against sampled tokens, seconds. Tables: report.py. What the arms are: arms.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from arms import ARMS, BASES, DATA_SEED, FIVE_SEEDS, REGIMES, SIZES, SMOKE, SOLVERS, Command, settings

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "benchmarks" / "results" / "lab" / "runs.jsonl"
WORK = ROOT / "runs" / "lab"
STEPS, SMOKE_STEPS = 300, 6
Job = tuple[str, str, str]  # regime, seed, arm or base
SMALL = {"n_train": 120, "n_dev": 24, "n_test": 40}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, or 1 where a run failed."""
    a = arguments(argv)
    if a.list:
        print("\n".join(f"{name:<12} {arm.about}" for name, arm in ARMS.items()))
        return 0
    if a.one:
        return one(a, *a.one.split("/"))
    a.out.parent.mkdir(parents=True, exist_ok=True)
    have = done(a.out)
    todo = [
        (regime, seed, arm)
        for seed in a.seeds or map(str, range(5))
        for arm in a.arms
        for regime in a.regimes
        if (a.seeds or seed in usual_seeds(regime, arm)) and (regime, seed, arm, a.steps) not in have
    ]
    failed = []
    with ThreadPoolExecutor(a.jobs) as pool:
        for jobs in waves(todo):
            failed += [job for job, code in pool.map(lambda job: launch(a, *job), jobs) if code]
    for job in failed:
        print(f"failed: {'/'.join(job)}; see {folder(a, *job) / 'log.txt'}", file=sys.stderr)
    return int(bool(failed))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    listed = {"type": lambda text: text.split(",")}
    parser.add_argument("--arms", **listed, default=list(ARMS))
    parser.add_argument("--seeds", **listed, help="default: three, five for what H1-H5 compare")
    parser.add_argument("--regimes", **listed, default=list(REGIMES))
    parser.add_argument("--steps", type=int, default=STEPS, help="of reinforcement learning")
    parser.add_argument("--jobs", type=int, default=max(1, len(os.sched_getaffinity(0))))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, default=WORK, help="run folders")
    parser.add_argument("--smoke", action="store_true", help="small sizes: figures mean nothing")
    parser.add_argument("--list", action="store_true", help="the arms")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args(argv)
    if a.smoke:
        a.arms, a.seeds, a.regimes, a.steps = list(SMOKE), ["0"], ["hard"], SMOKE_STEPS
        a.work = a.work.with_name("lab-smoke")
        a.out = a.work / "runs.jsonl" if a.out == OUT else a.out
    for kind, given, known in (("arm", a.arms, ARMS), ("regime", a.regimes, REGIMES)):
        for name in given:
            if name not in known and not a.one:
                parser.error(f"--{kind}s {name}: unknown; known: {', '.join(known)}")
    return a


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; [] where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def done(path: Path) -> set[tuple[str, str, str, int]]:
    """(regime, seed, arm, steps) of the runs that a results file holds."""
    return {(row["regime"], str(row["seed"]), row["arm"], row["steps"]) for row in read(path)}


def row_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a row from all others: the run, and the tokens sampled before its reinforcement learning."""
    return (*(row[key] for key in ("regime", "seed", "arm", "steps")), row["sampled_tokens"]["rollout"])


def usual_seeds(regime: str, arm: str) -> list[str]:
    """The seeds of an arm unless others are asked for."""
    return [str(seed) for seed in range(5 if regime == "hard" and arm in FIVE_SEEDS else 3)]


def folder(a: argparse.Namespace, regime: str, seed: str, name: str) -> Path:
    """The run folder of a base or an arm."""
    return Path(a.work) / regime / f"seed{seed}" / (name if name in BASES else f"{name}-{a.steps}")


def waves(todo: Sequence[Job]) -> list[list[Job]]:
    """Bases, then arms that others go on from, then the others: each wave needs what the waves before it made."""
    bases = {(regime, seed, ARMS[arm].base) for regime, seed, arm in todo}
    every = dict.fromkeys([*((r, s, name) for r, s, arm in todo for name in before(arm)), *todo])
    depth = max((len(before(arm)) for _, _, arm in every), default=0)
    return [sorted(bases), *([job for job in every if len(before(job[2])) == at] for at in range(depth + 1))]


def before(arm: str) -> list[str]:
    """The arms that `arm` goes on from, the first one first."""
    after = ARMS[arm].after
    return [*before(after), after] if after else []


def launch(a: argparse.Namespace, regime: str, seed: str, name: str) -> tuple[tuple[str, str, str], int]:
    """One job in a process; its output goes to log.txt."""
    place = folder(a, regime, seed, name)
    place.mkdir(parents=True, exist_ok=True)
    words = ["--one", f"{regime}/{seed}/{name}", "--steps", str(a.steps), "--out", str(a.out), "--work", str(a.work)]
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    started = time.monotonic()
    with (place / "log.txt").open("a", encoding="utf-8") as log:
        command = [sys.executable, __file__, *words, *(["--smoke"] if a.smoke else [])]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        code = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False).returncode
    minutes = (time.monotonic() - started) / 60
    print(
        f"{regime}/{seed}/{name}: {'done' if code == 0 else 'FAILED'} in {minutes:.1f} min", file=sys.stderr, flush=True
    )
    return (regime, seed, name), code


def one(a: argparse.Namespace, regime: str, seed: str, name: str) -> int:
    """All commands of one base or arm, then (arms) the evaluation and the line in runs.jsonl."""
    place, seconds = folder(a, regime, seed, name), {}
    commands = list(base_commands(a, regime, seed, name)) if name in BASES else arm_commands(a, regime, seed, name)
    for command in commands:
        started = time.monotonic()
        code = realm(command)
        if code:
            return code
        seconds[command[0]] = round(seconds.get(command[0], 0.0) + time.monotonic() - started, 1)
    if name not in ARMS:
        return 0
    row = collect(a, regime, seed, name, place, seconds)
    if row_key(row) not in map(row_key, read(a.out)):  # a round of RFT that is built anew has a row of its own
        with a.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    return 0


def realm(command: Sequence[str]) -> int:
    """One command of the real command line, in this process."""
    from realm_cli.cli.app import main as program

    print("\n$ realm", *command, flush=True)
    return program(list(command))


def common(a: argparse.Namespace, seed: str, base: str) -> Command:
    """Options of every command."""
    steps, fade = a.steps, int(0.6 * a.steps)
    values: dict[str, Any] = {
        "seed": seed, "engine__threads": 1, **BASES[base],
        "train_rl__steps": steps, "train_rl__eaai_steps": fade, "train_rl__eval_every": max(1, steps // 8),
        "train_rl__save_every": max(1, steps // 4),
    }  # fmt: skip
    if a.smoke:
        values |= {"distill__sft__max_steps": 3, "train_rl__groups_per_step": 2, "train_rl__group_size": 2}
        values["train_rl__preflight__stop"] = "false"  # three steps of fine-tuning leave pairs that are all wrong
    return ("--recipe", str(ROOT / "recipes" / "realm-r1-tiny.yaml"), "--resume", *settings(**values))


def base_commands(a: argparse.Namespace, regime: str, seed: str, name: str) -> Iterator[Command]:
    """Problems and routes by the domain's solvers, sets, the cold start."""
    place = folder(a, regime, seed, name)
    make_files(place, regime, int(seed), SMALL if a.smoke else SIZES)
    shared = (*common(a, seed, name), "--run", str(place))
    models = [part for s in SOLVERS for part in ("--model", f"jsonl:{place / f'solver_{s}.jsonl'}")]
    problems = ("--problems", str(place / "problems.jsonl"))
    yield ("rollout", *shared, *problems, *models)
    yield ("verify", *shared)
    yield ("distill", *shared, *problems)


def make_files(place: Path, regime: str, seed: int, sizes: dict[str, int]) -> None:
    """problems.jsonl, solver_NAME.jsonl with two texts a problem, and external.jsonl with all of them."""
    from realm_cli.domains import load_domain

    domain = load_domain("rulebook")
    problems = domain.generate(seed=DATA_SEED, **sizes)
    texts: list[dict[str, str]] = []
    for solver in SOLVERS:
        rows = []
        for problem in problems:
            for i in range(2):
                rng = random.Random(f"{seed}/{solver}/{problem['id']}/{i}")
                text = domain.solve(solver, problem["question"], rng, hard=regime == "hard")
                rows.append({"problem_id": problem["id"], "text": text})
        write(place / f"solver_{solver}.jsonl", rows)
        texts += rows
    write(place / "external.jsonl", texts)
    write(place / "problems.jsonl", problems)
    (place / "rules.md").write_text(domain.rules(), encoding="utf-8")
    (place / "notes.md").write_text(domain.notes(), encoding="utf-8")


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def arm_commands(a: argparse.Namespace, regime: str, seed: str, name: str) -> list[Command]:
    """The arm's commands with folders filled in, and its evaluation."""
    arm, place = ARMS[name], folder(a, regime, seed, name)
    base = folder(a, regime, seed, arm.base)
    places = {"{base}": str(base), "{arm}": str(place), "{before}": str(folder(a, regime, seed, arm.after))}
    shared = (*common(a, seed, arm.base), "--run", str(place))
    out: list[Command] = []
    for verb, *words in arm.commands:
        for key, value in places.items():
            words = [word.replace(key, value) for word in words]
        rules = ("--rules", str(base / "rules.md"), "--notes", str(base / "notes.md")) if verb == "distill" else ()
        out.append((verb, *shared, *words, *rules))
    adapter = place / arm.adapter if arm.adapter else base / "distill" / "adapter"
    routes = (
        "--routes",
        str(base / "rollout" / "routes.jsonl"),
        "--problems",
        str(base / "rollout" / "problems.jsonl"),
    )
    out.append(("eval", *shared, *routes, "--no-base", "--adapter", f"{name}={adapter}"))
    return out


def rl_tokens(place: Path) -> int:
    """Tokens that an arm's reinforcement learning sampled."""
    return sum(row["n_tokens"] for row in read(place / "train_rl" / "samples.jsonl"))


def collect(
    a: argparse.Namespace, regime: str, seed: str, name: str, place: Path, seconds: dict[str, float]
) -> dict[str, Any]:
    """The line of one run. right: mode -> one digit a problem, as in test.json; curve: [step, tokens, dev metrics]."""
    rows = sorted(read(place / "eval" / "predictions.jsonl"), key=lambda row: str(row["problem_id"]))
    modes = sorted({row["mode"] for row in rows})
    test = {row["problem_id"]: row["group"] for row in rows}
    order = a.out.with_name("test.json")
    if not order.exists():
        order.write_text(json.dumps(test) + "\n", encoding="utf-8")
    if json.loads(order.read_text()) != test:
        raise SystemExit(f"{order}: other test problems than these; give another --out")
    report = json.loads((place / "eval" / "report.json").read_text())
    spent: dict[int, int] = {}
    for sample in read(place / "train_rl" / "samples.jsonl"):
        spent[sample["step"]] = spent.get(sample["step"], 0) + sample["n_tokens"]
    earlier = [folder(a, regime, seed, arm) for arm in before(name)]
    places = [*earlier, place, place / "two"]
    sampled = [row for at in places for row in read(at / "rollout" / "routes.jsonl")]
    rollout = [r["n_tokens"] for r in sampled if r["source"].startswith("hf:")]
    metrics = read(place / "train_rl" / "metrics.jsonl")
    manifest = place / "train_rl" / "manifest.json"
    inputs = json.loads(manifest.read_text())["inputs"] if manifest.exists() else {}
    curve = [
        [m["step"], sum(n for step, n in spent.items() if step < m["step"]),
         {key: round(v, 4) for key, v in m.items() if key.startswith("dev_bare")}]
        for m in metrics if "dev_bare" in m
    ]  # fmt: skip
    return {
        "regime": regime,
        "seed": int(seed),
        "arm": name,
        "steps": a.steps,
        "right": {m: "".join(str(int(row["correct"])) for row in rows if row["mode"] == m) for m in modes},
        "plurality": "".join(str(int(bool(r["plurality_correct"]))) for r in rows if r["mode"] == "routed"),
        "any": "".join(str(int(bool(r["any_correct"]))) for r in rows if r["mode"] == "routed"),
        "verdicts": {r["mode"]: r["verdict_bal_acc"] for r in report["results"] if r["group"] == "all"},
        "format": {r["mode"]: r["format_ok"] for r in report["results"] if r["group"] == "all"},
        "sampled_tokens": {"rollout": sum(rollout), "rl": sum(spent.values()) + sum(map(rl_tokens, earlier))},
        "curve": curve,
        "start": inputs.get("adapter", {}).get("sha256"),  # of RL: only rows with one start differ by their RL alone
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
