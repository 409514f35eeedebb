"""Belief and Monte-Carlo values: what is asked, what is written, how it enters the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes import FakeNll, ScriptedGenerator, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.errors import TooLong
from realm_cli.protocols import GenRequest
from realm_cli.records import Message, ScoredRoute
from realm_cli.stages.probes import run_probes
from realm_cli.stages.verify import run_verify
from stages.helpers import apples, gold, load, pool, right, route, stage_in

PROBLEMS = {"p0": apples(0), "p1": apples(1)}
ROUTES = [*pool(0), *pool(1), route(0, "cut", 0, right(0), None, truncated=True), route(0, "text", 0, [], gold(0))]


def finish(request: GenRequest, sample: int) -> str:
    """Right if all steps so far are; else right in the first of four samples only after a slip at the last step."""
    assert request.problem is not None
    i = int(request.problem.id[1:])
    fine = all(step in request.prefill for step in right(i)[: request.prefill.count("\n")])
    answer = gold(i) if fine else "0"
    return f"\n9. so it is\n</think>\n<answer>{answer}</answer>"


def probe(folder: Path, **config: object) -> tuple[list[dict], ScriptedGenerator]:
    write_rows(folder / "routes.jsonl", ROUTES)
    stage = stage_in(folder, "verify", append=True, verify={"leak_limit": 1.0, **config})
    mc = ScriptedGenerator(finish, name="mc")
    belief = FakeNll(lambda messages, text: float(text.count("\n")))
    run_probes(stage, PROBLEMS, folder / "routes.jsonl", belief=belief, mc=mc, progress=no_progress)
    return load(folder / "verify" / "probes.jsonl"), mc


def test_every_step_is_continued_and_weighed(tmp_path: Path) -> None:
    rows, mc = probe(tmp_path, mc_n=2)
    found = {row["id"]: row for row in rows}
    assert len(found) == 12  # neither the one that was cut off nor the one without steps
    assert found["p0/ext/0"]["mc_value"] == [1.0, 1.0, 1.0]
    assert found["p0/hasty/2"]["mc_value"] == [1.0, 0.0, 0.0]
    # think line, k steps, end of thought: the scored text is the same, what stands before it grows by a line
    assert found["p0/ext/0"]["belief"] == [-3.0, -4.0, -5.0]
    first = mc.asked[0]
    assert (first.prefill, first.n) == (f"<think>\n1. {right(0)[0]}", 2)
    assert {call.temperature for call in mc.calls} == {0.7}


def test_a_rerun_probes_what_is_missing(tmp_path: Path) -> None:
    rows, _ = probe(tmp_path)
    path = tmp_path / "verify" / "probes.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    again, mc = probe(tmp_path)
    assert again == rows
    assert 0 < len({request.key.rpartition("/")[0] for request in mc.asked}) < 12


def test_probes_enter_the_scores(tmp_path: Path) -> None:
    weights = {"weights": [0.5, 0.25, 0.25]}
    probe(tmp_path, **weights)
    stage = stage_in(tmp_path, "verify", append=True, verify={"leak_limit": 1.0, **weights})
    paths = tmp_path / "routes.jsonl", tmp_path / "verify" / "probes.jsonl"
    run_verify(stage, list(PROBLEMS.values()), paths[0], progress=no_progress, probes=paths[1])
    rows = {row["id"]: ScoredRoute.model_validate(row) for row in load(tmp_path / "verify" / "scored.jsonl")}
    whole = rows["p0/ext/0"]
    assert whole.belief == [-3.0, -4.0, -5.0] and whole.mc_value == [1.0, 1.0, 1.0]
    assert whole.step_score[0] == pytest.approx(whole.step_support[0])  # no change before the first step
    assert whole.step_score[1] == pytest.approx(0.5 * whole.step_support[1] + 0.25 * -1.0 + 0.25 * 0.0)
    wrong = rows["p0/hasty/2"]
    assert (wrong.first_error, wrong.first_error_src) == (2, "consensus")
    assert rows["p0/cut/0"].belief is None


def test_what_is_too_long_for_the_model_has_no_probe(tmp_path: Path) -> None:
    class Half(FakeNll):
        def nll(self, pairs: Sequence[tuple[Sequence[Message], str]], prefills: Sequence[str] = ()) -> list[float]:
            found = super().nll(pairs, prefills)
            return [math.nan if i == 1 else value for i, value in enumerate(found)]

    class None_(FakeNll):
        def nll(self, pairs: Sequence[tuple[Sequence[Message], str]], prefills: Sequence[str] = ()) -> list[float]:
            raise TooLong("all", reason="too long")

    for name, scorer, known in (("half", Half(), 11), ("none", None_(), 0)):
        folder = tmp_path / name
        folder.mkdir()
        write_rows(folder / "routes.jsonl", ROUTES)
        stage = stage_in(folder, "verify", append=True, verify={"leak_limit": 1.0})
        run_probes(stage, PROBLEMS, folder / "routes.jsonl", belief=scorer, mc=None, progress=no_progress)
        rows = load(folder / "verify" / "probes.jsonl")
        assert len(rows) == 12 and sum(row["belief"] is not None for row in rows) == known
