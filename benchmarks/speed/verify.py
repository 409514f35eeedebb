"""`realm verify` and its grader: routes a second, answers beside a Math-Verify loop, memory against length, a hang.

    python benchmarks/speed/verify.py --out verify.json [--quick]

routes   the command's whole work (read, score step by step, sets, leak probe, write) on routes of the built-in domain
answers  `is_correct` beside `verify(parse(gold), parse(answer))`, the loop that Math-Verify's own page shows
length   the same work on files of growing length: seconds, and the largest resident memory of any process
hang     a plugged-in checker that never comes back on some answers

Each measurement of routes is a process of its own. Needs about 6 GB of disk for a million routes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))
LENGTHS, QUICK_LENGTHS = (10_000, 100_000, 1_000_000), (2_000, 8_000)
SOLVERS = ("careful", "forgetful", "hasty", "sloppy")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="where files of routes are made (default: a temporary folder)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    a = parser.parse_args(argv)
    if a.child:
        print(json.dumps(verify_once(a.child, a.workers)))
        return 0
    with tempfile.TemporaryDirectory(dir=a.folder) as name:
        found = measure(Path(name), a.quick)
    print(json.dumps(found["summary"], indent=1))
    if a.out:
        a.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    """All four."""
    lengths = QUICK_LENGTHS if quick else LENGTHS
    found: dict[str, Any] = {"answers": answers(2_000 if not quick else 200, 3), "hang": hang(folder / "hang")}
    say(f"answers: {found['answers']['speedup']:.0f} times the loop; hang: {found['hang']}")
    runs: list[dict[str, Any]] = []
    for length in lengths:
        data = folder / f"{length}"
        make_routes(data, length)
        for workers in (1, 2) if length == lengths[-1] else (1, 1, 1):
            runs.append(child(data, workers))
            say(f"{length} routes, {workers} process(es): {runs[-1]}")
        for file in sorted(data.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    alone = [run for run in runs if run["workers"] == 1]
    per_length = {n: [run for run in alone if run["routes"] == n] for n in lengths}
    last, several = per_length[lengths[-1]][0], [run for run in runs if run["workers"] > 1]
    found["runs"] = runs
    found["summary"] = {
        "routes_per_second_and_core": median(run["routes_per_cpu_second"] for run in alone),
        "numeric_answers_speedup": found["answers"]["speedup"],
        "mixed_answers_same_verdict": found["answers"]["same_verdict"],
        "mixed_answers": found["answers"]["mixed"],
        "seconds_by_length": {n: median(run["seconds"] for run in r) for n, r in per_length.items()},
        "peak_mib_by_length": {n: max(run["peak_mib"] for run in r) for n, r in per_length.items()},
        "two_processes_speedup": last["seconds"] / several[0]["seconds"] if several else None,
        "hang": found["hang"],
    }
    return found


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def make_routes(folder: Path, length: int) -> None:
    """problems.jsonl and routes.jsonl, 8 routes a problem by the domain's noisy solvers, not sorted by problem.

    At most 2,000 problems are made; longer files repeat them under other ids.
    """
    from realm_cli.domains import load_domain
    from realm_cli.method.answers import is_correct
    from realm_cli.method.steps import parse_route
    from realm_cli.records import Problem, Route

    domain = load_domain("rulebook")
    count = length // 8
    made = [Problem.model_validate(row) for row in domain.generate(min(count, 2_000), 0, 0, 0)]
    folder.mkdir(parents=True)
    templates = []
    for problem in made:
        for sample in range(8):
            solver = list(domain.SOLVERS)[sample % len(domain.SOLVERS)]
            text = domain.solve(solver, problem.question, random.Random(f"{problem.id}{sample}"))
            steps, answer = parse_route(text)
            right = is_correct(answer, problem)
            name = f"solver:{solver}"
            templates.append(
                Route(id="x", problem_id=problem.id, source=name, sample=sample, text=text, steps=steps,
                      final_answer=answer, correct=right, n_tokens=len(text.split()))
            )  # fmt: skip
    with (folder / "problems.jsonl").open("w", encoding="utf-8") as out:
        for i in range(count):
            problem = made[i % len(made)]
            new = {"id": f"p{i}", "question": f"{problem.question} (Case {i}.)", "split": "train" if i % 5 else "test"}
            out.write(problem.model_copy(update=new).model_dump_json() + "\n")
    with (folder / "routes.jsonl").open("w", encoding="utf-8") as out:
        for sample in range(8):
            for i in range(count):
                row = templates[i % len(made) * 8 + sample]
                new = {"id": f"p{i}/{row.source}/{sample}", "problem_id": f"p{i}"}
                out.write(row.model_copy(update=new).model_dump_json() + "\n")


def child(data: Path, workers: int) -> dict[str, Any]:
    """verify_once in a process of its own."""
    words = [sys.executable, __file__, "--child", str(data), "--workers", str(workers)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def verify_once(data: Path, workers: int) -> dict[str, Any]:
    """Time, processor time and memory of one `verify` on problems.jsonl and routes.jsonl."""
    from contextlib import contextmanager

    from realm_cli.recipe import parse_recipe
    from realm_cli.run_folder import open_stage
    from realm_cli.stages.problems import load_problems
    from realm_cli.stages.verify import run_verify

    @contextmanager
    def quiet(label: str, total: int | None) -> Iterator[Any]:
        yield lambda n, note="": None

    recipe = parse_recipe({"checks": {"workers": workers}}, "benchmark")
    problems = load_problems(data / "problems.jsonl")
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    stage = open_stage(data, "verify", recipe, {}, force=True)
    started, cpu = time.perf_counter(), cpu_seconds()
    summary = run_verify(stage, problems, data / "routes.jsonl", progress=quiet).data
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "routes": summary["routes"],
        "problems": summary["problems"],
        "sets": summary["sets"],
        "workers": workers,
        "file_mib": round((data / "routes.jsonl").stat().st_size / 2**20, 1),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "routes_per_second": round(summary["routes"] / seconds),
        "routes_per_cpu_second": round(summary["routes"] / cpu),
        "problems_loaded_mib": round(loaded),
        "peak_mib": round(max(peaks)),
        "leak_auc": round(summary["leak"]["auc"], 4),
        "first_error_known": summary["first_error_known"],
    }


def cpu_seconds() -> float:
    """Of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def answers(n: int, rounds: int) -> dict[str, Any]:
    """Verdicts on n mixed answers of both graders, and the time of each on the plain numbers among them."""
    import logging

    import math_verify

    from realm_cli.checking import CheckPool
    from realm_cli.method.answers import is_correct
    from realm_cli.method.checks import judged_by
    from realm_cli.records import Problem

    logging.getLogger("math_verify").setLevel(logging.ERROR)

    def loop(rows: Sequence[tuple[Problem, str]]) -> list[bool]:
        parse, check = math_verify.parse, math_verify.verify
        return [bool(check(parse(dollars(p.answer)), parse(dollars(answer)))) for p, answer in rows]

    def ours(rows: Sequence[tuple[Problem, str]]) -> list[bool]:
        return [is_correct(answer, problem) for problem, answer in rows]

    mixed = list(mixed_answers(n))
    plain = [(p, answer) for p, answer in mixed if p.answer_type == "number"]
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side, grade in (("ours", ours), ("peer", loop)):
            started = time.perf_counter()
            grade(plain)
            times[side].append(time.perf_counter() - started)
    with CheckPool() as pool, judged_by(pool):
        started = time.perf_counter()
        mine = ours(mixed)
        seconds = time.perf_counter() - started
        calls = pool.counts["calls"]
    started = time.perf_counter()
    theirs = loop(mixed)
    differ = [
        {"gold": p.answer, "answer": answer, "ours": a, "math_verify": b}
        for (p, answer), a, b in zip(mixed, mine, theirs, strict=True)
        if a != b
    ]
    return {
        "plain_numbers": len(plain),
        "ours_seconds": times["ours"],
        "peer_seconds": times["peer"],
        "speedup": median(times["peer"]) / median(times["ours"]),
        "ours_per_second": len(plain) / median(times["ours"]),
        "mixed": len(mixed),
        "right": sum(mine),
        "same_verdict": len(mixed) - len(differ),
        "differ": differ[:20],
        "symbolic_calls": calls,
        "mixed_ours_seconds": seconds,
        "mixed_peer_seconds": time.perf_counter() - started,
    }


