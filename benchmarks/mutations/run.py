"""Do the tests of method/ notice a changed sign, bound or label? Mutants are drawn at random and tried one by one.

    python benchmarks/mutations/run.py              # two draws of 6 mutants of every file, to results/mutations.json
    python benchmarks/mutations/run.py --hand       # those of hand.txt, to results/mutations-hand.json
    python benchmarks/mutations/run.py --per-file 20 --files mrpv,rewards --seeds 2 --out runs/more.json

A mutant changes one comparison, operator, constant, boolean or `min`/`max` of a file, and the file's own tests run once
against it, in a fork of a process that has collected them. It is killed if they fail. Mutation tools try every mutant,
which takes nights here; a seeded sample gives the rate. Survivors are listed with their line: each is either equivalent
or a missing test. hand.txt holds changes to the signs, bounds and labels of the method's formulas: none may survive.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import random
import re
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from importlib.metadata import version
from itertools import zip_longest
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
METHOD, TESTS = ROOT / "src" / "realm_cli" / "method", ROOT / "tests" / "method"
HAND = Path(__file__).with_name("hand.txt")
RESULTS = ROOT / "benchmarks" / "results"
SECONDS = 30  # of processor time (the slowest tests take 15): a mutant that takes more hangs, also on a busy machine
BYTES = 4 << 30
FORKS = get_context("spawn")

COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
BINARY = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
KINDS = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Call, ast.Constant)
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
ALSO = {"checks": ["test_answers.py"]}  # besides test_NAME.py and properties


def mutants(source: str) -> list[tuple[int, int]]:
    """(place, change) of everything that can be changed, in the order of the syntax tree; see `mutant`."""
    nodes = list(ast.walk(ast.parse(source)))
    return [
        (place, change)
        for place, node in enumerate(nodes)
        for change in range(2)
        if isinstance(node, KINDS) and mutate(deepcopy(node), change) is not None
    ]


def mutant(source: str, place: int, change: int) -> tuple[int, str, str]:
    """(line, what was changed, mutated source)."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[place]
    what = mutate(node, change)
    return node.lineno, str(what), ast.unparse(ast.fix_missing_locations(tree))  # type: ignore[attr-defined]


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


def tests_of(name: str) -> list[str]:
    """What may kill a mutant: the file's own tests, and the properties that name one of its functions."""
    files = [str(TESTS / test) for test in [*ALSO.get(name, []), f"test_{name}.py"]]
    functions = {node.name for node in ast.parse((METHOD / f"{name}.py").read_text(encoding="utf-8")).body
                 if isinstance(node, ast.FunctionDef | ast.ClassDef)}  # fmt: skip
    properties = TESTS / "test_properties.py"
    for node in ast.parse(properties.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            words = set(re.findall(r"\w+", ast.unparse(node)))
            files += [f"{properties}::{node.name}"] if words & functions else []
    return files


def put_in(name: str, source: str) -> None:
    """Run other source in the loaded module and hand its functions and constants to all modules that imported them."""
    module = sys.modules[f"realm_cli.method.{name}"]
    before = dict(vars(module))
    exec(compile(source, f"{name}.py", "exec", dont_inherit=True), vars(module))
    for other in list(sys.modules.values()):
        if str(getattr(other, "__file__", None)).startswith((str(ROOT / "src"), str(ROOT / "tests"))):
            for local, value in list(vars(other).items()):
                if local in before and value is before[local]:
                    setattr(other, local, vars(module)[local])
                elif isinstance(value, FunctionType | type) and value is before.get(value.__name__):
                    setattr(other, local, vars(module)[value.__name__])


class Forks:
    """A pytest plugin that runs the collected tests once for each source, in a fork, and tells how each ended."""

    def __init__(self, name: str, sources: Sequence[str], tell: Callable[[str], None]) -> None:
        self.name, self.sources, self.tell = name, sources, tell

    def pytest_runtestloop(self, session: Any) -> bool:
        """In place of pytest's own loop."""
        for source in self.sources:
            child = os.fork()
            if not child:
                self._run(session, source)
            _, status = os.waitpid(child, 0)
            self.tell("timeout" if os.WIFSIGNALED(status) else "killed" if os.WEXITSTATUS(status) else "survived")
        return True

    def _run(self, session: Any, source: str) -> NoReturn:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))  # a loop without end fills lists
        try:
            put_in(self.name, source)
            for item, after in zip_longest(session.items, session.items[1:]):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if session.testsfailed:
                    os._exit(1)
            os._exit(0)
        except BaseException:  # whatever it is, it is not as it was
            os._exit(1)


