"""The rulebook domain: fees of the Northport parcel tariff.

generate(n_train, n_dev, n_test, seed)  problem rows          oracle_solution(question)      a solution that is right
SOLVERS, solve(name, question, rng)     noisy external routes  rule_check(question, solution) "pass" | "fail"
rules(), notes()                        what a teacher may see and the student never does
"""

from __future__ import annotations

from importlib.resources import files

from realm_cli.domains.rulebook.generate import DEFAULT_MIX, GROUPS, generate
from realm_cli.domains.rulebook.solvers import SOLVERS, oracle_solution, rule_check, solve

__all__ = [
    "DEFAULT_MIX",
    "GROUPS",
    "SOLVERS",
    "generate",
    "notes",
    "oracle_solution",
    "rule_check",
    "rules",
    "solve",
]


def rules() -> str:
    """The rule book, as Markdown."""
    return files(__name__).joinpath("rules.md").read_text(encoding="utf-8")


def notes() -> str:
    """Short expert notes on how to apply the rules, as Markdown."""
    return files(__name__).joinpath("notes.md").read_text(encoding="utf-8")
