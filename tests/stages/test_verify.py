"""Scoring and route sets over files: who is read, what is written, what is refused."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from fakes import installed_checker, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.errors import ConfigError, DataError, EngineError
from realm_cli.records import Problem, Route, RouteSet, ScoredRoute
from realm_cli.stages import verify as stages_verify
from realm_cli.stages import verify_parts
from realm_cli.stages.summary import Summary
from realm_cli.stages.verify import read_summary, run_verify
from stages.helpers import apples, cot, gold, load, pool, right, route, slip, stage_in

PROBLEMS = [apples(0, group="x"), apples(1, group="y"), apples(2, "dev", group="y"), apples(3, "test", group="x")]
ROUTES = [row for i in range(4) for row in pool(i)]


def verify(
    folder: Path, routes: Sequence[Route] = ROUTES, problems: Sequence[Problem] = PROBLEMS, **config: Any
) -> Summary:
    write_rows(folder / "routes.jsonl", routes)
    stage = stage_in(folder, "verify", verify={"leak_limit": 1.0, **config})
    return run_verify(stage, problems, folder / "routes.jsonl", progress=no_progress)


def test_scored_rows_by_hand(tmp_path: Path) -> None:
    verify(tmp_path)
    rows = {row["id"]: ScoredRoute.model_validate(row) for row in load(tmp_path / "verify" / "scored.jsonl")}
    assert len(rows) == 24
    assert all(len(r.step_kind) == len(r.steps) == len(r.step_support) for r in rows.values())
    positive, early, late = rows["p0/ext/0"], rows["p0/hasty/0"], rows["p0/hasty/2"]
    assert positive.correct and positive.first_error is None and not positive.lucky
    assert positive.step_kind == ["agreed", "agreed", "agreed"]
    assert (early.first_error, early.first_error_src) == (1, "support")
    assert late.step_kind[0] == "agreed"
    assert late.first_error == 2
    for i in range(4):
        assert rows[f"p{i}/hasty/0"].first_error == 1


def test_sets_are_of_train_and_dev_only_and_hold_k_routes(tmp_path: Path) -> None:
    verify(tmp_path, k=4, sets_per_problem=3)
    sets = [RouteSet.model_validate(row) for row in load(tmp_path / "verify" / "sets.jsonl")]
    assert {s.problem_id for s in sets} == {"p0", "p1", "p2"}
    assert all(len(s.shown) == 4 for s in sets)
    assert max(sum(s.problem_id == p for s in sets) for p in ("p0", "p1", "p2")) == 3
    known = {r.id: r for r in ROUTES}
    for route_set in sets:
        for shown in route_set.shown:
            original = known[shown.route_id.split("#")[0]]
            assert shown.label == (original.correct and not shown.tampered)
            assert original.problem_id == route_set.problem_id


def test_summary_numbers(tmp_path: Path) -> None:
    summary = verify(tmp_path)
    written = json.loads((tmp_path / "verify" / "summary.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(summary.data))
    assert (written["problems"], written["routes"], written["correct"], written["lucky"]) == (4, 24, 0.5, 0.0)
    assert written["first_error_known"] == 1.0
    assert sum(written["step_kinds"].values()) == 24 * 3
    assert written["sets"] == len(load(tmp_path / "verify" / "sets.jsonl"))
    assert written["groups"] == {
        "x": {"routes": 12, "correct": 0.5, "first_error_known": 1.0},
        "y": {"routes": 12, "correct": 0.5, "first_error_known": 1.0},
    }
    assert written["leak"]["limit"] == 1.0 and written["leak"]["pass"] is True
    assert summary.tables[0].rows == [["x", "12", "50.0", "100.0"], ["y", "12", "50.0", "100.0"]]
    assert [row[0] for row in summary.tables[1].rows] == ["agreed", "suspect", "novel", "none"]
    assert summary.notes[0] == f"{written['sets']} route sets over 4 problems"
    tried = written["planted_errors"]
    assert tried["tried"] == 4 and tried["located"] == 1.0
    assert summary.notes[1].startswith("planted errors: 100.0 % of 4 located, ")
    assert summary.notes[2].endswith("limit 1.0: pass")


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        verify(tmp_path / name)
    for file in ("scored.jsonl", "sets.jsonl", "summary.json"):
        assert (tmp_path / "a/verify" / file).read_bytes() == (tmp_path / "b/verify" / file).read_bytes()


def test_routes_of_another_tool_are_parsed_and_graded(tmp_path: Path) -> None:
    foreign = [
        Route(id="f/0", problem_id="p0", source="other", text=cot(right(0), gold(0))),
        Route(id="f/1", problem_id="p0", source="other", text=cot(*slip(0, 1))),
        Route(id="f/2", problem_id="p0", source="other", text=cot(right(0), gold(0)), truncated=True),
    ]
    verify(tmp_path, [*ROUTES, *foreign])
    rows = {row["id"]: row for row in load(tmp_path / "verify" / "scored.jsonl")}
    assert [rows[f"f/{i}"]["correct"] for i in range(3)] == [True, False, False]
    assert rows["f/0"]["steps"] == right(0) and rows["f/0"]["final_answer"] == gold(0)


def test_rows_without_verdict_steps_or_answer_are_read_judged_and_counted(tmp_path: Path) -> None:
    """Lines of another tool, each with the fields it has: p0 without `correct`, p1 text only, p2 a verdict too many."""
    rows = []
    for r in ROUTES:
        kept = {"id": r.id, "problem_id": r.problem_id, "source": r.source, "text": r.text}
        if r.problem_id == "p0":
            kept |= {"steps": r.steps, "final_answer": r.final_answer}
        if r.problem_id in ("p2", "p3"):
            kept |= {"steps": r.steps, "final_answer": r.final_answer, "correct": r.correct or r.id == "p2/hasty/0"}
        rows.append(kept)
    (tmp_path / "routes.jsonl").write_text("".join(json.dumps(kept) + "\n" for kept in rows), encoding="utf-8")
    stage = stage_in(tmp_path, "verify", verify={"leak_limit": 1.0})
    summary = run_verify(stage, PROBLEMS, tmp_path / "routes.jsonl", progress=no_progress)
    found = {row["id"]: row["correct"] for row in load(tmp_path / "verify" / "scored.jsonl")}
    assert found == {r.id: r.correct or r.id == "p2/hasty/0" for r in ROUTES}
    assert summary.data["verdicts"] == {
        "given": 12, "judged": 12, "judged_right": 6, "checked": 12, "contradicted": 1, "steps": 6, "answers": 6,
        "examples": ["p2/hasty/0"],
    }  # fmt: skip
    assert "read from the texts: the steps of 6 routes, the final answers of 6" in summary.notes
    assert "12 of 24 routes came without a verdict; judged: 6 are right" in summary.notes
    assert any(note.startswith("warning: 1 of 12 given verdicts are not what") for note in summary.notes)
    assert read_summary(stage) == summary


def test_whole_rows_give_no_such_notes_and_few_routes_do(tmp_path: Path) -> None:
    assert len(verify(tmp_path / "a").notes) == 3
    few = [r for r in ROUTES if r.problem_id != "p1" or r.correct]  # nothing to contrast for p1
    notes = verify(tmp_path / "b", few, k=8, natural_frac=0.0).notes
    assert "1 train and dev problems have no set: fewer than 2 usable routes, or none of one sign" in notes
    assert (
        "routes in a set: 4 with 6; fewer than verify.k=8 where a problem has fewer usable ones; 3 at most where the "
        "median route has over 300 tokens (verify.k_long_tokens)" in notes
    )


def test_long_routes_are_fewer_by_a_key_that_is_told(tmp_path: Path) -> None:
    long = [r.model_copy(update={"n_tokens": 301}) for r in ROUTES]
    summary = verify(tmp_path / "a", long)
    assert summary.data["routes_in_set"] == {"3": 6}
    assert any(note.startswith("routes in a set: 6 with 3; fewer than verify.k=4") for note in summary.notes)
    assert verify(tmp_path / "b", long, k_long_tokens=None).data["routes_in_set"] == {"4": 6}
    assert verify(tmp_path / "c", long, k_long_tokens=301).data["routes_in_set"] == {"4": 6}


def test_a_leak_warns_or_fails_as_asked(tmp_path: Path) -> None:
    problems = [apples(i) for i in range(30)]
    routes = []
    for i in range(30):
        routes += [route(i, "ext", s, right(i), gold(i)) for s in range(2)]
        steps, answer = slip(i, 1)
        long = [f"Well, let me think about this for a rather long while: {step}" for step in steps]
        routes += [route(i, "bad", s, [*long, "I am quite sure of that indeed, my friend"], answer) for s in range(2)]
    summary = verify(tmp_path / "warn", routes, problems, leak_limit=0.55)
    assert summary.data["leak"]["pass"] is False
    assert summary.data["leak"]["auc"] > 0.7
    assert "length or format hints at the label, r_ver may reward form" in summary.notes[-1]
    with pytest.raises(DataError) as error:
        verify(tmp_path / "fail", routes, problems, leak_limit=0.55, on_leak="fail")
    assert "labels leak through form (AUC " in str(error.value) and "> 0.55)" in str(error.value)
    assert (tmp_path / "fail" / "verify" / "summary.json").exists()


def refusal(folder: Path, routes: Sequence[Route], **config: Any) -> str:
    with pytest.raises(DataError) as error:
        verify(folder, routes, **config)
    return str(error.value).removeprefix(f"{folder / 'routes.jsonl'}:").strip()


def test_no_positive_or_no_negative(tmp_path: Path) -> None:
    wrong, fine = [r for r in ROUTES if not r.correct], [r for r in ROUTES if r.correct]
    assert refusal(tmp_path / "a", wrong).startswith("no route is correct; check the problems' answers and types")
    assert refusal(tmp_path / "b", fine).startswith("every route is correct, nothing to contrast; add a weaker --model")
    cut = [r.model_copy(update={"truncated": True}) for r in wrong]
    assert refusal(tmp_path / "c", [*fine, *cut]).startswith("every route is correct")


def test_foreign_and_doubled_routes_are_named_with_their_row(tmp_path: Path) -> None:
    stranger = route(9, "ext", 0, right(9), gold(9))
    assert refusal(tmp_path / "a", [ROUTES[0], stranger]).startswith("2: problem 'p9' is not among the problems")
    assert refusal(tmp_path / "b", [ROUTES[0], ROUTES[3], ROUTES[0]]) == (
        "3: route id 'p0/ext/0' stands twice; ids must be unique"
    )


def test_no_rows_and_too_few_routes(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a", []) == "no rows; run `realm rollout` again"
    only_test = [r for r in ROUTES if r.problem_id == "p3"]
    assert refusal(tmp_path / "b", only_test) == ("no train or dev problem has two usable routes; sample more with --n")


def test_a_doubled_id_is_found_across_problems(tmp_path: Path) -> None:
    twin = route(2, "ext", 0, right(2), gold(2), id=ROUTES[0].id)
    assert refusal(tmp_path, [*ROUTES[:6], twin]) == "7: route id 'p0/ext/0' stands twice; ids must be unique"
    assert not (tmp_path / "verify" / "parts").exists()


# ---- long files: parts, processes


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Problem], list[Route]]:
    """40 problems whose routes lie scattered over the file, and parts so small that there are several."""
    monkeypatch.setattr(verify_parts, "PART_BYTES", 20_000)
    routes = sorted((row for i in range(40) for row in pool(i)), key=lambda row: (row.sample, row.source, row.id))
    return [apples(i, "test" if i % 5 == 4 else "train", group=f"g{i % 3}") for i in range(40)], routes


def test_parts_and_processes_change_nothing(
    tmp_path: Path, many: tuple[list[Problem], list[Route]], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems, routes = many
    done = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        write_rows(folder / "routes.jsonl", routes)
        stage = stage_in(folder, "verify", verify={"leak_limit": 1.0}, checks={"workers": workers})
        done[workers] = run_verify(stage, problems, folder / "routes.jsonl", progress=no_progress).data
    assert done[1] == done[2]
    for file in ("scored.jsonl", "sets.jsonl", "summary.json"):
        assert (tmp_path / f"1/verify/{file}").read_bytes() == (tmp_path / f"2/verify/{file}").read_bytes()
    assert not (tmp_path / "2/verify/parts").exists()

    # One part gives the same scores in another order: a problem's routes are scored among themselves.
    monkeypatch.undo()
    whole = verify(tmp_path / "whole", routes, problems).data
    rows = {row["id"]: row for row in load(tmp_path / "whole/verify/scored.jsonl")}
    assert {row["id"]: row for row in load(tmp_path / "1/verify/scored.jsonl")} == rows
    assert len(rows) == len(routes) == 240
    same = ("problems", "routes", "correct", "lucky", "first_error_known", "step_kinds", "groups")
    assert {k: whole[k] for k in same} == {k: done[1][k] for k in same}


def test_a_problem_lies_in_one_part(tmp_path: Path, many: tuple[list[Problem], list[Route]]) -> None:
    problems, routes = many
    path = tmp_path / "routes.jsonl"
    write_rows(path, routes)
    parts = verify_parts.split(path, {p.id: p for p in problems}, tmp_path / "parts", no_progress)
    assert len(parts) > 2
    homes = [(row["problem_id"], part.name) for part in parts for row in load(part / "routes.jsonl")]
    assert len(homes) == 240
    assert len(set(homes)) == len({problem for problem, _ in homes}) == 40
    assert {part: {p.id for p in rows} for part, rows in parts.items()} == {
        part: {problem for problem, home in homes if home == part.name} for part in parts
    }


def test_a_process_that_ends_is_named(
    tmp_path: Path, many: tuple[list[Problem], list[Route]], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems, routes = many

    class Broken:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def map(self, *_: Any) -> Any:
            raise BrokenProcessPool("gone")

        def shutdown(self, **_: Any) -> None: ...

    monkeypatch.setattr(verify_parts, "ProcessPoolExecutor", Broken)
    write_rows(tmp_path / "routes.jsonl", routes)
    stage = stage_in(tmp_path, "verify", checks={"workers": 3})
    with pytest.raises(EngineError, match=r"a scoring process ended, .*; set checks.workers below 3"):
        run_verify(stage, problems, tmp_path / "routes.jsonl", progress=no_progress)
    assert not (tmp_path / "verify/parts").exists()
    assert not (tmp_path / "verify/scored.jsonl").exists()


def test_a_mistake_in_a_later_part_stops_all(tmp_path: Path, many: tuple[list[Problem], list[Route]]) -> None:
    problems, routes = many
    odd = [p.model_copy(update={"answer_type": "sudoku"}) for p in problems]
    foreign = [r.model_copy(update={"steps": [], "final_answer": None}) for r in routes]
    write_rows(tmp_path / "routes.jsonl", foreign)
    stage = stage_in(tmp_path, "verify", checks={"workers": 2})
    with pytest.raises(ConfigError, match="unknown answer_type 'sudoku'"):
        run_verify(stage, odd, tmp_path / "routes.jsonl", progress=no_progress)
    assert multiprocessing.active_children() == []


def test_the_leak_probe_reads_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(tmp_path / "all").data["leak"]["sets"] == 6
    monkeypatch.setattr(stages_verify, "PROBED", 4)
    few = verify(tmp_path / "few").data
    assert (few["leak"]["sets"], few["sets"]) == (4, 6)


def test_a_checker_that_hangs_is_stopped_counted_and_reported(tmp_path: Path) -> None:
    code = "def check(answer, gold):\n    while answer.startswith('hang'):\n        pass\n    return answer == gold\n"
    problems = [apples(i, answer_type="slow") for i in range(3)]
    answers = [[gold(i), gold(i), slip(i, 1)[1], slip(i, 2)[1]] for i in range(3)]
    answers[1][2] = "hang up"
    routes = [
        Route(id=f"p{i}/f/{s}", problem_id=f"p{i}", source="f", sample=s, text=cot(right(i), answer))
        for i, given in enumerate(answers)
        for s, answer in enumerate(given)
    ]
    with installed_checker(tmp_path / "package", code, "slow = a_checker:check"):
        write_rows(tmp_path / "routes.jsonl", routes)
        stage = stage_in(tmp_path, "verify", verify={"leak_limit": 1.0}, checks={"timeout": 0.5})
        summary = run_verify(stage, problems, tmp_path / "routes.jsonl", progress=no_progress)
    example = {"type": "slow", "reason": "timeouts", "answer": "hang up", "gold": gold(1), "error": ""}
    checker = {"calls": 7, "timeouts": 1, "crashed": 0, "failed": 0, "examples": [example]}
    assert summary.data["checker"] == checker  # 12 routes, 7 different answers
    assert summary.notes[-1] == ("1 of 7 answer checks count as wrong: 1 took over 0.5 s; see checker in summary.json")
    assert {r["id"]: r["correct"] for r in load(tmp_path / "verify" / "scored.jsonl")}["p1/f/2"] is False
    assert read_summary(stage) == summary
