"""The SmolLM2 benchmark without a model: the rule program (by hand, and on every label), the data, the chain."""

from __future__ import annotations

import csv
import json
import random
from fractions import Fraction
from pathlib import Path

import pytest

from realm_cli.recipe import load_recipe
from realm_cli.records import Problem
from scripts import load

rules, legs, prepare, run = load("smollm2", "legalbench_rules", "legs", "prepare", "run")


def _rows(data_dir: Path, variant: int) -> list[dict[str, str]]:
    path = data_dir / "legalbench-diversity" / f"diversity_{variant}.tsv"
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


@pytest.mark.parametrize("variant", [1, 2, 3, 4])
def test_agrees_with_every_label(data_dir: Path, variant: int) -> None:
    rows = _rows(data_dir, variant)
    assert len(rows) == 300
    for row in rows:
        case = rules.parse(row["text"])
        assert rules.is_diverse(case) == (row["parties_are_diverse"] == "True"), row["text"]
        assert (rules.amount_in_controversy(case) > 75_000) == (row["aic_is_met"] == "True"), row["text"]
        steps, answer = rules.write_steps(case)
        assert answer == row["label"] == ("Yes" if rules.decide(case) else "No"), row["text"]
        assert 4 <= len(steps) <= 6


HAND = {
    "James is from Iowa. Lucas is from Ohio. James sues Lucas for negligence for $75,000.": (
        "No",
        [
            "James and Lucas: Iowa and Ohio, same state no.",
            "Plaintiff and defendant may not share a state: diverse yes.",
            "One claim: 75 thousand must be over 75: amount met no.",
            "Diverse yes, amount met no, both are needed: jurisdiction no.",
        ],
    ),
    "Ann is from Iowa. Bob is from Ohio. Cy is from Iowa. Ann sues Bob and Cy each for trespass for $2,716,000.": (
        "No",
        [
            "Ann and Bob: Iowa and Ohio, same state no.",
            "Ann and Cy: Iowa and Iowa, same state yes.",
            "Plaintiff and defendant may not share a state: diverse no.",
            "Claims against separate parties do not add up: 2,716 thousand must be over 75: amount met yes.",
            "Diverse no, amount met yes, both are needed: jurisdiction no.",
        ],
    ),
    "Al is from Rhode Island. Bo is from New York. Al sues Bo for defamation for $9,000 and trespass for $67,000.": (
        "Yes",
        [
            "Al and Bo: Rhode Island and New York, same state no.",
            "Plaintiff and defendant may not share a state: diverse yes.",
            "Claims of one against one add up: 9 + 67 = 76 thousand.",
            "76 thousand must be over 75: amount met yes.",
            "Diverse yes, amount met yes, both are needed: jurisdiction yes.",
        ],
    ),
    "Ann is from Iowa. Bob is from Iowa. Cy is from Ohio. Ann and Bob both sue Cy for legal malpractice for $40,000.": (
        "No",
        [
            "Ann and Cy: Iowa and Ohio, same state no.",
            "Bob and Cy: Iowa and Ohio, same state no.",
            "Plaintiff and defendant may not share a state: diverse yes.",
            "Claims of separate parties do not add up: 40 thousand must be over 75: amount met no.",
            "Diverse yes, amount met no, both are needed: jurisdiction no.",
        ],
    ),
}


@pytest.mark.parametrize("text", list(HAND))
def test_worked_by_hand(text: str) -> None:
    steps, answer = rules.write_steps(rules.parse(text))
    assert (answer, steps) == HAND[text]


@pytest.mark.parametrize(
    ("solver", "case", "answer"),
    [
        ("amount_blind", 0, "Yes"),  # any amount will do
        ("first_pair", 1, "Yes"),  # overlooks the second defendant, of Ann's state
        ("largest_claim", 2, "No"),  # 67 alone is not over 75
        ("adds_across", 3, "Yes"),  # 40 + 40 is over 75
    ],
)
def test_each_solver_errs_in_its_own_way(solver: str, case: int, answer: str) -> None:
    text = list(HAND)[case]
    habits = rules.Habits(rules.SOLVERS[solver].compare, rules.SOLVERS[solver].amount)
    steps, given = rules.write_steps(rules.parse(text), habits)
    assert given == answer != HAND[text][0]
    assert steps != HAND[text][1]


def test_unreadable_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="not a diversity case"):
        rules.parse("Nobody sues anybody.")
    with pytest.raises(ValueError, match="no state of Bob"):
        rules.parse("Ann is from Iowa. Ann sues Bob for trespass for $5,000.")


