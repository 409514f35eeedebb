"""Dev measurements while RL runs: bare and routed, by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fakes import ScriptedGenerator
from realm_cli.prompts import check_text
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.records import ShownRoute
from realm_cli.stages.monitor import make_evaluator
from stages.helpers import apples, bare_right, bare_slip, gold, right, slip, stage_in, text_of

DEV = [apples(i, "dev", group="x" if i < 2 else "y") for i in range(4)]


def shown(i: int, labels: str) -> list[ShownRoute]:
    """One route a letter: r = right, w = wrong (always the same wrong answer)."""
    steps, answer = slip(i, 1)
    return [
        ShownRoute(route_id=f"{i}{n}", steps=right(i) if c == "r" else steps, answer=gold(i) if c == "r" else answer,
                   label=c == "r")
        for n, c in enumerate(labels)
    ]  # fmt: skip


ROUTES = {"p0": shown(0, "rw"), "p1": shown(1, "ww"), "p2": shown(2, "wwr")}


def policy(request: GenRequest, sample: int) -> str:
    """Bare: solves p0. Routed: p0 and p1 right; p2 follows the wrong majority. Every route is called right."""
    assert request.problem is not None
    i, k = int(request.problem.id[1:]), text_of(request.messages).count("[Route ")
    if not k:
        return bare_right(i) if i == 0 else bare_slip(i)
    return f"{check_text([True] * k, [None] * k)}\n{bare_right(i) if i < 2 else bare_slip(i)}"


def test_routed_measurements_by_hand(tmp_path: Path) -> None:
    recipe = stage_in(tmp_path, "train_rl", train_rl={"dev_routed": 9}).recipe
    generator = ScriptedGenerator(policy)
    found = make_evaluator(recipe, DEV, ROUTES)(generator, 0)
    assert found == {
        "dev_bare": 0.25,
        "dev_bare/x": 0.5,
        "dev_bare/y": 0.0,
        "dev_routed": pytest.approx(2 / 3),
        "dev_rescued": 1.0,  # p1: no route is right
        "dev_misled": 0.5,  # p1 and p2 have a wrong vote; p2 follows it
        "dev_verdicts": 0.5,  # p0 and p2 show both signs
        "dev_autonomy": pytest.approx(0.5),  # bare 1 of 3 on the same problems, routed 2 of 3
    }
    assert len(generator.asked) == 7


def test_without_routes_or_with_none_wanted_only_bare_is_measured(tmp_path: Path) -> None:
    for given, routes in (({"dev_routed": 2}, {}), ({}, ROUTES)):
        recipe = stage_in(tmp_path / str(len(routes)), "train_rl", train_rl=given).recipe
        assert set(make_evaluator(recipe, DEV, routes)(ScriptedGenerator(policy), 0)) == {
            "dev_bare",
            "dev_bare/x",
            "dev_bare/y",
        }


def test_no_more_than_wanted_are_measured_with_routes(tmp_path: Path) -> None:
    recipe = stage_in(tmp_path, "train_rl", train_rl={"dev_routed": 1}).recipe
    found = make_evaluator(recipe, DEV, ROUTES)(ScriptedGenerator(policy), 0)
    assert found["dev_routed"] == 1.0 and "dev_misled" not in found


def test_prompts_that_are_too_long_are_left_out(tmp_path: Path) -> None:
    class Short(ScriptedGenerator):
        def generate(
            self, requests: Sequence[GenRequest], params: SamplingParams
        ) -> Iterator[tuple[int, list[Completion]]]:
            for index, done in super().generate(requests, params):
                key = requests[index].key
                yield index, [Completion("", failure="long", lasting=True)] if key in ("p3", "p2/routed") else done

    recipe = stage_in(tmp_path, "train_rl", train_rl={"dev_routed": 9}).recipe
    found = make_evaluator(recipe, DEV, ROUTES)(Short(policy), 0)
    assert found["dev_bare"] == pytest.approx(1 / 3) and found["dev_bare/y"] == 0.0
    assert found["dev_routed"] == 1.0 and found["dev_autonomy"] == 0.5