def run_tests(name: str, sources: Sequence[str], tell: Connection) -> None:
    """In a process of its own: the file's tests, once for each source; what is left unsaid did not run."""
    import pytest
    from hypothesis import Phase, settings

    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    settings.register_profile("first", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
    words = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(ROOT), "--import-mode=importlib"]
    words += ["--tb=no", "--assert=plain", "--hypothesis-profile=first"]  # the first failure will do, as it is
    pytest.main([*words, *tests_of(name)], plugins=[Forks(name, sources, tell.send)])
    tell.close()


def outcomes(name: str, sources: Sequence[str]) -> Iterator[str]:
    """`killed`, `survived` or `timeout` (killed too) of each mutant of one file."""
    mine, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=run_tests, args=(name, sources, theirs))
    process.start()
    theirs.close()
    for _ in sources:
        yield mine.recv()
    process.join()


def by_hand(text: str) -> Iterator[tuple[str, int, str, str]]:
    """(file, line, what was changed, mutated source) of every entry of hand.txt.

    Raises ValueError where the old text does not stand exactly once in the file: the list would test nothing.
    """
    for entry in re.split(r"(?m)^@ ", text)[1:]:
        name, *rest = entry.splitlines()
        old, new = ("\n".join(line[1:] for line in rest if line[:1] == sign) for sign in "-+")
        source = (METHOD / f"{name}.py").read_text(encoding="utf-8")
        if source.count(old) != 1 or not new:
            raise ValueError(f"hand.txt: {old!r} stands {source.count(old)} times in method/{name}.py; it must once")
        line = source[: source.index(old)].count("\n") + 1
        yield name, line, f"{old} -> {new}", source.replace(old, new)


def drawn(names: Sequence[str], seed: int, per_file: int) -> Iterator[tuple[str, int, str, str]]:
    """(file, line, what was changed, mutated source) of the sample of one seed."""
    for name in names:
        source = (METHOD / f"{name}.py").read_text(encoding="utf-8")
        found = mutants(source)
        for place, change in random.Random(f"{seed}/{name}").sample(found, min(per_file, len(found))):
            yield name, *mutant(source, place, change)


def tried(jobs: Sequence[tuple[str, int, str, str]], threads: int, label: str) -> dict[str, Any]:
    """Outcome of every mutant, in order of the files; each is told as it is found.

    Raises RuntimeError where a file's tests fail on its unchanged source: nothing would be learned.
    """

    def one(name: str) -> list[dict[str, Any]]:
        mine = [job for job in jobs if job[0] == name]
        found = outcomes(name, [(METHOD / f"{name}.py").read_text(encoding="utf-8"), *(job[3] for job in mine)])
        if next(found) != "survived":
            raise RuntimeError(f"{name}: its tests fail on the unchanged source")
        rows = []
        for (_, line, what, _), outcome in zip(mine, found, strict=True):
            print(f"{outcome}: method/{name}.py:{line}  {what}", flush=True)
            rows.append({"file": name, "line": line, "change": what, "outcome": outcome})
        return rows

    with ThreadPoolExecutor(threads) as pool:
        rows = [row for found in pool.map(one, dict.fromkeys(job[0] for job in jobs)) for row in found]
    dead = sum(row["outcome"] != "survived" for row in rows)
    print(f"{label}: {dead} of {len(rows)} mutants killed ({100 * dead / len(rows):.0f} %)", flush=True)
    return {"mutants": len(rows), "killed": dead, "rate": round(dead / len(rows), 3), "rows": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-file", type=int, default=6)
    parser.add_argument("--files", type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1])
    parser.add_argument("--hand", action="store_true", help="the mutants of hand.txt instead of a sample")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args(argv)
    names = a.files or sorted(p.stem for p in METHOD.glob("*.py") if p.stem != "__init__")
    listed = [job for job in by_hand(HAND.read_text(encoding="utf-8")) if job[0] in names]
    words = sys.argv[1:] if argv is None else argv
    result: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/mutations/run.py", *words]),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("pytest", "hypothesis")}},
    }
    if a.hand:
        result |= tried(listed, a.jobs, "by hand")
    else:
        jobs = [(seed, list(drawn(names, seed, a.per_file))) for seed in a.seeds]
        result["draws"] = [{"seed": seed} | tried(sample, a.jobs, f"seed {seed}") for seed, sample in jobs]
    out = a.out or RESULTS / ("mutations-hand.json" if a.hand else "mutations.json")
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
