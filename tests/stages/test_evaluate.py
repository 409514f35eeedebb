"""Evaluation over files: graded rows, reports by hand, routes chosen without labels, going on after Ctrl-C."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeNll, ScriptedGenerator, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.errors import DataError
from realm_cli.method.intervals import wilson
from realm_cli.method.mrpv import score_routes
from realm_cli.method.route_sets import SetOptions, build_sets
from realm_cli.prompts import check_text
from realm_cli.protocols import Completion, Generator, GenRequest, NllScorer
from realm_cli.records import Message, Mode, Prediction, Problem, Route, ShownRoute
from realm_cli.stages.evaluate import predict, run_eval
from realm_cli.stages.reliance import reliance_notes
from realm_cli.stages.shown_routes import load_routes, shown_for_test
from realm_cli.stages.summary import Summary
from stages.helpers import apples, bare_right, bare_slip, gold, load, pool, right, route, slip, stage_in, text_of

PROBLEMS = [apples(i, "test", group="x" if i < 2 else "y") for i in range(4)]
ROUTES = [row for i in range(4) for row in pool(i)]


def model(solved: Sequence[int], **given: Any) -> ScriptedGenerator:
    """Solves the given problems, bare and routed; judges every route right."""

    def script(request: GenRequest, sample: int) -> str:
        assert request.problem
        i = int(request.problem.id[1:])
        solution = bare_right(i) if i in solved else bare_slip(i)
        shown = text_of(request.messages).count("[Route ")
        return f"{check_text([True] * shown, [None] * shown)}\n{solution}" if shown else solution

    return ScriptedGenerator(script, **given)


def evaluate(
    folder: Path,
    models: Mapping[str, Generator],
    *,
    modes: Sequence[Mode] = ("bare",),
    routes: Sequence[Route] | None = ROUTES,
    problems: Sequence[Problem] = PROBLEMS,
    compare: bool = True,
    resume: bool = False,
    rules: str = "",
    scorer: Callable[[Generator], NllScorer] | None = None,
    **config: Any,
) -> Summary:
    path = None
    if routes is not None:
        path = folder / "routes.jsonl"
        write_rows(path, routes)
    blocks = {"bootstrap": 200, "k": 4, **config}
    stage = stage_in(folder, "eval", resume=resume, eval=blocks, train_rl={"reward": {"min_think_words": 6}})
    factories = {label: (lambda generator=generator: generator) for label, generator in models.items()}
    options: dict[str, Any] = {"modes": modes, "compare": compare, "rules": rules, "scorer": scorer}
    return run_eval(stage, problems, factories, path, progress=no_progress, **options)


def predictions(folder: Path) -> dict[str, Prediction]:
    rows = [Prediction.model_validate(row) for row in load(folder / "eval" / "predictions.jsonl")]
    assert len({row.id for row in rows}) == len(rows)
    return {row.id: row for row in rows}


# ---- one row


def graded(mode: Mode, text: str, shown: Sequence[ShownRoute] = (), **given: Any) -> Prediction:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        stage = stage_in(Path(folder), "eval", train_rl={"reward": {"min_think_words": 6}})
        return predict(stage, "m", mode, PROBLEMS[0], 0, Completion(text, 9, **given), shown)


def shown(*kinds: str) -> list[ShownRoute]:
    rows = []
    for n, kind in enumerate(kinds):
        steps, answer = (right(0), gold(0)) if kind == "right" else slip(0, 1, int(kind))
        rows.append(ShownRoute(route_id=f"r{n}", steps=steps, answer=answer, label=kind == "right"))
    return rows


def test_a_bare_row() -> None:
    row = graded("bare", bare_right(0))
    assert (row.id, row.answer, row.correct, row.correct_flexible, row.format_ok) == (
        "m/bare/p0/0",
        gold(0),
        *[True] * 3,
    )
    assert (row.group, row.n_tokens, row.route_ids) == ("x", 9, [])
    assert (row.verdict_bal_acc, row.plurality_correct, row.any_correct) == (None, None, None)


def test_strict_and_flexible_answers_differ() -> None:
    row = graded("bare", f"Well.\nAnswer: {gold(0)}")
    assert (row.answer, row.correct, row.correct_flexible, row.format_ok) == (None, False, True, False)
    cut = graded("bare", bare_right(0), truncated=True)
    assert (cut.correct, cut.truncated) == (False, True)


def test_a_routed_row_by_hand() -> None:
    routes = shown("right", "2", "2", "right")
    text = f"{check_text([True, False, True, False], [None, 1, None, 1])}\n{bare_right(0)}"
    row = graded("routed", text, routes)
    assert row.route_ids == ["r0", "r1", "r2", "r3"]
    assert row.verdict_bal_acc == 0.5  # one of two rights and one of two wrongs seen
    assert (row.plurality_correct, row.any_correct, row.format_ok) == (True, True, True)  # tie: first in order


def test_plurality_any_and_missing_verdicts() -> None:
    row = graded("routed", bare_right(0), shown("right", "2", "2", "3"))
    assert (row.plurality_correct, row.any_correct, row.verdict_bal_acc, row.format_ok) == (False, True, 0.0, False)
    row = graded("routed_hidden", bare_right(0), shown("2", "3"))
    assert (row.plurality_correct, row.any_correct, row.verdict_bal_acc) == (False, False, None)


# ---- the choice of routes


def test_the_choice_reads_no_label() -> None:
    """Point 7 of the acceptance list of the method document: flipping every label changes nothing that is shown."""
    plain = {p.id: pool(int(p.id[1:])) for p in PROBLEMS}
    flipped = {key: [r.model_copy(update={"correct": not r.correct}) for r in rows] for key, rows in plain.items()}
    backwards = {key: rows[::-1] for key, rows in plain.items()}
    for seed in range(5):
        first = shown_for_test(PROBLEMS, plain, 4, seed)
        ids = {key: [r.route_id for r in rows] for key, rows in first.items()}
        for other in (flipped, backwards):
            second = shown_for_test(PROBLEMS, other, 4, seed)
            assert {key: [r.route_id for r in rows] for key, rows in second.items()} == ids
        swapped = shown_for_test(PROBLEMS, flipped, 4, seed)
        assert [[r.label for r in swapped[k]] for k in ids] == [[not r.label for r in first[k]] for k in ids]
    assert shown_for_test(PROBLEMS, plain, 4, 0) != shown_for_test(PROBLEMS, plain, 4, 1)


def test_prompts_are_the_same_under_flipped_labels(tmp_path: Path) -> None:
    flipped = [r.model_copy(update={"correct": not r.correct}) for r in ROUTES]
    asked = []
    for name, routes in (("a", ROUTES), ("b", flipped)):
        generator = model([0])
        evaluate(tmp_path / name, {"m": generator}, modes=["bare", "routed", "routed_hidden"], routes=routes)
        asked.append([text_of(r.messages) for r in generator.asked])
    assert asked[0] == asked[1]
    assert not any("[Route" in text for text in asked[0][:4])
    assert all("[Route D]" in text for text in asked[0][4:])
    assert not any("[hidden]" in text for text in asked[0][:8]) and all("[hidden]" in t for t in asked[0][8:])


def test_only_usable_routes_are_shown() -> None:
    rows = [
        *pool(0)[:3],
        route(0, "cut", 0, right(0), gold(0), truncated=True),
        route(0, "mute", 0, right(0), None),
        route(0, "empty", 0, [], gold(0)),
    ]
    assert shown_for_test(PROBLEMS, {"p0": rows}, 4, 0) == {}
    (found,) = shown_for_test(PROBLEMS, {"p0": rows}, 3, 0).values()
    assert {r.route_id for r in found} == {"p0/ext/0", "p0/ext/1", "p0/ext/2"}


def test_long_routes_are_as_few_as_in_training(tmp_path: Path) -> None:
    """verify.k_long_tokens holds in eval: p0's routes are long, p1's are not, p2 has too few of them."""
    routes = [r.model_copy(update={"n_tokens": 301 if r.problem_id == "p0" else 300}) for r in ROUTES]
    kept = [r for r in routes if r.problem_id != "p2" or r.source == "ext"]
    by_problem = {p.id: [r for r in kept if r.problem_id == p.id] for p in PROBLEMS}
    sizes = {key: len(rows) for key, rows in shown_for_test(PROBLEMS, by_problem, 4, 0, 300).items()}
    assert sizes == {"p0": 3, "p1": 4, "p3": 4}
    assert {len(r) for r in shown_for_test(PROBLEMS, by_problem, 4, 0, None).values()} == {4}
    generator = model([0])
    notes = evaluate(tmp_path, {"m": generator}, modes=["routed"], routes=kept).notes
    assert sorted(text_of(r.messages).count("[Route ") for r in generator.asked) == [3, 4, 4]
    assert (
        "routed modes leave out 1 of 4 problems, which have fewer than 4 routes with steps and an answer; "
        "`realm rollout` with a larger --n adds some" in notes
    )
    assert (
        "1 of 3 problems show 3 routes for 4: their median route has over 300 tokens (verify.k_long_tokens, as in "
        "training)" in notes
    )
    two = evaluate(tmp_path / "two", {"m": model([0])}, modes=["routed"], k=2).notes
    assert "routed prompts show 2 routes (eval.k), this recipe's sets 4 (verify.k)" in two
    assert len(evaluate(tmp_path / "all", {"m": model([0])}, modes=["routed"]).notes) == 1  # what the words mean


def test_training_and_evaluation_show_as_many_routes(tmp_path: Path) -> None:
    """The same rows through verify's sets and eval's draw, at each K and length, None included."""
    for tokens in (300, 301):
        for k in (2, 3, 4):
            for limit in (300, None):
                rows = [r.model_copy(update={"n_tokens": tokens}) for r in pool(0)]
                scored = score_routes(rows, PROBLEMS[0])
                options = SetOptions(k=k, k_long_tokens=limit)
                trained = build_sets(PROBLEMS[0], scored, options, random.Random(0))
                tested = shown_for_test(PROBLEMS, {"p0": rows}, k, 0, limit)
                assert {len(s.shown) for s in trained} == {len(tested["p0"])}


def test_routes_of_other_tools_are_read_and_judged(tmp_path: Path) -> None:
    """Text alone: shown like those of a rollout, with the labels that the grader gives them."""
    rows = [{"id": r.id, "problem_id": r.problem_id, "source": r.source, "text": r.text} for r in ROUTES]
    path = tmp_path / "bare.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert {r.id: (r.correct, r.steps) for rows in load_routes(path, PROBLEMS).values() for r in rows} == {
        r.id: (r.correct, r.steps) for r in ROUTES
    }
    stage = stage_in(tmp_path, "eval", eval={"bootstrap": 200, "k": 4})
    summary = run_eval(stage, PROBLEMS, {"m": lambda: model([0])}, path, modes=["routed"], compare=False,
                       progress=no_progress)  # fmt: skip
    assert "24 of 24 routes came without a verdict; judged: 12 are right" in summary.notes
    assert summary.data["routes"]["all"]["n"] == 4


def test_reliance_says_how_many_solutions_it_read() -> None:
    rows = [graded("routed", bare_right(0), shown("right", "1")) for _ in range(3)]
    right = [row.model_copy(update={"model": "m", "mode": "routed", "correct": True}) for row in rows] * 50
    assert list(reliance_notes({"m": {"nats": 0.1, "n": 100}}, right)) == [
        "hint reliance of m: 100 of 150 right routed solutions scored, the first by problem id"
    ]
    assert list(reliance_notes({"m": {"nats": 0.1, "n": 100}}, right[:100])) == []


def test_routes_of_other_problems_are_left_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.jsonl", ROUTES)
    found = load_routes(tmp_path / "r.jsonl", PROBLEMS[1:2])
    assert {key: len(rows) for key, rows in found.items()} == {"p1": 6}


# ---- the report


def test_report_by_hand(tmp_path: Path) -> None:
    summary = evaluate(tmp_path, {"base": model([0, 1]), "rl": model([0, 1, 2, 3])})
    report = json.loads((tmp_path / "eval" / "report.json").read_text(encoding="utf-8"))
    assert report == json.loads(json.dumps(summary.data))
    cells = {(c["model"], c["group"]): c for c in report["results"]}
    assert {key: (c["n"], c["accuracy"]) for key, c in cells.items()} == {
        ("base", "all"): (4, 0.5), ("base", "x"): (2, 1.0), ("base", "y"): (2, 0.0),
        ("rl", "all"): (4, 1.0), ("rl", "x"): (2, 1.0), ("rl", "y"): (2, 1.0),
    }  # fmt: skip
    assert (cells["rl", "all"]["low"], cells["rl", "all"]["high"]) == wilson(4, 4)
    assert 0.0 <= cells["base", "all"]["low"] < 0.5 < cells["base", "all"]["high"] <= 1.0
    assert cells["base", "all"]["format_ok"] == 1.0 and cells["base", "all"]["verdict_bal_acc"] is None
    compared = {c["group"]: c for c in report["comparisons"]}
    assert (compared["all"]["from"], compared["all"]["to"], compared["all"]["n"]) == ("base", "rl", 4)
    assert (compared["all"]["difference"], compared["all"]["discordant"]) == (0.5, 2)
    assert compared["all"]["mcnemar_p"] == 0.5  # 2 * (1/2)^2
    assert (compared["x"]["difference"], compared["x"]["mcnemar_p"]) == (0.0, 1.0)
    assert (compared["y"]["difference"], compared["y"]["high"]) == (1.0, 1.0)
    assert compared["y"]["low"] == pytest.approx(1 - 2 * wilson(0, 2)[1])  # two problems are no certainty
    assert report["routes"] is None
    assert [t.title for t in summary.tables] == ["Accuracy %, bare prompts [95 % CI]", "Paired differences, all groups"]


def test_routed_report_has_the_lines_to_beat(tmp_path: Path) -> None:
    summary = evaluate(tmp_path, {"m": model([0, 1, 2, 3])}, modes=["bare", "routed"], k=6)  # all six: 3 right, 3 wrong
    lines = summary.data["routes"]
    assert lines["all"] == {"n": 4, "plurality": 1.0, "any_correct": 1.0}
    assert lines["x"]["n"] == lines["y"]["n"] == 2
    rows = predictions(tmp_path)
    assert sorted(rows["m/routed/p0/0"].route_ids) == sorted(r.id for r in pool(0))
    assert rows["m/routed/p0/0"].verdict_bal_acc == 0.5  # everything was called right
    cell = next(c for c in summary.data["results"] if (c["mode"], c["group"]) == ("routed", "all"))
    assert (cell["accuracy"], cell["verdict_bal_acc"], cell["format_ok"]) == (1.0, 0.5, 1.0)
    table = next(t for t in summary.tables if "routed" in t.title)
    assert ["verdicts %", "", "50.0"] in table.rows
    assert summary.tables[-1].rows == [[group, "100.0", "100.0"] for group in ("all", "x", "y")]


def test_hint_reliance_is_the_gain_from_the_routes_per_token(tmp_path: Path) -> None:
    """A scorer that finds a token 1.5 nats likelier where routes are shown; p3 is wrong and not scored."""
    asked: list[tuple[str, str]] = []

    def value(messages: Sequence[Message], text: str) -> float:
        asked.append((text_of(messages), text))
        return 0.5 if "[Route A]" in text_of(messages) else 2.0

    summary = evaluate(
        tmp_path, {"m": model([0, 1, 2])}, modes=["bare", "routed"], scorer=lambda generator: FakeNll(value)
    )
    assert summary.data["reliance"] == {"m": {"nats": 1.5, "n": 3}}
    table = next(t for t in summary.tables if "routed" in t.title)
    assert ["reliance, nats", "", "1.50"] in table.rows
    (routed, with_check), (bare, alone) = asked[:2]
    assert "[Route A]" in routed and "[Route" not in bare
    assert with_check == f"{check_text([True] * 4, [None] * 4)}\n{bare_right(0)}" and alone == bare_right(0)


def test_reliance_of_a_model_without_a_right_routed_answer_is_unknown(tmp_path: Path) -> None:
    summary = evaluate(tmp_path, {"m": model([])}, modes=["routed"], scorer=lambda generator: FakeNll())
    assert summary.data["reliance"] == {"m": {"nats": None, "n": 0}}
    assert ["reliance, nats", "", "-"] in summary.tables[0].rows


def test_problems_without_enough_routes_are_evaluated_bare_only(tmp_path: Path) -> None:
    summary = evaluate(tmp_path, {"m": model([0])}, modes=["bare", "routed"], routes=[*pool(0), *pool(1)[:3]])
    rows = predictions(tmp_path)
    assert sum(r.mode == "bare" for r in rows.values()) == 4
    assert [r.problem_id for r in rows.values() if r.mode == "routed"] == ["p0"]
    assert summary.data["routes"]["all"]["n"] == 1


def test_several_samples_give_pass_at_k(tmp_path: Path) -> None:
    generator = ScriptedGenerator(
        {f"p{i}": [bare_right(i), bare_slip(i), bare_slip(i), bare_right(i) if i else bare_slip(i)] for i in range(4)}
    )
    summary = evaluate(tmp_path, {"m": generator}, n=4, temperature=0.6, compare=False)
    cell = summary.data["results"][0]
    # p0: 1 of 4, others 2 of 4.  pass@2: 1 - C(3,2)/C(4,2) = .5; 1 - C(2,2)/C(4,2) = 5/6
    assert (cell["samples"], cell["accuracy"], cell["pass@1"]) == (4, pytest.approx(0.4375), pytest.approx(0.4375))
    assert cell["pass@2"] == pytest.approx((0.5 + 3 * 5 / 6) / 4)
    assert cell["pass@4"] == 1.0 and "pass@8" not in cell
    assert generator.calls[0].temperature == 0.6
    assert summary.data["comparisons"] == []


def test_one_sample_is_greedy(tmp_path: Path) -> None:
    generator = model([0])
    summary = evaluate(tmp_path, {"m": generator}, max_tokens=55)
    assert (generator.calls[0].temperature, generator.calls[0].max_tokens) == (0.0, 55)
    assert "pass@1" not in summary.data["results"][0]


# ---- continuing and refusing


def test_ctrl_c_keeps_rows_and_resume_completes_without_doubles(tmp_path: Path) -> None:
    modes: list[Mode] = ["bare", "routed"]
    evaluate(tmp_path / "whole", {"a": model([0]), "b": model([0, 1])}, modes=modes)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "cut", {"a": model([0]), "b": model([0, 1], fail_after=3)}, modes=modes)
    path = tmp_path / "cut" / "eval" / "predictions.jsonl"
    assert len(load(path)) == 8 + 3
    path.write_bytes(path.read_bytes()[:-10])  # and the last line was cut
    first, second = model([0]), model([0, 1])
    evaluate(tmp_path / "cut", {"a": first, "b": second}, modes=modes, resume=True)
    assert first.asked == []
    assert [r.key for r in second.asked] == ["p2/bare", "p3/bare", *(f"p{i}/routed" for i in range(4))]
    for file in ("predictions.jsonl", "report.json"):
        assert (tmp_path / "cut/eval" / file).read_bytes() == (tmp_path / "whole/eval" / file).read_bytes()


def test_a_row_of_a_half_written_problem_is_not_doubled(tmp_path: Path) -> None:
    script = {f"p{i}": [bare_right(i), bare_slip(i)] for i in range(4)}
    evaluate(tmp_path, {"m": ScriptedGenerator(script)}, n=2)
    path = tmp_path / "eval" / "predictions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    evaluate(tmp_path, {"m": ScriptedGenerator(script)}, n=2, resume=True)
    assert path.read_bytes() == whole


def test_a_resumed_report_covers_the_models_named_now(tmp_path: Path) -> None:
    evaluate(tmp_path, {"a": model([0]), "b": model([1])})
    summary = evaluate(tmp_path, {"b": model([1])}, resume=True)
    assert {c["model"] for c in summary.data["results"]} == {"b"}
    assert summary.data["comparisons"] == []


def test_the_report_does_not_depend_on_the_order_of_predictions(tmp_path: Path) -> None:
    evaluate(tmp_path, {"a": model([0, 2]), "b": model([1])}, modes=["bare", "routed"])
    path, report = tmp_path / "eval" / "predictions.jsonl", tmp_path / "eval" / "report.json"
    before = report.read_bytes()
    path.write_text("".join(path.read_text().splitlines(keepends=True)[::-1]))
    evaluate(tmp_path, {"a": model([]), "b": model([])}, modes=["bare", "routed"], resume=True)
    assert report.read_bytes() == before


def test_a_mode_named_twice_is_evaluated_once(tmp_path: Path) -> None:
    evaluate(tmp_path, {"m": model([0])}, modes=["bare", "bare"])
    assert len(predictions(tmp_path)) == 4


def test_routed_needs_routes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="eval: routed modes need routes; run `realm rollout`, give --routes, or use"):
        evaluate(tmp_path / "a", {"m": model([0])}, modes=["routed"], routes=None)
    with pytest.raises(DataError, match=r"routes\.jsonl: no test problem has 4 routes; run `realm rollout` on it"):
        evaluate(tmp_path / "b", {"m": model([0])}, modes=["routed"], routes=pool(0)[:3])


def test_ruled_prompts_show_the_rules_and_no_routes(tmp_path: Path) -> None:
    generator = ScriptedGenerator({"*": [bare_right(0)]}, name="m")
    summary = evaluate(
        tmp_path, {"m": generator}, modes=["bare", "ruled"], routes=None, rules="R1: a bag counts twice."
    )
    ruled = [text_of(request.messages) for request in generator.asked if request.key.endswith("/ruled")]
    assert len(ruled) == len(PROBLEMS)
    assert all("Rules:\nR1: a bag counts twice." in text and "[Route" not in text for text in ruled)
    assert {row.mode for row in predictions(tmp_path).values()} == {"bare", "ruled"}
    assert all(row.plurality_correct is None and not row.route_ids for row in predictions(tmp_path).values())
    assert {r["mode"] for r in summary.data["results"]} == {"bare", "ruled"}
    with pytest.raises(DataError, match="mode ruled shows the rules; give --rules FILE"):
        evaluate(tmp_path / "none", {"m": generator}, modes=["ruled"], routes=None)


def test_touched_problems_are_reported_with_accuracy_without_them(tmp_path: Path) -> None:
    generator = ScriptedGenerator({p.id: [bare_right(int(p.id[1:]))] for p in PROBLEMS}, name="m")
    write_rows(tmp_path / "unused.jsonl", [])
    stage = stage_in(tmp_path, "eval", eval={"bootstrap": 200}, train_rl={"reward": {"min_think_words": 6}})
    twin = PROBLEMS[0].model_copy(update={"id": "t0", "split": "train"})
    given: Any = {"modes": ["bare"], "compare": False, "progress": no_progress, "training": [twin]}
    summary = run_eval(stage, PROBLEMS, {"m": lambda: generator}, None, **given)
    found = summary.data["contamination"]
    assert (found["touched"], found["of"], found["examples"]) == (1, len(PROBLEMS), {PROBLEMS[0].id: "t0"})
    assert set(found["accuracy_without"]) == {"m"}
    assert summary.notes[-1].startswith(
        f"1 of {len(PROBLEMS)} problems share 13 words in a row with a training problem"
    )
