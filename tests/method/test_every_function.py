"""Every public function of method/ is held to worked examples and to a property (hypothesis)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import realm_cli.method

METHOD = Path(realm_cli.method.__file__).parent
TESTS = Path(__file__).parent


def functions() -> Iterator[tuple[str, str]]:
    """(module, name) of each public function, methods of public classes left out."""
    for path in sorted(METHOD.glob("[a-z]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield path.stem, node.name


def named(tree: ast.AST) -> set[str]:
    """Every name and attribute in a piece of code."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def tested() -> tuple[set[str], set[str]]:
    """(names in worked examples, names in properties); helpers of a test file count for the tests that call them."""
    worked: set[str] = set()
    properties: set[str] = set()
    for path in sorted(TESTS.glob("test_*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        defined = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        helpers = {node.name: named(node) for node in defined if not node.name.startswith("test_")}
        for node in defined:
            if node.name.startswith("test_"):
                names, seen = named(node), set[str]()
                while fresh := (names & helpers.keys()) - seen:
                    seen |= fresh
                    names = names.union(*(helpers[name] for name in fresh))
                is_property = any("given" in named(d) for d in getattr(node, "decorator_list", []))
                (properties if is_property else worked).update(names)
    return worked, properties


def test_every_function_has_worked_examples_and_a_property() -> None:
    worked, properties = tested()
    found = sorted(functions())
    assert len(found) > 60
    assert [name for name in found if name[1] not in worked] == []
    assert [name for name in found if name[1] not in properties] == []
