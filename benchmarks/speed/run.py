"""Our engine beside its peers: time and memory, in one run, sides alternating.

    python benchmarks/speed/run.py                          # all that benchmarks/results/speed.json does not hold yet
    python benchmarks/speed/run.py --only update growth     # sections, or cases such as update-1200
    python benchmarks/speed/run.py --only step-1200 --again # measure it anew
    python benchmarks/speed/run.py --show                   # the table and plots of what was measured
    python benchmarks/speed/run.py --quick                  # two minutes on the tiny student: does everything run?

Each measurement is a process of its own (measure.py), ours, peer, ours, peer; medians and ratios are taken over all
timed rounds (figures.py). Raw numbers are written after each process, so a run that is cut short loses nothing and the
next one goes on. What is measured and how to read it: README.md.
"""

from __future__ import annotations

import argparse
import array
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import BOUNDS, CASES, METHOD, QUICK_SECTIONS, SECTIONS, Options, quick_options, sides
from figures import agreement, cells, left_to_do, lines, markdown, stale, summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "benchmarks" / "results" / "speed.json"
QUICK_OUT = ROOT / "runs" / "speed-quick" / "speed.json"
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")
NO_MEMORY = ("can't allocate memory", "not enough memory", "MemoryError", "signal 9")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, 1 where something that was asked for could not be measured, 130 where it was stopped."""
    a = arguments(argv)
    data: dict[str, Any] = json.loads(a.out.read_text()) if a.out.exists() else {}
    data.setdefault("cases", {})
    failed = False
    if not a.show:
        try:
            failed = measure_all(a, data)
        except KeyboardInterrupt:
            print("stopped; what was measured is kept, and the next run goes on", file=sys.stderr)
            return 130
    show(data, a.markdown)
    if not a.no_plots and data["cases"]:
        draw(data, a.out.parent)
    return int(failed)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with `names` (cases in order) and `verify` worked out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    what = f"sections ({', '.join(SECTIONS)}) or cases, with commas or spaces between"
    parser.add_argument("--only", nargs="+", default=[], help=what)
    parser.add_argument("--again", action="store_true", help="with --only: measure anew what is there")
    parser.add_argument("--quick", action="store_true", help="tiny student, small sizes: figures mean nothing")
    parser.add_argument("--repeats", type=int, help="rounds of alternation (default: 1 or 2, by case)")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, help="the JSON file that is read and added to")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    parser.add_argument("--no-plots", action="store_true")
    a = parser.parse_args(argv)
    if a.again and not a.only:
        parser.error("--again needs --only: name what is to be measured anew")
    wanted = [word for text in a.only for word in text.split(",") if word] or list(SECTIONS)
    unknown = [word for word in wanted if word not in SECTIONS and word not in CASES]
    if unknown:
        parser.error(f"--only {unknown[0]}: no such section or case; known: {', '.join([*SECTIONS, *CASES])}")
    sections = QUICK_SECTIONS if a.quick else SECTIONS
    a.names = list(dict.fromkeys(name for word in wanted for name in sections.get(word, (word,))))
    a.verify = "verify" in wanted
    a.model = "tiny-student" if a.quick else a.model
    a.out = a.out or (QUICK_OUT if a.quick else OUT)
    return a


def measure_all(a: argparse.Namespace, data: dict[str, Any]) -> bool:
    """Measure what is missing and keep it in `a.out` after each process; whether anything failed."""
    a.out.parent.mkdir(parents=True, exist_ok=True)
    todo, failed = to_measure(a, data["cases"]), False
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, options, side, anew) in enumerate(todo, 1):
            kind = CASES[name][0]
            weights = {s: Path(folder) / f"{name}.{s}" for s in sides(name)}
            run = one(kind, side, options, a.model, weights[side])
            if anew and (i == 1 or todo[i - 2][0] != name):  # its first run is there: the older ones may go
                runs: dict[str, list[Any]] = {s: [] for s in sides(name)}
                method = METHOD.get(kind, 1)
                case = {"kind": kind, "method": method, "options": options, "model": a.model, "runs": runs}
                data["cases"][name] = case
            case = data["cases"][name]
            case["runs"].setdefault(side, []).append(run)
            case["summary"] = summary(kind, case["runs"])
            if kind == "update":
                known = (case.get("agreement") or {}).get("weights_difference")
                case["agreement"] = agreement(case["runs"], difference(weights, known))
            data["about"], data["quick"] = about(), a.quick
            save(a.out, data)
            failed |= "error" in run
            seconds = ", ".join(f"{s:.2f}" for s in run.get("seconds", []))
            text = run.get("error") or f"{seconds} s, peak {run['peak_gib']:.2f} GiB"
            print(f"[{i}/{len(todo)}] {name} {side}: {text}", file=sys.stderr, flush=True)
            for file in Path(folder).iterdir():
                if file not in weights.values():
                    file.unlink()
    if a.verify:
        failed |= not verify(a, data)
    return failed


def to_measure(a: argparse.Namespace, cases: dict[str, Any]) -> list[tuple[str, Options, str, bool]]:
    """(case, options, side, from nothing) in order: what is asked for and not there, or there in another form."""
    todo = []
    for name in a.names:
        kind, options, rounds = CASES[name]
        options, rounds = (quick_options(name), 1) if a.quick else (options, a.repeats or rounds)
        old = cases.get(name)
        if a.again or a.quick or stale(old, options, a.model, METHOD.get(kind, 1)):
            old = None
        todo += [(name, options, side, old is None) for _, side in left_to_do(old, sides(name), rounds)]
    return todo


def difference(weights: dict[str, Path], known: float | None) -> float | None:
    """|ours - peer| / |peer| over the trained weights in these files; `known` where one of them is not there."""
    found = {side: array.array("f", path.read_bytes()) for side, path in weights.items() if path.exists()}
    if len(found) < 2:
        return known
    return math.dist(found["ours"], found["peer"]) / max(math.hypot(*found["peer"]), 1e-30)


def one(kind: str, side: str, options: Options, model: str, weights: Path) -> dict[str, Any]:
    """One process: its JSON, or its error. A peer out of memory is tried again with half of the rows at a time."""
    words = [kind, side, "--model", model]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    extra = ["--weights", str(weights)] if kind == "update" else []
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(HERE / "measure.py"), *words, *extra],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    command = " ".join(["measure.py", *words])
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return {**found, "command": command}
    if done.returncode < 0:
        last = f"ended by signal {-done.returncode}"
    else:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    rows = int(options.get("peer-rows", 8))
    full = any(sign in text for sign in NO_MEMORY for text in (last, done.stderr[-2000:]))
    if side == "peer" and kind != "sample" and rows > 1 and full:
        print(f"{rows} rows at a time do not fit into memory; trying {rows // 2}", file=sys.stderr, flush=True)
        return {**one(kind, side, {**options, "peer-rows": rows // 2}, model, weights), "did_not_fit": rows}
    return {"error": pathless(last)[-300:], "command": command}


def pathless(text: str) -> str:
    """Without folders of this machine."""
    return re.sub(r"(?:/[\w.+-]+)+/", "", text)


def verify(a: argparse.Namespace, data: dict[str, Any]) -> bool:
    """Checking answers beside a loop over Math-Verify; whether it was measured, or is not there to be measured."""
    program = HERE / "verify.py"
    if not program.exists():
        print("verify: benchmarks/speed/verify.py is not there; left out", file=sys.stderr)
        return True
    if "verify" in data and not (a.again or a.quick):
        return True
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "verify.json"
        words = ["--out", str(out), *(["--quick"] if a.quick else [])]
        done = subprocess.run([sys.executable, str(program), *words], stdout=sys.stderr, check=False)
        if done.returncode or not out.exists():
            print(f"verify: ended with exit code {done.returncode}", file=sys.stderr)
            return False
        data["verify"] = json.loads(out.read_text())
    data["about"] = about()
    save(a.out, data)
    return True


def save(path: Path, data: dict[str, Any]) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def about() -> dict[str, Any]:
    """The machine, the versions, the command."""
    info = Path("/proc/cpuinfo")
    rows = info.read_text().splitlines() if info.exists() else []
    names = [row.split(":", 1)[1].strip() for row in rows if row.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "threads_asked_for": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "command": " ".join(["run.py", *(Path(word).name if "/" in word else word for word in sys.argv[1:])]),
        "measured": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def show(data: dict[str, Any], plain: bool) -> None:
    """The table, and whether both sides did the same updates."""
    rows = lines(data, {} if data.get("quick") else BOUNDS, METHOD)
    if plain:
        print(markdown(rows))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(caption="time: times faster than the peer; memory: share of the peer's peak")
        for column in ("measurement", "ours", "peer", "ratio", "bound", "met?"):
            table.add_column(column, justify="left" if column in ("measurement", "met?") else "right")
        for row in rows:
            table.add_row(*cells(row), style={True: "green", False: "bold red", None: ""}[row.met])
        Console(width=None if sys.stdout.isatty() else 130).print(table)
    for name, case in data["cases"].items():
        same = case.get("agreement")
        if same:
            found = f"weights {same['weights_difference']:.1e}, " if "weights_difference" in same else ""
            found += f"gradient norm {same['grad_norm_difference']:.1e}, loss {same['loss_difference']:.1e}"
            print(f"{name}: {'the same update' if same['same'] else 'NOT THE SAME UPDATE'} ({found} apart)")
    if "verify" in data:
        print("verify:", json.dumps(data["verify"].get("summary", "measured; see the JSON file")))


def draw(data: dict[str, Any], folder: Path) -> None:
    """Growth curves beside the results, and their exponents."""
    from plots import growth

    try:
        for text in growth(data, folder):
            print(text)
    except ModuleNotFoundError as error:
        print(f"no plots: {error.name} is not installed (pip install -e '.[bench]')", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
