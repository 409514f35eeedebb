"""Do the tests of method/ notice a changed sign, bound or label? Mutants are drawn at random and tried one by one.

    python benchmarks/mutations/run.py                    # 6 mutants of every file of method/, written to results/
    python benchmarks/mutations/run.py --per-file 20 --files mrpv,rewards --seed 1

A mutant changes one comparison, operator, constant, boolean or `min`/`max` in a copy of the source, and the file's own
tests run against it, once. It is killed if they fail. Mutation tools try every mutant, which takes nights here; a
seeded sample gives the rate. Survivors are listed with their line: each is either equivalent or a missing test.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
METHOD = ROOT / "src" / "realm_cli" / "method"
OUT = ROOT / "benchmarks" / "results" / "mutations.json"
SECONDS = 120

COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
BINARY = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
TESTS = {"checks": ["test_answers.py"]}  # besides test_NAME.py and test_properties.py


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """(line, what was changed, mutated source) of every mutant, in the order of the file."""
    for index, node in enumerate(ast.walk(ast.parse(source))):
        for change in range(2):
            tree = ast.parse(source)
            same = next(n for i, n in enumerate(ast.walk(tree)) if i == index)
            text = mutate(same, change)
            if text is not None:
                yield node.lineno, text, ast.unparse(ast.fix_missing_locations(tree))  # type: ignore[attr-defined]


def mutate(node: ast.AST, change: int) -> str | None:
    """Change one node in place; what was done, or None where there is nothing to change."""
    if change and not isinstance(node, ast.Constant):
        return None
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARE:
        old = node.ops[0]
        node.ops[0] = COMPARE[type(old)]()
        return f"{type(old).__name__} -> {type(node.ops[0]).__name__}"
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY and not strings(node):
        old_op = node.op
        node.op = BINARY[type(old_op)]()
        return f"{type(old_op).__name__} -> {type(node.op).__name__}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node.op = ast.UAdd()
        return "-x -> +x"
    if isinstance(node, ast.BoolOp):
        old_bool = node.op
        node.op = ast.Or() if isinstance(old_bool, ast.And) else ast.And()
        return f"{type(old_bool).__name__} -> {type(node.op).__name__}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        old_name, node.func.id = node.func.id, NAMES[node.func.id]
        return f"{old_name} -> {node.func.id}"
    if isinstance(node, ast.Constant) and isinstance(node.value, bool) and not change:
        node.value = not node.value
        return f"{not node.value} -> {node.value}"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        old_value, node.value = node.value, node.value + (1 if change else -1)
        return f"{old_value} -> {node.value}"
    return None


def strings(node: ast.BinOp) -> bool:
    """Whether a `+` plainly joins texts or lists."""
    for side in (node.left, node.right):
        text = isinstance(side, ast.Constant) and isinstance(side.value, str)
        if text or isinstance(side, ast.JoinedStr | ast.List | ast.ListComp):
            return True
    return False


def killed(name: str, source: str) -> str:
    """`killed`, `survived` or `timeout` (killed too) of one mutant, in a copy of the package."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(
            ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", ".mypy_cache")
        )
        (copy / "realm_cli" / "method" / f"{name}.py").write_text(source, encoding="utf-8")
        tests = [*TESTS.get(name, []), f"test_{name}.py", "test_properties.py"]
        files = [str(ROOT / "tests" / "method" / test) for test in tests]
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
                 "--rootdir", str(ROOT), "--import-mode=importlib", *files]  # fmt: skip
        path = os.pathsep.join([str(copy), str(ROOT / "tests")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return "timeout"
        return "survived" if done.returncode == 0 else "killed"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-file", type=int, default=6)
    parser.add_argument("--files", type=lambda text: text.split(","))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    a = parser.parse_args(argv)
    names = a.files or sorted(p.stem for p in METHOD.glob("*.py") if p.stem != "__init__")
    jobs: list[tuple[str, int, str, str]] = []
    for name in names:
        source = (METHOD / f"{name}.py").read_text(encoding="utf-8")
        if killed(name, source) != "survived":
            print(f"{name}: its tests fail on the unchanged source", file=sys.stderr)
            return 1
        found = [(line, what, text) for line, what, text in mutants(source) if text != ast.unparse(ast.parse(source))]
        drawn = random.Random(f"{a.seed}/{name}").sample(found, min(a.per_file, len(found)))
        jobs += [(name, line, what, text) for line, what, text in drawn]
    with ThreadPoolExecutor(a.jobs) as pool:
        outcomes = list(pool.map(lambda job: killed(job[0], job[3]), jobs))
    rows: list[dict[str, Any]] = [
        {"file": name, "line": line, "change": what, "outcome": outcome}
        for (name, line, what, _), outcome in zip(jobs, outcomes, strict=True)
    ]
    dead = sum(row["outcome"] != "survived" for row in rows)
    result = {"seed": a.seed, "mutants": len(rows), "killed": dead, "rate": round(dead / len(rows), 3), "rows": rows}
    a.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        if row["outcome"] == "survived":
            print(f"survived: method/{row['file']}.py:{row['line']}  {row['change']}")
    print(f"{dead} of {len(rows)} mutants killed ({100 * result['rate']:.0f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