def test_prepared_sets_are_disjoint_and_balanced(data_dir: Path, tmp_path: Path) -> None:
    _rows(data_dir, 1)
    prepare.main(["--data", str(data_dir), "--out", str(tmp_path), "--set", "legalbench"])
    folder = tmp_path / "legalbench"
    problems = [Problem.model_validate(row) for row in prepare.read_jsonl(folder / "problems.jsonl")]
    train = {p.id for p in problems if p.split == "train"}
    counts = {
        (p.group, p.answer): sum((q.group, q.answer) == (p.group, p.answer) for q in problems if q.id in train)
        for p in problems
        if p.id in train
    }
    for variant in ("variant1", "variant2", "variant3"):  # as many as the rarer label allows
        assert 50 < counts[variant, "Yes"] == counts[variant, "No"] <= prepare.Sizes().lb_train // 2
    assert {p.group for p in problems if p.split != "test"} == {"variant1", "variant2", "variant3"}
    assert sum(p.group == "variant4" for p in problems) == prepare.Sizes().lb_variant4
    assert len({p.question for p in problems}) == len(problems)
    assert {row["problem_id"] for row in prepare.read_jsonl(folder / "teacher.jsonl")} == train
    by_id = {p.id: p for p in problems}
    for name in rules.SOLVERS:
        rows = prepare.read_jsonl(folder / f"routes_solver_{name}.jsonl")
        right = [row["text"].rpartition("Answer: ")[2] == by_id[row["problem_id"]].answer for row in rows]
        assert len(rows) == prepare.SAMPLES * len(problems)
        assert 0.5 < sum(right) / len(right) < 0.85, name


STEPS = [
    "She has 3 bags of 4, 3*4 = <<3*4=12>>12 apples.",
    "Half are 12/2 = <<12/2=6>>6.",
    "With 1,000 more she has 6+1000 = <<6+1000=1006>>1006.",
]


def test_a_slip_is_carried_through() -> None:
    seen = set()
    for seed in range(30):
        found = prepare.slip(STEPS, "1006", random.Random(seed))
        if found is None:
            continue
        steps, answer = found
        assert answer != "1006" and answer == steps[-1].rstrip(".").rpartition(" ")[2]
        seen.add(answer)
        if steps[0].endswith("13 apples."):  # 12 -> 13: half of it and the total follow
            assert steps[1:] == ["Half are 13/2 = 6.50.", "With 1,000 more she has 6.50+1000 = 1006.50."]
    assert len(seen) >= 4


def test_stop_early_answers_with_the_result_before() -> None:
    assert prepare.stop_early(STEPS, "1006", random.Random(0)) == (
        ["She has 3 bags of 4, 3*4 = 12 apples.", "Half are 12/2 = 6."],
        "6",
    )
    assert prepare.stop_early(STEPS[:2], "6", random.Random(0)) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("2*(3+4)", Fraction(14)), ("200*40*.01", Fraction(80)), ("1,000/3", Fraction(1000, 3)), ("05-6", Fraction(-1)),
     ("5%", None), ("1/0", None), ("x+1", None), ("2**9", None)],
)  # fmt: skip
def test_sums_are_read_exactly(text: str, value: Fraction | None) -> None:
    assert prepare.value(text) == value


def test_gsm8k_sets(data_dir: Path, tmp_path: Path) -> None:
    prepare.main(["--data", str(data_dir), "--out", str(tmp_path), "--set", "gsm8k"])
    folder = tmp_path / "gsm8k"
    problems = {row["id"]: Problem.model_validate(row) for row in prepare.read_jsonl(folder / "problems.jsonl")}
    train = {key for key, p in problems.items() if p.split == "train"}
    sizes = prepare.Sizes()
    assert sum(p.split == "test" for p in problems.values()) == sizes.gsm_test
    assert len(train) == sizes.gsm_train
    for row in prepare.read_jsonl(folder / "teacher.jsonl"):
        assert row["problem_id"] in train
        assert "<<" not in row["text"] and "####" not in row["text"]
        assert row["text"].rpartition("Answer: ")[2] == problems[row["problem_id"]].answer
    rows = prepare.read_jsonl(folder / "routes_solver_slips.jsonl")
    right = [r["text"].rpartition("Answer: ")[2] == problems[r["problem_id"]].answer for r in rows]
    assert {r["problem_id"] for r in rows} == train
    assert 0.3 < sum(right) / len(right) < 0.7


def test_run_chains_the_commands(tmp_path: Path) -> None:
    data = tmp_path / "data" / "legalbench"
    data.mkdir(parents=True)
    for name in ("routes_solver_a.jsonl", "routes_solver_b.jsonl", "rules.md"):
        (data / name).write_text("", encoding="utf-8")
    stages = run.commands("legalbench", tmp_path, 7, quick=False, resume=False)
    verbs = ["rollout", "verify", "distill", "train-rl", "refine", "train-rl", "eval", "eval", "eval"]
    assert [arguments[0] for _, arguments in stages] == verbs
    for _, arguments in stages:
        recipe = arguments[arguments.index("--recipe") + 1]
        overrides = [arguments[i + 1] for i, part in enumerate(arguments) if part == "--set"]
        assert load_recipe(recipe, overrides).seed == 7
        assert "--force" in arguments
    assert f"jsonl:{data / 'routes_solver_b.jsonl'}" in stages[0][1]
    assert f"jsonl:{data / 'teacher.jsonl'}" in stages[2][1]
    assert stages[-1][1][-4:] == ["--mode", "ruled", "--rules", str(data / "rules.md")]
    quick = run.commands("gsm8k", tmp_path, 0, quick=True, resume=True)
    assert len(quick) == 5 and all("--resume" in arguments for _, arguments in quick)
    overrides = [
        part for part in quick[3][1] if "=" in part and part.startswith(("seed", "train_rl", "distill", "eval"))
    ]
    assert load_recipe(quick[3][1][2], overrides).train_rl.steps == 2


