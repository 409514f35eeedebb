"""Guided distillation over files: reasons per dropped CoT, and what is fine-tuned on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeNll, FakeSftTrainer, ScriptedGenerator, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.engines.programs import JsonlGenerator
from realm_cli.errors import DataError
from realm_cli.prompts import bare_messages, solution_text
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.recipe import DistillConfig
from realm_cli.records import Problem
from realm_cli.stages.distill import Extras, Guide, distill_problems, run_distill
from realm_cli.stages.verify import run_verify
from stages.distilling import NOTES, distill, good, guided, sft, worded
from stages.helpers import RULES, apples, cot, gold, load, pool, right, route, slip, stage_in, text_of


def test_every_dropped_cot_has_its_reason(tmp_path: Path) -> None:
    wrong = cot(*slip(0, 1))
    script = {
        "p0": [good(0), good(0), wrong],
        "p1": [good(1).replace("1. ", "1. By rule 3 we get "), cot(right(1)[1:], gold(1)), good(1) + "\nwordy"],
        "p2": [cot(*slip(2, k)) for k in (1, 2, 3)],
        "p2/label": [good(2)],
        "p3": [good(3), worded(3), "I do not know."],
        "p4": [good(4).replace("=", "= about", 1), good(4), cot([*right(4), *right(4)], gold(4))],
        "p5": [good(5)],
    }
    check = {"rule_check": lambda question, solution: "fail" if "about" in solution else "pass"}
    tokens = {"count_tokens": lambda text: 600 if "wordy" in text else len(text.split())}
    summary = distill(
        tmp_path, [apples(i) for i in range(6)], ScriptedGenerator(script, name="t"), n=3, max_steps=5,
        keep_per_problem=1, guide=check | tokens,
    )  # fmt: skip
    rows = guided(tmp_path)
    assert {name: row.drop_reason for name, row in rows.items()} == {
        "p0/cot/0": None,
        "p0/cot/1": "near-duplicate of p0/cot/0",
        "p0/cot/2": "wrong answer",
        "p1/cot/0": "leak: rule number",
        "p1/cot/1": "too few steps",
        "p1/cot/2": "too long",
        "p2/cot/0": "wrong answer",
        "p2/cot/1": "wrong answer",
        "p2/cot/2": "wrong answer",
        "p2/label/0": "label-given share over 20%",
        "p3/cot/0": None,
        "p3/cot/1": "not among the 1 most diverse",
        "p3/cot/2": "wrong answer",
        "p4/cot/0": "rule check failed",
        "p4/cot/1": None,
        "p4/cot/2": "too many steps",
        "p5/cot/0": None,
        "p5/cot/1": "near-duplicate of p5/cot/0",
        "p5/cot/2": "near-duplicate of p5/cot/0",
    } | {"p2/label/0": None}  # one label-given CoT beside four others is exactly a fifth
    assert all(row.kept == (row.drop_reason is None) for row in rows.values())
    assert rows["p2/label/0"].label_given and rows["p2/label/0"].rules_shown
    assert rows["p1/cot/0"].leak_flags == ["rule number"]
    assert (rows["p4/cot/0"].rule_check, rows["p4/cot/1"].rule_check) == ("fail", "pass")
    assert summary.data["cots"] == 19 and summary.data["kept"] == 5
    assert summary.data["dropped"] == {
        "near-duplicate": 3, "wrong answer": 5, "leak": 1, "too few steps": 1, "too long": 1,
        "not among the 1 most diverse": 1, "rule check failed": 1, "too many steps": 1,
    }  # fmt: skip
    assert (summary.data["problems_with_cot"], summary.data["problems"]) == (5, 6)
    assert summary.data["samples"] == {"guided": 5} and summary.data["adapter"] is None
    assert summary.notes == ["5 of 6 problems have a kept CoT"]


def test_the_hardest_tenth_under_the_student_goes(tmp_path: Path) -> None:
    problems = [apples(i) for i in range(10)]
    teacher = ScriptedGenerator({f"p{i}": [good(i)] for i in range(10)})
    seen = []

    def value(messages: Sequence[dict[str, str]], completion: str) -> float:
        seen.append((text_of(messages), completion))
        return 9.0 if completion == solution_text(right(7), gold(7)) else 1.0

    distill(tmp_path, problems, teacher, guide={"scorer": FakeNll(value)}, nll_drop=0.1)
    rows = guided(tmp_path)
    assert [name for name, row in rows.items() if not row.kept] == ["p7/cot/0"]
    assert rows["p7/cot/0"].drop_reason == "hard to imitate (nll 9.00)"
    assert rows["p1/cot/0"].nll_student == 1.0
    assert not any("R1:" in prompt for prompt, _ in seen)


def test_the_teacher_sees_the_rules_and_the_student_never_does(tmp_path: Path) -> None:
    """Point 6 of the acceptance list of the method document."""
    problems = [apples(i) for i in range(4)]
    teacher = ScriptedGenerator({f"p{i}": [good(i)] for i in range(4)})
    distill(tmp_path, problems, teacher)
    for request, problem in zip(teacher.asked, problems, strict=True):
        assert RULES in text_of(request.messages) and NOTES in text_of(request.messages)
        assert problem.answer not in text_of(request.messages)
    samples = sft(tmp_path)
    assert {s.problem_id for s in samples} == {"p0", "p1", "p2", "p3"}
    for sample in samples:
        i = int(sample.problem_id[1:])
        assert sample.messages == bare_messages(problems[i].question)
        assert not any(line in text_of(sample.messages) for line in [*RULES.splitlines(), NOTES])
        assert (sample.completion, sample.loss_start) == (solution_text(right(i), gold(i)), 0)
        assert sample.id == f"guided/p{i}/cot/0"


def verified(folder: Path, n: int) -> tuple[Path, Path]:
    """sets.jsonl and scored.jsonl of problems 0..n-1."""
    write_rows(folder / "routes.jsonl", [row for i in range(n) for row in pool(i)])
    stage = stage_in(folder, "verify", verify={"leak_limit": 1.0, "tamper_final": 0.0})
    run_verify(stage, [apples(i) for i in range(n)], folder / "routes.jsonl", progress=no_progress)
    return stage.path("sets.jsonl"), stage.path("scored.jsonl")


@pytest.mark.parametrize("style", ["full", "terse"])
@pytest.mark.parametrize("order", ["verify_first", "solve_first"])
def test_the_mix_masks_wrong_prefixes_and_never_trains_on_a_wrong_step(tmp_path: Path, style: str, order: str) -> None:
    problems = [apples(i) for i in range(8)]
    sets, scored = verified(tmp_path, 8)
    teacher = ScriptedGenerator({f"p{i}": [good(i)] for i in range(8)})
    stage = stage_in(
        tmp_path,
        "distill",
        prompt={"style": style, "order": order},
        distill={"n": 1, "nll_drop": 0.0, "mix": {"guided": 0.5, "mrpv": 0.25, "lemma": 0.25}},
    )
    guide = Guide(teacher, RULES, NOTES, count_tokens=lambda text: len(text.split()))
    summary = run_distill(stage, problems, guide, Extras(None, sets, scored), None, progress=no_progress)
    assert summary.data["samples"] == {"guided": 8, "mrpv": 4, "lemma": 4}
    samples = sft(tmp_path)
    assert len({s.id for s in samples}) == 16
    for sample in samples:
        i = int(sample.problem_id[1:])
        prompt, trained = text_of(sample.messages), sample.completion[sample.loss_start :]
        assert not any(line in prompt for line in [*RULES.splitlines(), NOTES])
        wrong = [step for k, by in ((1, 2), (2, 5)) for step in slip(i, k, by)[0] if step not in right(i)]
        assert not any(step in trained for step in wrong)
        assert trained.rstrip().endswith(f"<answer>{gold(i)}</answer>")
        if sample.kind == "lemma":
            masked = sample.completion[: sample.loss_start]
            assert masked.startswith("<think>\n1. ") and masked.endswith("\n")
            k = len(masked.splitlines()) - 1
            assert trained.startswith(f"Wait, step {k} is wrong.\n{k}. {right(i)[k - 1]}\n")
            assert any(step in masked.splitlines()[-1] for step in wrong)
        else:
            assert sample.loss_start == 0
        assert ("[Route A]" in prompt) == (sample.kind == "mrpv")
        assert ("<check>" in trained) == (sample.kind == "mrpv")


def test_external_positives_join_in_the_bare_format(tmp_path: Path) -> None:
    problems = [apples(0), apples(1), apples(2, "test")]
    rows = [
        route(0, "ext", 0, right(0), gold(0)),  # word for word the teacher's
        route(1, "ext", 0, right(1), gold(1)),
        route(1, "ext", 1, *slip(1, 1)),
        route(1, "ext", 2, right(1), gold(1), truncated=True),
        route(2, "ext", 0, right(2), gold(2)),  # a test problem
        route(9, "ext", 0, right(9), gold(9)),  # of another set
    ]
    path = tmp_path / "routes.jsonl"
    write_rows(path, rows)
    extras = Extras(positives=path, problems={p.id: p for p in problems})
    summary = distill(tmp_path, problems, ScriptedGenerator({"*": [good(0)]}), extras=extras)
    assert summary.data["samples"] == {"guided": 1, "positive": 1}
    found = {s.id: s for s in sft(tmp_path)}
    assert set(found) == {"guided/p0/cot/0", "positive/p1/ext/0"}
    assert found["positive/p1/ext/0"].messages == bare_messages(problems[1].question)
    assert found["positive/p1/ext/0"].completion == solution_text(right(1), gold(1))
    write_rows(path, rows[2:])
    with pytest.raises(DataError, match="no correct route on a training problem; leave --positives out"):
        distill(tmp_path / "b", problems, ScriptedGenerator({"*": [good(0)]}), extras=extras)


def test_positives_are_cut_to_different_texts(tmp_path: Path) -> None:
    problems = [apples(0), apples(1)]
    other = [f"So {step}" for step in right(1)]
    rows = [
        route(1, "ext", i, steps, gold(1)) for i, steps in enumerate([right(1), right(1), other, [*other, "Done."]])
    ]
    write_rows(tmp_path / "routes.jsonl", [route(0, "ext", 0, right(0), gold(0)), *rows])
    extras = Extras(positives=tmp_path / "routes.jsonl", problems={p.id: p for p in problems})
    distill(tmp_path, problems, ScriptedGenerator({"p0": [good(0)], "p1": ["?"]}), extras=extras, keep_per_problem=2)
    assert {s.id for s in sft(tmp_path)} == {"guided/p0/cot/0", "positive/p1/ext/0", "positive/p1/ext/2"}


def test_rules_fade_from_the_prompts_in_order(tmp_path: Path) -> None:
    trainer = FakeSftTrainer()
    problems = [apples(i) for i in range(20)]
    teacher = ScriptedGenerator({f"p{i}": [good(i)] for i in range(20)})
    given: dict[str, Any] = {"rules_in_prompt": 1.0, "sft": {"epochs": 2}, "n": 1}
    distill(tmp_path, problems, teacher, trainer=trainer, **given)
    shown = [RULES.splitlines()[0] in text_of(s.messages) for s in trainer.samples]
    assert trainer.in_order and len(shown) == 40
    assert shown[0] and 0 < sum(shown[:20]) < 20 and not any(shown[20:])
    plain = FakeSftTrainer()
    distill(tmp_path / "b", problems, teacher, trainer=plain, n=1)
    assert not plain.in_order and len(plain.samples) == 20
    with pytest.raises(DataError, match=r"distill.rules_in_prompt: there are no rules to show; give --rules FILE"):
        distill(tmp_path / "c", problems, teacher, trainer=plain, guide={"rules": ""}, **given)


def test_rule_questions_join_where_the_mix_has_them(tmp_path: Path) -> None:
    teacher = ScriptedGenerator({f"p{i}": [good(i)] for i in range(8)})
    mix = {"guided": 0.8, "rule_qa": 0.2}
    summary = distill(tmp_path, [apples(i) for i in range(8)], teacher, n=1, mix=mix)
    assert summary.data["samples"] == {"guided": 8, "rule_qa": 2}
    asked = [s for s in sft(tmp_path) if s.kind == "rule_qa"]
    assert all(s.completion in right(int(s.problem_id[1:])) for s in asked)


def test_a_failed_problem_is_asked_once_more_with_the_label(tmp_path: Path) -> None:
    problems = [apples(i) for i in range(6)]
    script = {f"p{i}": [good(i)] for i in range(5)} | {"p5": [cot(*slip(5, 1))], "p5/label": [good(5)]}
    teacher = ScriptedGenerator(script)
    distill(tmp_path, problems, teacher)
    assert [r.key for r in teacher.asked] == ["p0", "p1", "p2", "p3", "p4", "p5", "p5/label"]
    assert f"The correct answer is {gold(5)}." in text_of(teacher.asked[-1].messages)
    assert teacher.asked[-1].n == 1
    assert guided(tmp_path)["p5/label/0"].kept


@pytest.mark.parametrize("off", [{"guide": {"retry": False}}, {"retry_with_label": False}])
def test_no_label_is_shown_where_it_is_switched_off(tmp_path: Path, off: dict[str, Any]) -> None:
    teacher = ScriptedGenerator({"p0": [good(0)], "p1": [cot(*slip(1, 1))]})
    distill(tmp_path, [apples(0), apples(1)], teacher, **off)
    assert [r.key for r in teacher.asked] == ["p0", "p1"]


def test_a_program_is_asked_once(tmp_path: Path) -> None:
    teacher = ScriptedGenerator({"*": [good(0)]})
    distill(tmp_path, [apples(0)], teacher, n=4, temperature=0.2, top_p=0.9, max_tokens=99, guide={"tries": 1})
    assert [r.n for r in teacher.asked] == [1]
    (params,) = teacher.calls
    assert (params.max_tokens, params.temperature, params.top_p) == (99, 0.2, 0.9)


def test_all_dropped_is_an_error_that_names_the_reason(tmp_path: Path) -> None:
    teacher = ScriptedGenerator({"*": [cot(*slip(0, 1))]})
    with pytest.raises(DataError) as error:
        distill(tmp_path, [apples(0), apples(1)], teacher)
    path = tmp_path / "distill" / "guided.jsonl"
    assert str(error.value) == (
        f"{path}: all 4 CoTs were dropped (4 of them: wrong answer); read the file, then change the teacher or the "
        "distill filters"
    )
    assert [row["kept"] for row in load(path)] == [False] * 4


class Silent:
    """A teacher that has nothing to say."""

    name = "silent"

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        for index in range(len(requests)):
            yield index, []


def test_positives_alone_are_enough(tmp_path: Path) -> None:
    write_rows(tmp_path / "routes.jsonl", [route(0, "ext", 0, right(0), gold(0))])
    extras = Extras(positives=tmp_path / "routes.jsonl", problems={"p0": apples(0)})
    summary = distill(tmp_path, [apples(0)], ScriptedGenerator({"*": [cot(*slip(0, 1))]}), extras=extras)
    assert summary.data["samples"] == {"positive": 1} and summary.data["kept"] == 0


def test_a_silent_teacher_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the teacher silent wrote nothing for 1 problems"):
        distill(tmp_path, [apples(0)], Silent())


def test_a_rerun_does_not_refuse_written_text_for_the_problems_that_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"problem_id": "p0", "text": good(0)}) + "\n")
    problems = [apples(0), apples(1)]
    for resume in (False, True):  # the second one asks for p1 alone
        teacher = JsonlGenerator(tmp_path / "t.jsonl")
        distill(tmp_path, problems, teacher, resume=resume, guide={"tries": 1, "retry": False})
    assert list(guided(tmp_path)) == ["p0/cot/0"]
    with pytest.raises(DataError, match="t.jsonl: no row for any of the 1 problems, e.g. p1; check problem_id"):
        distill(tmp_path / "other", [apples(1)], JsonlGenerator(tmp_path / "t.jsonl"))


def test_all_written_solutions_are_read_whatever_is_asked_of_models(tmp_path: Path) -> None:
    """What a file has beyond `distill.n`, and so the samples of `refine.n` beyond it, was left out once."""
    rows = [{"problem_id": "p0", "text": cot(*slip(0, 1)) if i < 5 else good(0)} for i in range(6)]
    rows.append({"problem_id": "p1", "text": good(1)})
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = [apples(0), apples(1)]
    teacher = JsonlGenerator(tmp_path / "t.jsonl")
    distill(tmp_path, problems, teacher, guide={"retry": False})
    assert (teacher.most(["p0", "p1"]), teacher.most(["p1", "p2"]), teacher.most([])) == (6, 1, 0)
    assert list(guided(tmp_path)) == [*(f"p0/cot/{i}" for i in range(6)), "p1/cot/0"]
    assert [i for i, cot in guided(tmp_path).items() if cot.kept] == ["p0/cot/5", "p1/cot/0"]


def test_a_truncated_cot_is_not_correct(tmp_path: Path) -> None:
    teacher = ScriptedGenerator({"p0": [good(0) + " and so on"], "p1": [good(1)]})
    distill(tmp_path, [apples(0), apples(1)], teacher, max_tokens=len(good(1).split()), retry_with_label=False)
    assert guided(tmp_path)["p0/cot/0"].drop_reason == "wrong answer"


def test_which_problems_the_teacher_gets() -> None:
    rows = [apples(0), apples(1, tags=["distill"]), apples(2, "test", tags=["distill"]), apples(3, tags=["distill"])]
    assert [p.id for p in distill_problems(rows, DistillConfig())] == ["p1", "p3"]
    assert [p.id for p in distill_problems(rows, DistillConfig(limit=1))] == ["p1"]
    assert [p.id for p in distill_problems([apples(0), apples(4)], DistillConfig())] == ["p0", "p4"]
    with pytest.raises(DataError, match='distill: no problem with split "train"'):
        distill_problems([apples(0, "test")], DistillConfig())


def test_all_training_problems_or_those_of_some_difficulty() -> None:
    rows = [apples(0, bucket="easy"), apples(1, tags=["distill"], bucket="zero"), apples(3, bucket="hard")]
    assert [p.id for p in distill_problems(rows, DistillConfig(problems="train"))] == ["p0", "p1", "p3"]
    hard = DistillConfig(problems="train", buckets=["zero", "hard"])
    assert [p.id for p in distill_problems(rows, hard)] == ["p1", "p3"]
    with pytest.raises(DataError, match=r"no problem of difficulty sat; measure it with `realm rollout"):
        distill_problems(rows, DistillConfig(buckets=["sat"]))


def test_wrong_solutions_are_learned_only_where_that_is_asked_for(tmp_path: Path) -> None:
    wrong = good(0).replace(f"Answer: {gold(0)}", "Answer: 1")
    silent = good(0).replace(f"Answer: {gold(0)}", "")
    teacher = ScriptedGenerator({"p0": [wrong, silent], "p1": [good(1)]})
    distill(tmp_path, [apples(0), apples(1)], teacher, n=2, correct_only=False, retry_with_label=False)
    rows = guided(tmp_path)
    assert rows["p0/cot/0"].kept and not rows["p0/cot/0"].correct
    assert rows["p0/cot/1"].drop_reason == "wrong answer"


def test_labels_are_balanced(tmp_path: Path) -> None:
    answers = ["yes"] + ["no"] * 5
    problems = [
        Problem(id=f"q{i}", question=f"Does case {i} pay?", answer=a, answer_type="label")
        for i, a in enumerate(answers)
    ]
    script = {
        p.id: [f"1. the parcel of case {p.id} is {p.answer}\n2. so it follows\n3. it is {p.answer}\nAnswer: {p.answer}"]
        for p in problems
    }
    distill(tmp_path / "on", problems, ScriptedGenerator(script), min_steps=1)
    assert [row.drop_reason for row in guided(tmp_path / "on").values()] == [None] * 3 + ["class balance"] * 3
    distill(tmp_path / "off", problems, ScriptedGenerator(script), min_steps=1, balance=False)
    assert all(row.kept for row in guided(tmp_path / "off").values())
