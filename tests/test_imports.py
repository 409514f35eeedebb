"""Who may import whom, what `--help` costs, and how big files may get (CONTRIBUTING.md, "Who may import whom")."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "realm_cli"

# Part of the package -> the parts that it may import (itself and `realm_cli.__version__` always).
_BASE = {"errors", "records", "protocols", "prompts"}
_CORE = _BASE | {"recipe", "method", "domains", "artifacts", "run_folder"}
ALLOWED: dict[str, set[str]] = {
    "": set(),
    "__main__": {"cli"},
    "errors": set(),
    "records": {"errors"},
    "protocols": {"errors", "records"},
    "prompts": {"errors", "records"},
    "recipe_yaml": set(),
    "recipe_blocks": set(),
    "recipe": {"errors", "records", "recipe_blocks", "recipe_yaml"},
    "method": _BASE,
    "domains": _BASE | {"method"},
    "artifacts": _BASE | {"recipe", "method"},
    "run_folder": {"errors", "recipe", "artifacts"},
    "checking": _BASE | {"recipe", "method"},
    "stages": _CORE | {"checking"},
    "report": _CORE,
    "engines": _BASE | {"recipe", "domains"},
    "cli": _CORE | {"checking", "stages", "report", "engines"},
}
ALSO = {("engines", "realm_cli.method.thinking")}  # how texts with thoughts look, wherever they come from
ENGINE_ONLY = {"torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "openai", "vllm"}
COMMANDS = [
    "doctor",
    "init",
    "import",
    "check",
    "plan",
    "distill",
    "rollout",
    "verify",
    "refine",
    "train-rl",
    "eval",
    "export",
    "ask",
    "merge",
    "show",
    "watch",
    "report",
    "verify-run",
    "domain",
    "demo",
]
HEAVY = {"torch", "transformers", "trl", "peft"}


@dataclass(frozen=True)
class Import:
    """`module` as imported at `line`; `lazy` = inside a function."""

    module: str
    line: int
    lazy: bool


def imports_of(source: str, module: str) -> Iterator[Import]:
    """Every import of a file, relative ones resolved, `import_module("x")` and `__import__("x")` included."""
    tree = ast.parse(source)
    lazy = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(outer)
        if node is not outer
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            names = [str(node.args[0].value)] if called in ("import_module", "__import__") else []
        for name in names:
            yield Import(name, node.lineno, id(node) in lazy)


def part_of(module: str) -> str:
    """`realm_cli.method.mrpv` -> "method"; the package itself -> ""."""
    pieces = module.removesuffix(".__init__").split(".")
    return pieces[1] if len(pieces) > 1 else ""


def violations(source: str, module: str) -> list[str]:
    """The import rules that a file breaks, one line each."""
    own = part_of(module)
    found = []
    for item in imports_of(source, module):
        top = item.module.split(".")[0]
        if top in ENGINE_ONLY and own != "engines":
            found.append(f"{module}:{item.line}: imports {top}, which only engines/ may")
        if top != "realm_cli":
            continue
        part = part_of(item.module)
        if part not in ALLOWED:  # `from realm_cli import __version__`
            continue
        if any((own, name) in ALSO for name in (item.module, item.module.rpartition(".")[0])):
            continue
        if part != own and part not in ALLOWED[own] and part:
            found.append(f"{module}:{item.line}: {own or 'realm_cli'} may not import {part}")
        elif part == "engines" and own == "cli" and not item.lazy:
            found.append(f"{module}:{item.line}: cli imports engines outside a function")
    return found


def package_files() -> dict[str, Path]:
    """Module name -> file, for the whole package."""
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        pieces = path.relative_to(PACKAGE.parent).with_suffix("").parts
        files[".".join(pieces)] = path
    return files


def test_every_file_keeps_the_import_rules() -> None:
    files = package_files()
    assert {part_of(name) for name in files} <= set(ALLOWED)
    found = [line for name, path in files.items() for line in violations(path.read_text(encoding="utf-8"), name)]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("realm_cli.engines.x", "from realm_cli.method.mrpv import x", "engines may not import method"),
        ("realm_cli.method.mrpv", "from realm_cli.artifacts import read_rows", "method may not import artifacts"),
        ("realm_cli.method.mrpv", "from realm_cli.recipe import Recipe", "method may not import recipe"),
        ("realm_cli.method.mrpv", "def f():\n    import realm_cli.stages.verify", "method may not import stages"),
        ("realm_cli.method.mrpv", "from ..cli import app", "method may not import cli"),
        ("realm_cli.stages.verify", "from realm_cli import engines", "stages may not import engines"),
        (
            "realm_cli.stages.verify",
            "def f():\n    from realm_cli.engines.sft import x",
            "stages may not import engines",
        ),
        ("realm_cli.stages.verify", "def f():\n    import torch.nn", "imports torch, which only engines/ may"),
        (
            "realm_cli.cli.app",
            "import importlib\nimportlib.import_module('trl')",
            "imports trl, which only engines/ may",
        ),
        ("realm_cli.cli.eval", "from realm_cli.engines.loading import load", "cli imports engines outside a function"),
        ("realm_cli.engines.sft", "from realm_cli.artifacts import Stage", "engines may not import artifacts"),
        ("realm_cli.records", "from realm_cli.recipe import Recipe", "records may not import recipe"),
        ("realm_cli.artifacts", "from realm_cli.stages.summary import Summary", "artifacts may not import stages"),
        ("realm_cli.__init__", "from realm_cli.cli.app import app", "may not import cli"),
    ],
)
def test_the_checker_finds_a_planted_violation(module: str, source: str, expected: str) -> None:
    found = violations(source, module)
    assert len(found) == 1
    assert found[0].endswith(expected)


def test_the_checker_lets_through_what_is_allowed() -> None:
    assert violations("def f():\n    from realm_cli.engines.sft import Sft", "realm_cli.cli.distill") == []
    assert violations("import torch\nfrom realm_cli.recipe import SftConfig", "realm_cli.engines.sft") == []
    assert violations("from realm_cli import __version__\nimport scipy.stats", "realm_cli.method.scoring") == []
    assert violations("from . import steps", "realm_cli.method.mrpv") == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    files = package_files()
    names = {name.removesuffix(".__init__") for name in files}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        own = name.removesuffix(".__init__")
        wanted = [item.module for item in imports_of(path.read_text(encoding="utf-8"), name) if not item.lazy]
        targets = {module if module in names else module.rpartition(".")[0] for module in wanted}
        graph[own] = {target for target in targets if target in names and target not in (own, "realm_cli")}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle
    assert (
        order.index("realm_cli.records") < order.index("realm_cli.artifacts") < order.index("realm_cli.stages.rollout")
    )
    with pytest.raises(graphlib.CycleError, match="in a cycle"):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def run_realm(args: list[str]) -> tuple[int, str, set[str], float]:
    """(exit code, stdout, heavy modules that were imported, CPU seconds) of `realm ARGS` in a new process."""
    code = (
        "import sys; sys.argv = ['realm', *sys.argv[1:]]\n"
        "from realm_cli.cli.app import main\n"
        "try:\n    code = main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        f"print('loaded', *sorted({HEAVY} & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    loaded = re.search(r"^loaded(.*)$", err, re.MULTILINE)
    assert loaded is not None, err
    return process.returncode, out, set(loaded.group(1).split()), usage.ru_utime + usage.ru_stime


def test_help_is_cheap_and_lists_every_command() -> None:
    seconds = []
    for _ in range(3):
        code, out, loaded, used = run_realm(["--help"])
        assert (code, loaded) == (0, set())
        assert all(re.search(rf"\b{command}\b", out) for command in COMMANDS)
        seconds.append(used)
        if used < 0.35:
            break
    assert min(seconds) < 0.35, f"realm --help took {min(seconds):.2f} CPU seconds; import less at module level"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_no_model_library(command: str) -> None:
    code, out, loaded, _ = run_realm([command, "--help"])
    assert (code, loaded) == (0, set())
    assert "--help" in out


def test_the_probe_sees_a_heavy_import(tmp_path: Path) -> None:
    (tmp_path / "peft.py").write_text("", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import peft; print(sorted({HEAVY} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "['peft']\n"


_LEFT_OUT = {".git", ".venv", "runs", "build", "dist", "node_modules", "__pycache__", ".hypothesis"}
_TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".txt", ".json", ".jsonl", ""}


def repo_files() -> list[Path]:
    """Text files of the checkout, without environments, runs and caches."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.endswith(("_cache", ".egg-info"))]
        found += [Path(folder, name) for name in names if Path(name).suffix in _TEXT]
    return found


def test_no_source_file_is_longer_than_350_lines() -> None:
    tests = ROOT / "tests"
    sources = [path for path in repo_files() if path.suffix in (".py", ".sh") and tests not in path.parents]
    assert len(sources) > 20
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_no_file_names_a_path_of_one_machine() -> None:
    needles = ["/" + "work/", "../" + "shared", "/" + "tmp/", "/" + "root/"]
    found = []
    for path in repo_files():
        if path.stat().st_size < 2_000_000 and path.name != ".coverage":
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {needle}" for needle in needles if needle in text]
    assert found == []