def test_constant_answers_by_hand() -> None:
    answers = [("v1", "No"), ("v1", "No"), ("v1", "Yes"), ("v4", "Yes"), ("v4", "Yes")]
    rows = [{"split": "test", "group": group, "answer": answer} for group, answer in answers]
    rows.append({"split": "train", "group": "v1", "answer": "Maybe"})
    assert run.constant_answers(rows) == {
        "all": {"answer": "Yes", "accuracy": 0.6, "n": 5},
        "v1": {"answer": "No", "accuracy": 2 / 3, "n": 3},
        "v4": {"answer": "Yes", "accuracy": 1.0, "n": 2},
    }


def test_what_shown_rules_change_is_paired_by_problem(tmp_path: Path) -> None:
    for mode, right in (("bare", {"a": True, "b": False, "c": True, "d": True}), ("ruled", {"d": False, "c": True})):
        (tmp_path / mode / "eval").mkdir(parents=True)
        rows = [{"model": "distilled", "problem_id": p, "correct": right.get(p, False)} for p in "abcd"]
        rows.append({"model": "base", "problem_id": "a", "correct": True})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / mode / "eval" / "predictions.jsonl").write_text(text, encoding="utf-8")
    found = run.shown_rules(tmp_path / "bare", tmp_path / "ruled", 0)
    assert (found["from"], found["to"], found["mode"], found["n"]) == ("bare", "ruled", "distilled", 4)
    assert found["difference"] == -0.5 and found["discordant"] == 2 and found["mcnemar_p"] == 0.5


def test_table_shows_every_model_the_constant_line_and_the_minutes() -> None:
    cell = {"mode": "bare", "group": "all", "n": 5, "accuracy": 0.8, "low": 0.5, "high": 1.0}
    pair = {"mode": "bare", "group": "all", "from": "base", "to": "rl", "difference": 0.2, "low": 0.0, "high": 0.4}
    text = run.table(
        {
            "set": "gsm8k",
            "constant_answer": {"all": {"answer": "8", "accuracy": 0.05, "n": 5}},
            "results": [{"model": "base", **cell}, {"model": "rl", **cell, "mode": "routed", "n": 3}],
            "comparisons": [{**pair, "mcnemar_p": 0.5}],
            "minutes": {"rollout": 0.25, "total": 12.0},
        }
    )
    assert text.splitlines() == [
        "gsm8k: accuracy % [95 % CI], greedy",
        "model     mode          all (n=5)",
        "constant  -             5.0 (8)",
        "base      bare          80.0 [50.0, 100.0]",
        "rl        routed (n=3)  80.0 [50.0, 100.0]",
        "bare: base -> rl: 20.0 [0.0, 40.0] points, McNemar p 0.5",
        "minutes: rollout 0.2, total 12.0",
    ]


# ---- leg counting


def test_legs_are_counted_by_the_table() -> None:
    question = "Now, how many legs are there in total if you have 3 woodlouses, 1 praying mantis, 2 snakes?"
    assert legs.parts(question) == [(3, "woodlouse"), (1, "praying mantis"), (2, "snake")]
    table = {"woodlouse": 14, "praying mantis": 6, "snake": 0}
    steps, answer = legs.solve(question, table)
    assert answer == "48" and steps[0] == "One woodlouse has 14 legs: 3 * 14 = 42."
    assert steps[3:] == ["42 + 6 = 48.", "48 + 0 = 48."]
    assert legs.check([{"question": question, "answer": "48"}, {"question": question, "answer": "1"}], table) == 1
    slipped = {legs.solve(question, table, random.Random(i), slip=1.0)[1] for i in range(30)}
    assert "48" not in slipped and len(slipped) > 3


def test_solvers_have_some_legs_wrong_always_in_the_same_way() -> None:
    table = {f"animal{i}": 2 * (i % 4) for i in range(200)}
    known = legs.beliefs("guesser", table, 0)
    assert known == legs.beliefs("guesser", table, 0) != legs.beliefs("hasty", table, 0)
    assert 0.25 < sum(known[name] != n for name, n in table.items()) / 200 < 0.45


def test_the_rule_book_names_taught_animals_only() -> None:
    text = legs.rules({"cow": 4, "dog": 4, "spider": 8})
    assert "- 4 legs: dog\n" in text and "cow" not in text and "spider" not in text


@pytest.mark.parametrize("name", ["legs", "legalbench", "gsm8k"])
def test_smollm2_stages_are_real_commands(name: str, tmp_path: Path) -> None:
    import typer.main

    from realm_cli.cli.app import app

    program = typer.main.get_command(app)
    stages = run.commands(name, tmp_path, 0, quick=False, resume=True)
    for _, (verb, *words) in stages:
        program.commands[verb].make_context(verb, list(words))  # type: ignore[attr-defined]
    assert ("refine" in dict(stages)) == (name != "gsm8k")
