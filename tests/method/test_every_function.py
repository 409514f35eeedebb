"""Every public function and method of method/ is held to worked examples and to a property (hypothesis)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import realm_cli.method

METHOD = Path(realm_cli.method.__file__).parent
TESTS = Path(__file__).parent
PACKAGE = "realm_cli.method"


def functions() -> Iterator[tuple[str, str]]:
    """(module, name) of each public function; ("", name) of each public method of a public class."""
    for path in sorted(METHOD.glob("[a-z]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield path.stem, node.name
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
                yield from (("", name) for name in methods if not name.startswith("_"))


def imported(body: list[ast.stmt]) -> dict[str, tuple[str, str]]:
    """Local name -> (module, function), or (module, "") for a module of method/ itself."""
    names = {}
    for node in body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                local = alias.asname or alias.name
                if node.module == PACKAGE:
                    names[local] = (alias.name, "")
                elif node.module and node.module.startswith(f"{PACKAGE}."):
                    names[local] = (node.module.removeprefix(f"{PACKAGE}."), alias.name)
    return names


def uses(tree: ast.AST, names: dict[str, tuple[str, str]]) -> set[tuple[str, str]]:
    """The functions of method/ that a piece of code names, under their own module; ("", name) of every attribute and of
    every other name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(names.get(node.id, ("", node.id)))
        if isinstance(node, ast.Attribute):
            found.add(("", node.attr))
            if isinstance(node.value, ast.Name) and names.get(node.value.id, ("", "x"))[1] == "":
                found.add((names[node.value.id][0], node.attr))
    return found


def what_is_tested() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What worked examples use, and what properties use; a test file's helpers count for the tests that call them."""
    worked: set[tuple[str, str]] = set()
    properties: set[tuple[str, str]] = set()
    for path in sorted(TESTS.glob("test_*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = imported(body)
        defined = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        helpers = {("", node.name): uses(node, names) for node in defined if not node.name.startswith("test_")}
        for node in defined:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                used, seen = uses(node, names), set[tuple[str, str]]()
                while fresh := (used & helpers.keys()) - seen:
                    seen |= fresh
                    used = used.union(*(helpers[name] for name in fresh))
                is_property = any(("", "given") in uses(decorator, names) for decorator in node.decorator_list)
                (properties if is_property else worked).update(used)
    return worked, properties


def test_every_function_has_worked_examples_and_a_property() -> None:
    worked, properties = what_is_tested()
    found = sorted(functions())
    assert len(found) > 60
    assert [name for name in found if name not in worked] == []
    assert [name for name in found if name not in properties] == []
