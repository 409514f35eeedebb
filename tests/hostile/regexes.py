"""Every regular expression of the package, and texts that are the worst for each.

`expressions()` reads the source, so that a new one is found by itself; what an f-string fills in is taken as "-".
`attacks` pumps the expression's own characters: a long run of what it may repeat, then something that makes it fail.
"""

from __future__ import annotations

import ast
import re
import re._constants as codes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

from realm_cli.method.checks import MAX_EXPR
from realm_cli.method.steps import MAX_STEP_CHARS

SOURCE = Path(__file__).resolve().parents[2] / "src" / "realm_cli"
CALLS = ("compile", "sub", "search", "match", "fullmatch", "findall", "finditer", "split")
BOUNDED = {  # expressions whose callers cut the text, and leave no runs of white space in it
    ("method/checks.py", r"\\(?:int|sum"): MAX_EXPR,
    ("method/steps.py", r"(?<=[.!?])\s"): MAX_STEP_CHARS,
    ("method/steps.py", r";\s|,\s+(?=["): MAX_STEP_CHARS,
    ("method/steps.py", r"[-+(]?[$€£]?"): MAX_STEP_CHARS,
    ("method/steps.py", r"\s*[-+]?\s*["): MAX_STEP_CHARS,
    ("method/steps.py", r",\s|\.\s|\s+"): MAX_STEP_CHARS,
}
NOTHING = 0.001  # CPU seconds that are not worth a second look
ENDS = ("", "\x00", "b!", "\nx1")
_CATEGORIES = {
    codes.CATEGORY_DIGIT: "1", codes.CATEGORY_NOT_DIGIT: "b", codes.CATEGORY_SPACE: " \n",
    codes.CATEGORY_NOT_SPACE: "b", codes.CATEGORY_WORD: "a", codes.CATEGORY_NOT_WORD: "-",
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """An expression, where it stands, and whether it is only tried at a text's beginning (`match`, `fullmatch`)."""

    place: str
    pattern: re.Pattern[str]
    how: str

    def run(self, text: str) -> None:
        """As the package does it, through all of the text."""
        limit = BOUNDED.get((self.place, self.pattern.pattern[:12]))
        if limit is not None:
            text = " ".join(text[:limit].split())
        if self.how in ("match", "fullmatch"):
            getattr(self.pattern, self.how)(text)
        else:
            self.pattern.sub("", text)


def expressions() -> list[Expression]:
    """All that stand in the source."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        names = {n.value: n.targets[0].id for n in ast.walk(tree) if _named(n)}  # type: ignore[attr-defined]
        for node in ast.walk(tree):
            text = _text(node.args[0]) if isinstance(node, ast.Call) and _is_re(node.func) and node.args else None
            if text is not None:
                how = node.func.attr  # type: ignore[attr-defined]
                if how == "compile":
                    used = set(re.findall(rf"\b{names.get(node, ' ')}\.(\w+)\(", source))
                    how = used.pop() if len(used) == 1 else "search"
                found.append(Expression(path.relative_to(SOURCE).as_posix(), re.compile(text, _flags(node)), how))
    from realm_cli.method.guidance import LEAK_PATTERNS

    return found + [Expression("method/guidance.py", pattern, "search") for pattern in LEAK_PATTERNS.values()]


def attacks(pattern: re.Pattern[str]) -> Iterator[tuple[str, str, str]]:
    """(beginning, what is repeated, end) of texts that make the expression try again and again."""
    chars, words = _alphabet(pattern)
    units = [*chars[:14], *words[:3], *("".join(pair) for pair in permutations(chars[:5], 2))]
    starts = ["", *words[:3], *(word + " " for word in words[:1]), "a ", "1"]
    yield from product(dict.fromkeys(starts), dict.fromkeys(units), ENDS)


def superlinear(expression: Expression, n: int = 1500) -> str | None:
    """An attack of n characters that takes over 25 times as long at ten times the length; None where there is none."""

    def seconds(attack: tuple[str, str, str], size: int) -> float:
        start, unit, end = attack
        text = start + unit * (size // len(unit)) + end
        begin = time.thread_time()
        expression.run(text)
        return time.thread_time() - begin

    worst: list[tuple[float, tuple[str, str, str]]] = []
    for attack in attacks(expression.pattern):
        worst = sorted([*worst, (seconds(attack, n), attack)], reverse=True)[:3]
        if worst[0][0] > 1:
            break
    for slow, attack in worst:
        if slow > 1 or min(seconds(attack, 10 * n) for _ in range(2)) > 25 * max(slow, NOTHING):
            return "{!r} + {!r} * n + {!r}".format(*attack)
    return None


def _named(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Call)


def _is_re(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute) and func.attr in CALLS and getattr(func.value, "id", "") == "re"


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "-" for part in node.values)
    return None


def _flags(call: ast.Call) -> int:
    names = {
        n.attr for n in ast.walk(call) if isinstance(n, ast.Attribute) and n.attr.isupper() and hasattr(re, n.attr)
    }
    return sum(getattr(re, name) for name in names)


def _alphabet(pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """(characters that the expression looks for, runs of literals in it)"""
    chars: dict[str, None] = dict.fromkeys(" \n1a")
    words: dict[str, None] = {}

    def walk(items: Any) -> None:
        run = ""
        for op, value in items:
            if op is codes.LITERAL:
                run += chr(value)
                continue
            words.update({run: None} if run else {})
            run = ""
            if op is codes.IN:
                for kind, given in value:
                    one = chr(given) if kind is codes.LITERAL else chr(given[0]) if kind is codes.RANGE else ""
                    chars.update(dict.fromkeys(one or _CATEGORIES.get(given, "")))
            elif op is codes.BRANCH:
                for branch in value[1]:
                    walk(branch)
            elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
                walk(value[2])
            elif op is codes.SUBPATTERN:
                walk(value[3])
            elif op in (codes.ASSERT, codes.ASSERT_NOT):
                walk(value[1])
        words.update({run: None} if run else {})

    walk(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))
    chars.update(dict.fromkeys(word[0] for word in words))
    return list(chars), sorted(words, key=len, reverse=True)