def dollars(text: str) -> str:
    """LaTeX in dollar signs, as Math-Verify asks for; plain numbers as they are."""
    return text if all(c in "0123456789.,/-" for c in text) else f"${text}$"


def mixed_answers(n: int) -> Iterator[tuple[Any, str]]:
    """n (problem, answer) pairs, right and wrong ones alike: half plain numbers, the rest fractions and expressions."""
    from realm_cli.records import Problem

    rng = random.Random(0)
    for i in range(n):
        kind = "number" if i % 2 == 0 else "expr"
        gold, right, wrong = _number(rng) if kind == "number" else _expression(rng)
        answer = right if rng.random() < 0.5 else wrong
        yield Problem(id=f"a{i}", question="q", answer=gold, answer_type=kind), answer


def _number(rng: random.Random) -> tuple[str, str, str]:
    a = rng.randint(1_000, 99_999)
    form = rng.randrange(4)
    if form == 0:
        return str(a), f"{a:,}", f"{a + rng.choice((-1, 1, 10)):,}"
    if form == 1:
        return f"{a / 100:.2f}", f"{a / 100:.2f}0", f"{(a + 1) / 100:.2f}"
    if form == 2:
        return str(-a), f"-{a}", str(a)
    top = rng.randint(1, 9)
    return f"{top}/8", str(top / 8), f"{top}/9"


