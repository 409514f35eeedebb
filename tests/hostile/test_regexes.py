"""No expression of the package takes more than linear time, or what it reads is cut before."""

from __future__ import annotations

import re

import pytest

from hostile import regexes
from hostile.regexes import BOUNDED, Expression, expressions, superlinear

ALL = expressions()


@pytest.mark.parametrize("file", sorted({expression.place for expression in ALL}))
def test_every_expression_takes_linear_time(file: str) -> None:
    slow = {e.pattern.pattern: attack for e in ALL if e.place == file and (attack := superlinear(e))}
    assert slow == {}


def test_expressions_are_found_and_slow_ones_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ALL) >= 70
    assert {(e.place, e.pattern.pattern[:12]) for e in ALL} >= set(BOUNDED)
    assert superlinear(Expression("x.py", re.compile("a[ab]*c"), "search"))
    monkeypatch.setattr(regexes, "BOUNDED", {})
    assert next(superlinear(e) for e in ALL if (e.place, e.pattern.pattern[:12]) == next(iter(BOUNDED)))
