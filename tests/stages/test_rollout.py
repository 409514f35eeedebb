"""Route collection: rows, difficulty, and continuing without loss or doubling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import ScriptedGenerator, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.engines.programs import JsonlGenerator
from realm_cli.errors import DataError
from realm_cli.records import RouteSet, ShownRoute
from realm_cli.stages.rollout import bucket_of, load_sets, run_rollout
from realm_cli.stages.summary import Summary
from stages.helpers import apples, bare_right, bare_slip, gold, load, right, slip, stage_in, text_of

PROBLEMS = [apples(0, group="x"), apples(1), apples(2)]
OWN = frozenset({"me"})


def me() -> ScriptedGenerator:
    """The student: 4 of 4, 1 of 4 and 0 of 4 right."""
    script = {
        "p0": [bare_right(0)],
        "p1": [bare_slip(1), bare_right(1), bare_slip(1), bare_slip(1, 2)],
        "p2": [bare_slip(2, 3)],
    }
    return ScriptedGenerator(script, name="me")


def ext() -> ScriptedGenerator:
    """An external model: right, wrong, right, wrong."""
    script = {f"p{i}": [bare_right(i), bare_slip(i)] for i in range(3)}
    return ScriptedGenerator(script, name="ext")


def roll(folder: Path, *generators: ScriptedGenerator, problems: list = PROBLEMS, **rollout: object) -> Summary:
    stage = stage_in(folder, "rollout", append=True, seed=5, rollout={"n": 2, "self_n": 4, **rollout})
    return run_rollout(stage, problems, generators, self_names=OWN, progress=no_progress)


def test_rows_and_difficulty(tmp_path: Path) -> None:
    summary = roll(tmp_path, me(), ext())
    rows = load(tmp_path / "rollout" / "routes.jsonl")
    assert [row["id"] for row in rows[:5]] == ["p0/me/0", "p0/me/1", "p0/me/2", "p0/me/3", "p1/me/0"]
    assert len(rows) == 3 * 4 + 3 * 2
    first = rows[0]
    assert (first["steps"], first["final_answer"], first["correct"]) == (right(0), gold(0), True)
    assert (first["temperature"], first["seed"], first["text"]) == (0.7, 5, bare_right(0))
    assert [row["correct"] for row in rows if row["source"] == "me"] == [True] * 4 + [False, True, False, False] + [
        False
    ] * 4
    measured = load(tmp_path / "rollout" / "problems.jsonl")
    assert [(p["p_self"], p["p_ext"], p["bucket"]) for p in measured] == [
        (1.0, 0.5, "sat"),
        (0.25, 0.5, "hard"),
        (0.0, 0.5, "zero"),
    ]
    assert measured[0]["group"] == "x"
    assert summary.data == {
        "routes": 18,
        "problems": 3,
        "contrast_problems": 3,
        "sources": {"me": {"routes": 12, "correct": 5 / 12}, "ext": {"routes": 6, "correct": 0.5}},
        "buckets": {"sat": 1, "hard": 1, "zero": 1},
    }
    assert summary.tables[0].rows == [["ext", "6", "50.0", "0.0", "0.0"], ["me", "12", "41.7", "0.0", "0.0"]]
    assert summary.tables[1].rows == [["1", "1", "0", "0", "1"]]
    assert summary.notes == ["3 of 3 problems have right and wrong routes"]


def test_prompts_are_bare_and_sampled_as_the_recipe_says(tmp_path: Path) -> None:
    generator = ext()
    roll(tmp_path, generator, temperature=0.3, top_p=0.8, max_tokens=77)
    (params,) = generator.calls
    assert (params.temperature, params.top_p, params.max_tokens, params.seed) == (0.3, 0.8, 77, 5)
    assert [(r.key, r.n, r.first_sample) for r in generator.asked] == [("p0", 2, 0), ("p1", 2, 0), ("p2", 2, 0)]
    for request, problem in zip(generator.asked, PROBLEMS, strict=True):
        assert problem.question in text_of(request.messages)
        assert "[Route" not in text_of(request.messages)
        assert problem.answer not in text_of(request.messages)


def test_without_the_student_buckets_are_left_as_they_were(tmp_path: Path) -> None:
    summary = roll(tmp_path, ext(), problems=[apples(0, bucket="mid"), apples(1)])
    measured = load(tmp_path / "rollout" / "problems.jsonl")
    assert [(p["p_self"], p["p_ext"], p["bucket"]) for p in measured] == [(None, 0.5, "mid"), (None, 0.5, None)]
    assert summary.data["buckets"] == {"mid": 1}


def test_a_truncated_route_is_never_correct(tmp_path: Path) -> None:
    words = len(bare_right(0).split())
    roll(tmp_path, ScriptedGenerator({"*": [bare_right(0) + " and on and on"]}, name="ext"), problems=[apples(0)])
    roll(tmp_path / "cut", ScriptedGenerator({"*": [bare_right(0) + " x"]}, name="ext"), problems=[apples(0)],
         max_tokens=words)  # fmt: skip
    row = load(tmp_path / "cut" / "rollout" / "routes.jsonl")[0]
    assert (row["truncated"], row["correct"], row["n_tokens"]) == (True, False, words)
    assert load(tmp_path / "rollout" / "routes.jsonl")[0]["truncated"] is False


def test_no_answer_is_counted(tmp_path: Path) -> None:
    summary = roll(tmp_path, ScriptedGenerator({"*": ["<think>\n1. I do not know\n"]}, name="ext"))
    assert summary.tables[0].rows == [["ext", "6", "0.0", "100.0", "0.0"]]
    assert summary.data["contrast_problems"] == 0


def test_a_rerun_asks_nothing_and_changes_nothing(tmp_path: Path) -> None:
    roll(tmp_path, me(), ext())
    before = (tmp_path / "rollout" / "routes.jsonl").read_bytes()
    again = [me(), ext()]
    summary = roll(tmp_path, *again)
    assert [g.asked for g in again] == [[], []]
    assert (tmp_path / "rollout" / "routes.jsonl").read_bytes() == before
    assert summary.data["routes"] == 18


def test_a_rerun_does_not_refuse_written_text_for_the_problems_that_it_lacks(tmp_path: Path) -> None:
    rows = [{"problem_id": "p0", "text": text} for text in ("one", "two")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):
        assert roll(tmp_path, JsonlGenerator(tmp_path / "a.jsonl", "a")).data["routes"] == 2
    with pytest.raises(DataError, match="a.jsonl: no row for any of the 1 problems, e.g. p1"):
        roll(tmp_path / "other", JsonlGenerator(tmp_path / "a.jsonl"), problems=PROBLEMS[1:2])


def test_more_samples_add_only_what_is_missing(tmp_path: Path) -> None:
    roll(tmp_path, ext())
    more = ext()
    roll(tmp_path, more, n=5)
    assert [(r.key, r.n, r.first_sample) for r in more.asked] == [("p0", 3, 2), ("p1", 3, 2), ("p2", 3, 2)]
    rows = load(tmp_path / "rollout" / "routes.jsonl")
    assert sorted(r["id"] for r in rows if r["problem_id"] == "p1") == [f"p1/ext/{i}" for i in range(5)]
    assert [r["correct"] for r in rows if r["problem_id"] == "p1"] == [True, False, True, False, True]


def test_a_rollout_over_fewer_problems_keeps_the_others_rows(tmp_path: Path) -> None:
    roll(tmp_path, me(), ext())
    before = load(tmp_path / "rollout" / "problems.jsonl")
    summary = roll(tmp_path, me(), ext(), problems=PROBLEMS[1:2], n=3)
    after = load(tmp_path / "rollout" / "problems.jsonl")
    assert [p["id"] for p in after] == ["p0", "p1", "p2"]
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1]["p_ext"] == pytest.approx(2 / 3)
    assert summary.data["problems"] == 3


def test_ctrl_c_keeps_rows_and_the_rerun_completes_without_doubles(tmp_path: Path) -> None:
    roll(tmp_path / "whole", me(), ext())
    stopped = me()
    stopped.fail_after = 2
    with pytest.raises(KeyboardInterrupt):
        roll(tmp_path / "cut", stopped, ext())
    path = tmp_path / "cut" / "rollout" / "routes.jsonl"
    assert len(load(path)) == 8
    roll(tmp_path / "cut", me(), ext())
    assert path.read_bytes() == (tmp_path / "whole" / "rollout" / "routes.jsonl").read_bytes()


@settings(max_examples=25)
@given(cut=st.integers(1, 2500))
def test_a_file_cut_anywhere_is_completed(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("roll")
    roll(folder, ext())
    path = folder / "rollout" / "routes.jsonl"
    whole = load(path)
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    roll(folder, ext())
    assert sorted(load(path), key=lambda row: row["id"]) == sorted(whole, key=lambda row: row["id"])


def test_nothing_sampled_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"routes\.jsonl: no route was sampled; give at least one --model"):
        roll(tmp_path)


@pytest.mark.parametrize(
    ("p", "name"),
    [(0, "zero"), (0.01, "hard"), (0.25, "hard"), (0.26, "mid"), (0.75, "mid"), (0.76, "easy"), (0.95, "easy"),
     (0.96, "sat"), (1, "sat")],
)  # fmt: skip
def test_bucket_limits(p: float, name: str) -> None:
    assert bucket_of(p) == name


# ---- with routes in the prompt


def with_routes(i: int) -> list[RouteSet]:
    """Two sets of problem i, of two routes each."""
    slipped, answer = slip(i, 1)
    shown = [
        ShownRoute(route_id=f"p{i}/a", steps=right(i), answer=gold(i), label=True),
        ShownRoute(route_id=f"p{i}/b", steps=slipped, answer=answer, label=False),
    ]
    return [RouteSet(id=f"p{i}/set{j}", problem_id=f"p{i}", kind="balanced", shown=shown) for j in range(2)]


def test_own_solutions_found_with_routes(tmp_path: Path) -> None:
    """The check block goes, what is left is a bare answer; copies that name a route do not count."""
    check = "<check>\nA: right\nB: wrong @1\n</check>\n"
    telling = bare_right(1).replace("<think>\n", "<think>\nAs Route A says,\n")
    script = {
        "p0/p0/set0": [check + bare_right(0)],
        "p0/p0/set1": [check + bare_slip(0)],
        "p1/p1/set0": [check + telling],
        "p1/p1/set1": ["no form at all, Answer: " + gold(1)],
    }
    own = ScriptedGenerator(script, name="me")
    stage = stage_in(tmp_path, "rollout", append=True, rollout={"n": 2})
    sets = {"p0": with_routes(0), "p1": with_routes(1)}
    run_rollout(stage, PROBLEMS, [own], self_names=OWN, progress=no_progress, sets=sets)
    rows = {row["id"]: row for row in load(tmp_path / "rollout" / "routes.jsonl")}
    assert {name: row["correct"] for name, row in rows.items()} == {
        "p0/me+routes/0": True,
        "p0/me+routes/1": False,
        "p1/me+routes/0": False,
        "p1/me+routes/1": False,
    }
    assert rows["p0/me+routes/0"]["text"] == bare_right(0)
    assert rows["p1/me+routes/0"]["text"] == check + telling
    assert all("[Route A]" in text_of(request.messages) for request in own.asked)
    assert len(own.asked) == 4 and {request.n for request in own.asked} == {1}
    measured = load(tmp_path / "rollout" / "problems.jsonl")
    assert [(p["p_self"], p["p_ext"]) for p in measured] == [(None, None)] * 3  # shown routes tell nothing of it


def test_samples_are_shared_out_among_the_sets(tmp_path: Path) -> None:
    own = ScriptedGenerator({"*": [bare_right(0)]}, name="me")
    for n in (3, 5):
        stage = stage_in(tmp_path, "rollout", append=True, rollout={"n": n})
        run_rollout(stage, PROBLEMS[:1], [own], self_names=OWN, progress=no_progress, sets={"p0": with_routes(0)})
        assert [row["sample"] for row in load(tmp_path / "rollout" / "routes.jsonl")] == list(range(n))
    assert [(request.key, request.first_sample, request.n) for request in own.asked] == [
        (f"p0/p0/set{sample % 2}", sample, 1) for sample in range(5)
    ]


def test_sets_of_these_problems_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    write_rows(path, [*with_routes(0), *with_routes(9)])
    assert {key: [row.id for row in rows] for key, rows in load_sets(path, PROBLEMS).items()} == {
        "p0": ["p0/set0", "p0/set1"]
    }
    with pytest.raises(DataError, match="no set for any of the 1 problems; run `realm verify`"):
        load_sets(path, PROBLEMS[1:2])
