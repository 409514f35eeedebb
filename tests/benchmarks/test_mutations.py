"""The list of changes by hand cannot rot: each fits the source as it is now. Trying them takes `run.py --hand`."""

from __future__ import annotations

import ast

import pytest

from scripts import load

(run,) = load("mutations", "run")


def test_every_change_by_hand_fits_the_source_once_and_is_still_python() -> None:
    found = list(run.by_hand(run.HAND.read_text(encoding="utf-8")))
    assert len(found) >= 200 and len({(name, what) for name, _, what, _ in found}) == len(found)
    for name, line, _, source in found:
        plain = (run.METHOD / f"{name}.py").read_text(encoding="utf-8")
        assert ast.dump(ast.parse(source)) != ast.dump(ast.parse(plain))
        assert source.splitlines()[: line - 1] == plain.splitlines()[: line - 1]


def test_a_change_that_fits_nothing_or_twice_is_an_error() -> None:
    for old, times in (("no such text", 0), ("fact", None)):
        with pytest.raises(ValueError, match=f"stands {times or '[0-9]+'} times in method/mrpv.py"):
            list(run.by_hand(f"@ mrpv\n-{old}\n+x\n"))


def test_draws_are_the_same_for_the_same_seed_and_every_mutant_differs() -> None:
    one, again, other = (list(run.drawn(["bridge", "contamination"], seed, 6)) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 12
    for name, _, _, source in one:
        assert source != ast.unparse(ast.parse((run.METHOD / f"{name}.py").read_text(encoding="utf-8")))