def _expression(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    forms = (
        (rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{3 * a}}}{{{3 * b}}}", rf"\frac{{{a + 1}}}{{{b}}}"),
        (f"x^2+{a + b}x+{a * b}", f"(x+{a})(x+{b})", f"(x+{a})(x-{b})"),
        (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"\\sqrt{{{a * a * b + 1}}}"),
        (f"{a}x+{b}y", f"{b}y+{a}x", f"{a}y+{b + 1}x"),
        (f"\\{{{a}, {a + b}\\}}", f"\\{{{a + b}, {a}\\}}", f"\\{{{a}, {a + b + 1}\\}}"),
        (f"({a}, {a + b}]", f"({a}, {a + b}]", f"[{a}, {a + b}]"),
        (f"2^{{{a}}}", str(2**a), str(2**a + 1)),
        (f"\\frac{{{a}\\pi}}{{{b}}}", f"\\frac{{{a}}}{{{b}}}\\pi", f"\\frac{{{a}\\pi}}{{{b + 1}}}"),
        (f"y={a}x+{b}", f"y = {b} + {a}x", f"y={a}x-{b}"),
    )
    return rng.choice(forms)


CHECKER = """
import time


def check(answer, gold):
    while answer.startswith("hang"):
        pass
    return answer == gold
"""


def hang(folder: Path) -> dict[str, Any]:
    """200 answers, 3 of which a checker never comes back from, with a limit of one second."""
    from realm_cli.checking import CheckPool
    from realm_cli.method import checks
    from realm_cli.method.answers import is_correct
    from realm_cli.records import Problem

    info = folder / "hangs-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "hanging_checker.py").write_text(CHECKER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[realm_cli.checkers]\nhangs = hanging_checker:check\n")
    sys.path.insert(0, str(folder))
    checks.plugins.cache_clear()
    problem = Problem(id="p", question="q", answer="yes 0", answer_type="hangs")
    started = time.perf_counter()
    with CheckPool(timeout=1.0) as pool, checks.judged_by(pool):
        right = sum(is_correct(f"{'hang' if i % 70 == 50 else 'yes'} {i}", problem) for i in range(200))
    return {"answers": 200, "right": right, **pool.counts, "seconds": round(time.perf_counter() - started, 2)}


if __name__ == "__main__":
    sys.exit(main())
