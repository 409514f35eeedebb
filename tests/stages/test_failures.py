"""Samples that a server did not give: in files and words, asked for again, never lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import ScriptedGenerator, no_progress
from realm_cli.errors import EngineError, TooLong
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.stages.evaluate import run_eval
from realm_cli.stages.failures import Failures, gaps, pending
from realm_cli.stages.rollout import run_rollout
from realm_cli.stages.summary import Summary
from realm_cli.stages.teacher import Guide, collect_cots
from stages.helpers import apples, bare_right, load, stage_in

PROBLEMS = [apples(i) for i in range(4)]


class Flaky(ScriptedGenerator):
    """Fails for the samples in `broken`: (key, sample)."""

    broken: frozenset[tuple[str, int]] = frozenset()

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        for index, row in super().generate(requests, params):
            request = requests[index]
            numbered = enumerate(row, request.first_sample)
            yield (
                index,
                [
                    Completion("", failure="status 500") if (request.key, sample) in self.broken else done
                    for sample, done in numbered
                ],
            )


def flaky(*broken: tuple[str, int], name: str = "far") -> Flaky:
    generator = Flaky({"*": [bare_right(0)]}, name=name)
    generator.broken = frozenset(broken)
    return generator


@given(st.sets(st.integers(0, 12)), st.integers(0, 12))
def test_gaps_are_what_is_missing_in_the_longest_runs(have: set[int], want: int) -> None:
    found = gaps(have, want)
    asked = [sample for first, n in found for sample in range(first, first + n)]
    assert asked == [sample for sample in range(want) if sample not in have]
    assert all(a + n < b for (a, n), (b, _) in pairwise(found))


def test_rows_settle_and_survive_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    failures = Failures(path)
    for name in ("a", "b", "a"):
        failures.add(name, "p", "far", 0, f"status 50{name}")
    assert [row["id"] for row in load(path)] == ["a", "b"]
    with path.open("a") as out:
        out.write('{"id": "cut')
    again = Failures(path)
    again.settle({"a"})
    assert [row["id"] for row in load(path)] == ["b"]
    assert again.notes("--resume") == [f"1 samples failed: 1 x status 50b; --resume asks for them again ({path})"]
    again.refuse(100, 0.01, "--resume")
    with pytest.raises(EngineError) as error:
        again.refuse(99, 0.01, "--resume")
    assert str(error.value) == (
        f"{path}: 1 of 99 samples failed: 1 x status 50b; the others are kept, --resume asks for these again "
        "(engine.server.max_failed: how many may fail)"
    )
    again.settle({"b"})
    assert not path.exists() and again.notes("x") == []
    again.refuse(0, 0.0, "x")


def test_like_reasons_are_counted_together_and_runs_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    reasons = ["busy"] * 3 + ["cut"] * 2 + ["odd", "odder"]
    for _ in range(2):
        failures = Failures(path)
        for i, reason in enumerate(reasons):
            failures.add(f"p{i}", f"p{i}", "far", 0, reason)
        failures.settle(())
    assert [row["runs"] for row in load(path)] == [2] * 7
    (note,) = failures.notes("--resume")
    assert note.startswith("7 samples failed: 3 x busy, 2 x cut, 2 for 2 other reasons; --resume asks for them again")


def rollout(folder: Path, generator: Flaky, max_failed: float = 0.0) -> Summary:
    stage = stage_in(folder, "rollout", append=True, rollout={"n": 3}, engine={"server": {"max_failed": max_failed}})
    return run_rollout(stage, PROBLEMS, [generator], self_names=frozenset(), progress=no_progress)


def test_a_rollout_keeps_the_others_and_asks_again_for_what_failed(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"errors.jsonl: 2 of 12 samples failed: 2 x status 500; the others are kept"):
        rollout(tmp_path, flaky(("p1", 1), ("p3", 0)))
    assert len(load(tmp_path / "rollout" / "routes.jsonl")) == 10
    assert {row["id"] for row in load(tmp_path / "rollout" / "errors.jsonl")} == {"p1/far/1", "p3/far/0"}
    assert load(tmp_path / "rollout" / "problems.jsonl")[0]["p_ext"] == 1.0
    tolerant = rollout(tmp_path, flaky(("p3", 0)), max_failed=0.1)
    assert tolerant.notes[-1].startswith("1 samples failed: 1 x status 500; the same command asks for them again")
    last = flaky()
    rollout(tmp_path, last)
    assert [(r.key, r.first_sample, r.n) for r in last.asked] == [("p3", 0, 1)]
    ids = [row["id"] for row in load(tmp_path / "rollout" / "routes.jsonl")]
    assert len(ids) == len(set(ids)) == 12 and not (tmp_path / "rollout" / "errors.jsonl").exists()


def test_nothing_at_all_says_why(tmp_path: Path) -> None:
    everything = [(p.id, sample) for p in PROBLEMS for sample in range(3)]
    with pytest.raises(EngineError, match="12 of 12 samples failed: 12 x status 500"):
        rollout(tmp_path, flaky(*everything), max_failed=1.0)


def test_a_teacher_is_asked_again(tmp_path: Path) -> None:
    def ask(generator: Flaky, **server: float) -> list[str]:
        blocks = {"distill": {"n": 2, "retry_with_label": True}, "engine": {"server": server}}
        stage = stage_in(tmp_path, "distill", append=True, **blocks)
        return [cot.id for cot in collect_cots(stage, PROBLEMS, Guide(generator), no_progress)]

    with pytest.raises(
        EngineError, match=r"distill/errors.jsonl: 1 of 8 samples failed.*--resume asks for these again"
    ):
        ask(flaky(("p2", 0)))
    assert len(load(tmp_path / "distill" / "teacher.jsonl")) == 7  # and no label was shown: the failed one may be right
    assert "p2/cot/0" not in ask(flaky(("p2", 0)), max_failed=0.2)
    whole = flaky()
    assert "p2/cot/0" in ask(whole) and whole.asked[0].first_sample == 0
    assert not (tmp_path / "distill" / "errors.jsonl").exists()


def test_accuracies_need_every_prediction(tmp_path: Path) -> None:
    problems = [apples(i, "test") for i in range(3)]

    def evaluate(generator: Flaky, resume: bool) -> Summary:
        stage = stage_in(tmp_path, "eval", resume=resume, eval={"n": 2, "bootstrap": 100})
        models = {"m": lambda: generator}
        return run_eval(stage, problems, models, None, modes=["bare"], compare=False, progress=no_progress)

    with pytest.raises(EngineError, match=r"eval/errors.jsonl: 1 of 6 samples failed.*--resume asks for these again$"):
        evaluate(flaky(("p1/bare", 0)), resume=False)
    assert len(load(tmp_path / "eval" / "predictions.jsonl")) == 5 and not (tmp_path / "eval" / "report.json").exists()
    evaluate(flaky(), resume=True)
    ids = [row["id"] for row in load(tmp_path / "eval" / "predictions.jsonl")]
    assert len(ids) == len(set(ids)) == 6 and not (tmp_path / "eval" / "errors.jsonl").exists()


def test_completions_have_no_failure_unless_told() -> None:
    assert not Completion("x").failure and replace(Completion("x"), failure="y").failure == "y"


class Short(ScriptedGenerator):
    """Cannot read the prompts of some problems; TooLong where these are all that it is asked for."""

    closed: frozenset[str] = frozenset()
    reason = "its prompt is longer than the 9 tokens that far can read"

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        names = [request.problem.id if request.problem else "" for request in requests]
        if requests and self.closed.issuperset(names):
            raise TooLong("model far: all are too long", reason=self.reason)
        for index, row in super().generate(requests, params):
            refused = [Completion("", truncated=True, failure=self.reason, lasting=True)] * len(row)
            yield index, refused if names[index] in self.closed else row


def short(*closed: str) -> Short:
    generator = Short({"*": [bare_right(0)]}, name="far")
    generator.closed = frozenset(closed)
    return generator


TOLD = (
    "2 samples of 1 problems are left out, e.g. of p1: 2 x its prompt is longer than the 9 tokens that far can read; "
)


def test_a_prompt_that_is_too_long_is_left_out_of_a_rollout(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "rollout", append=True, rollout={"n": 2})
    names = frozenset({"far"})
    done = run_rollout(stage, PROBLEMS, [short("p1")], self_names=names, progress=no_progress)
    assert done.data["routes"] == 6 and done.notes[-1].startswith(TOLD)
    assert "verify.k" in done.notes[-1] and "longer context" in done.notes[-1]
    rows = load(tmp_path / "rollout" / "errors.jsonl")
    assert [(row["id"], row["lasting"], row["runs"]) for row in rows] == [("p1/far/0", True, 1), ("p1/far/1", True, 1)]
    again = run_rollout(stage, PROBLEMS, [short("p1")], self_names=names, progress=no_progress)  # p1 alone is asked for
    assert again.data["routes"] == 6 and again.notes[-1].startswith(TOLD)
    longer = run_rollout(stage, PROBLEMS, [short()], self_names=names, progress=no_progress)
    assert longer.data["routes"] == 8 and not (tmp_path / "rollout" / "errors.jsonl").exists()


def test_nothing_but_prompts_that_are_too_long_is_an_error(tmp_path: Path) -> None:
    every = short("p0", "p1", "p2", "p3")
    stage = stage_in(tmp_path, "rollout", append=True, rollout={"n": 2})
    with pytest.raises(
        EngineError, match=r"rollout/errors.jsonl: 8 samples of 4 problems are left out, e.g. of p0: 8 x"
    ):
        run_rollout(stage, PROBLEMS, [every], self_names=frozenset(), progress=no_progress)
    stage = stage_in(tmp_path, "distill", distill={"n": 2, "teacher": "far"})
    with pytest.raises(EngineError, match=r"distill/errors.jsonl: 8 samples of 4 problems are left out"):
        collect_cots(stage, PROBLEMS, Guide(every), no_progress)
    stage = stage_in(tmp_path, "eval")
    with pytest.raises(EngineError, match=r"eval/errors.jsonl: 4 samples of 4 problems are left out"):
        run_eval(stage, PROBLEMS, {"m": lambda: every}, None, modes=["bare"], compare=False, progress=no_progress)


def test_a_teacher_goes_on_with_the_others(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "distill", distill={"n": 2, "teacher": "far"})
    cots = collect_cots(stage, PROBLEMS, Guide(short("p1")), no_progress)
    assert {cot.problem_id for cot in cots} == {"p0", "p2", "p3"}
    path = tmp_path / "distill" / "errors.jsonl"
    assert Failures(path).notes("--resume")[0].startswith(TOLD) and not pending(path)
    failures = Failures(path)
    failures.add("x", "p0", "far", 0, "status 500")
    failures.settle(set())
    assert pending(path)
    assert [note.split(";")[0] for note in Failures(path).notes("--resume")] == [
        "1 samples failed: 1 x status 500", TOLD.split(";")[0],
    ]  # fmt: skip


def test_eval_tells_what_is_in_no_figure_and_compares_the_rest(tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "eval")
    models = {"a": lambda: short("p1"), "b": lambda: short("p0", "p2")}
    done = run_eval(stage, PROBLEMS, models, None, modes=["bare"], compare=True, progress=no_progress)
    assert done.data["left_out"] == {"a, bare": 1, "b, bare": 2}
    assert {cell["model"]: cell["n"] for cell in done.data["results"] if cell["group"] == "all"} == {"a": 3, "b": 2}
    assert done.data["comparisons"][0]["n"] == 1
    assert (
        "1 problems are in no figure of a, bare" in done.notes
        and "2 problems are in no figure of b, bare" in done.notes
    )
    assert next(row for row in done.tables[0].rows if row[0] == "all")[1] == "3/2"
    stage = stage_in(tmp_path / "other", "eval")
    models = {"a": lambda: short("p0", "p1"), "b": lambda: short("p2", "p3")}
    done = run_eval(stage, PROBLEMS, models, None, modes=["bare"], compare=True, progress=no_progress)
    assert done.data["comparisons"] == []  # no problem in common
