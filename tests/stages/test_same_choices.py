"""Choices in every prompt that a stage makes, and work that an older version began without them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeNll, FakeRlTrainer, ScriptedGenerator, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.errors import ArtifactError
from realm_cli.prompts import check_text, solution_text
from realm_cli.protocols import GenRequest
from realm_cli.recipe import PromptConfig
from realm_cli.records import Problem, Route, RouteSet, ShownRoute
from realm_cli.run_folder import Stage
from realm_cli.stages.browsing import describe
from realm_cli.stages.evaluate import run_eval
from realm_cli.stages.lm_eval import write_lm_eval
from realm_cli.stages.monitor import make_evaluator
from realm_cli.stages.plan import run_plan
from realm_cli.stages.probes import run_probes
from realm_cli.stages.reliance import hint_reliance
from realm_cli.stages.rollout import run_rollout
from realm_cli.stages.teacher import Guide, collect_cots
from realm_cli.stages.train_rl import RlInputs, make_contrast, make_steering, run_train_rl
from stages.distilling import distill, guided, sft
from stages.helpers import apples, load, stage_in, text_of

SHOWN = "A) iron\nB) mercury\nD) zinc"
RIGHT = "1. Mercury melts at -39 degrees.\n2. So it is liquid here.\n3. The others are solid.\n"
STEPS = ["Mercury melts at -39 degrees.", "So it is liquid here.", "The others are solid."]
WRONG = ["Iron melts at 10 degrees.", "So it is liquid here.", "The others are solid."]


def metal(i: int, split: str = "train", **fields: Any) -> Problem:
    row = {"id": f"m{i}", "question": f"Which metal is liquid in room {i}?", "answer": "B", "answer_type": "choice"}
    row |= {"choices": ["iron", "mercury", "", "zinc"], "split": split}
    return Problem.model_validate(row | fields)


METALS = [metal(i) for i in range(3)]
ROUTES = [
    ShownRoute(route_id="r1", steps=STEPS, answer="mercury", label=True),
    ShownRoute(route_id="r2", steps=WRONG, answer="A", label=False, first_error=1),
]


def says(text: str, name: str = "m") -> ScriptedGenerator:
    return ScriptedGenerator({"*": [text]}, name=name)


def prompts(generator: ScriptedGenerator) -> list[str]:
    return [text_of(request.messages) for request in generator.asked]


def age(folder: Path) -> None:
    """Make a stage one that an older version began."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert manifest.pop("choices_shown") is True
    path.write_text(json.dumps(manifest), encoding="utf-8")


# ---- shown


def test_what_train_rl_makes_shows_them(tmp_path: Path) -> None:
    sets = [RouteSet(id=f"{p.id}/s", problem_id=p.id, kind="balanced", shown=ROUTES) for p in METALS]
    write_rows(tmp_path / "sets.jsonl", sets)
    config = {"steps": 3, "groups_per_step": 2, "group_size": 2, "eaai_steps": 2, "eval_every": 1, "dev_routed": 1}
    stage = stage_in(tmp_path, "train_rl", train_rl=config | {"preflight": {"groups": 0}, "schedule": "adaptive"})
    plan = run_plan(stage, METALS, tmp_path / "sets.jsonl")
    dev = metal(9, "dev")
    seen: list[str] = []

    def policy(request: GenRequest, sample: int) -> str:
        seen.append(text_of(request.messages))
        check = check_text([True, False], [None, 1]) + "\n" if "[Route A]" in seen[-1] else ""
        return check + solution_text(STEPS, "B" if sample else "A")

    trainer = FakeRlTrainer(ScriptedGenerator(policy))
    run_train_rl(stage, RlInputs(METALS, [dev], {"m9": ROUTES}), plan, trainer, progress=no_progress)
    assert all(SHOWN in text for text in seen)
    assert any("room 9" in text and "[Route A]" in text for text in seen)
    (job,) = trainer.jobs
    assert SHOWN in text_of(job.bare_messages("m0")) and any(row.routed for row in plan)
    steering = make_steering(stage.recipe, METALS)
    steering.lam = 0.0
    routed = next(row for row in plan if row.routed)
    bare = steering.revise(routed)
    assert not bare.routed and SHOWN in text_of(bare.messages)
    found = make_contrast(stage.recipe, {p.id: p for p in METALS})(routed.model_copy(update={"members": ROUTES}))
    assert found and all(SHOWN in text_of(messages) for messages in (found.right, *found.wrong))
    evaluator = make_evaluator(stage.recipe, [dev], {"m9": ROUTES})
    asked = says(solution_text(STEPS, "B) mercury"))
    assert evaluator(asked, 0)["dev_bare"] == 1.0
    assert len(prompts(asked)) == 2 and all(SHOWN in text for text in prompts(asked))


def test_probes_and_reliance_show_them_and_weigh_the_letter(tmp_path: Path) -> None:
    route = Route(id="m0/x/0", problem_id="m0", source="x", text="t", steps=STEPS, final_answer="mercury", correct=True)
    write_rows(tmp_path / "routes.jsonl", [route])
    weighed: list[tuple[str, str]] = []

    def value(messages: Sequence[dict[str, str]], text: str) -> float:
        weighed.append((text_of(messages), text))
        return 1.0

    mc = says("\n</think>\n<answer>B</answer>")
    by_id = {"m0": metal(0, answer="mercury")}
    stage = stage_in(tmp_path, "verify", append=True)
    run_probes(stage, by_id, tmp_path / "routes.jsonl", belief=FakeNll(value), mc=mc, progress=no_progress)
    assert len(weighed) == 3 and all(SHOWN in asked and text.endswith("<answer>B</answer>") for asked, text in weighed)
    assert len(mc.asked) == 3 and all(SHOWN in text for text in prompts(mc))

    done = evaluated(tmp_path / "e", ["routed"], f"{check_text([True, False], [None, 1])}\n{solution_text(STEPS, 'B')}")
    weighed.clear()
    rows = done[1]
    hint_reliance(FakeNll(value), rows, {"m0": metal(0)}, {"m0": ROUTES}, PromptConfig())
    assert len(weighed) == 2 and all(SHOWN in asked for asked, _ in weighed)


def test_fine_tuning_rows_show_them_and_answer_by_the_letter(tmp_path: Path) -> None:
    problems = [metal(0, answer="mercury"), metal(1), metal(2)]
    teacher = ScriptedGenerator(
        {"m0": [f"{RIGHT}Answer: mercury"], "m1": [f"{RIGHT}Answer: B) mercury"], "m2": ["1. Iron.\nAnswer: A"]},
        name="t",
    )
    sets = [RouteSet(id="m0/s", problem_id="m0", kind="balanced", shown=ROUTES)]
    write_rows(tmp_path / "sets.jsonl", sets)
    from realm_cli.stages.distill import Extras

    mix = {"guided": 1.0, "mrpv": 1.0, "rule_qa": 1.0}
    config = {"balance": False, "min_steps": 1, "mix": mix, "rules_in_prompt": 1.0, "sft": {"epochs": 2}}
    distill(tmp_path, problems, teacher, extras=Extras(sets=tmp_path / "sets.jsonl"), **config)
    assert all(SHOWN in text for text in prompts(teacher))
    labelled = [text for text in prompts(teacher) if "The correct answer is" in text]
    assert labelled and all("The correct answer is B. Explain" in text for text in labelled)
    assert {row.final_answer for row in guided(tmp_path).values() if row.kept} == {"mercury", "B) mercury"}
    rows = sft(tmp_path)
    assert {row.kind for row in rows} == {"guided", "mrpv", "rule_qa"}
    assert all(SHOWN in text_of(row.messages) for row in rows)
    assert all(row.completion.endswith("<answer>B</answer>") for row in rows if row.kind != "rule_qa")
    assert any(text_of(row.messages).startswith("You solve") and "Rules:" in text_of(row.messages) for row in rows)


def test_a_problem_row_is_shown_with_its_letters() -> None:
    told = describe(json.loads(metal(0).model_dump_json()))
    assert "choices\n  A) iron\n  B) mercury\n  C) \n  D) zinc" in told
    assert "choices" not in describe(json.loads(apples(0).model_dump_json()))


# ---- begun by an older version


def evaluated(folder: Path, modes: Sequence[Any], text: str, old: bool = False) -> tuple[Stage, list[Any]]:
    from realm_cli.artifacts import read_rows
    from realm_cli.recipe import parse_recipe
    from realm_cli.records import Prediction
    from realm_cli.run_folder import open_stage

    folder.mkdir()
    write_rows(folder / "problems.jsonl", [metal(0, "test")])
    own = [Route(id=f"m0/x/{i}", problem_id="m0", source="x", text="t", steps=s, final_answer=a, correct=a == "B")
           for i, (s, a) in enumerate([(STEPS, "B"), (WRONG, "A")])]  # fmt: skip
    write_rows(folder / "routes.jsonl", own)
    recipe = parse_recipe({"eval": {"bootstrap": 200, "k": 2}}, "test")
    inputs = {"problems": folder / "problems.jsonl", "routes": folder / "routes.jsonl"}
    stage = open_stage(folder, "eval", recipe, inputs)
    run_eval(stage, [metal(0, "test")], {"m": lambda: says(text)}, inputs["routes"], modes=modes, compare=False,
             progress=no_progress, rules="R1")  # fmt: skip
    stage.finish()
    if old:
        age(stage.folder)
    return stage, read_rows(stage.path("predictions.jsonl"), Prediction)


@pytest.mark.parametrize("old", [False, True])
def test_lm_eval_files_tell_the_prompt_that_was_asked(old: bool, tmp_path: Path) -> None:
    evaluated(tmp_path / "r", ["bare", "ruled", "routed"], solution_text(STEPS, "B"), old=old)
    made = write_lm_eval(tmp_path / "r", tmp_path / "out", when=datetime.datetime(2026, 1, 2))
    rows = [row for path in made if path.name.startswith("samples") for row in load(path)]
    assert len(rows) == 6
    for row in rows:
        asked = row["arguments"]["gen_args_0"]["arg_0"]
        assert (json.dumps(SHOWN)[1:-1] in asked) is not old
        assert row["doc"]["choices"] == ["iron", "mercury", "", "zinc"]


def test_a_rollout_without_choices_is_not_continued_with_them(tmp_path: Path) -> None:
    def roll(*generators: Any, problems: Sequence[Problem] = METALS, n: int = 2) -> None:
        stage = stage_in(tmp_path, "rollout", append=True, rollout={"n": n})
        run_rollout(stage, problems, generators, self_names=frozenset(), progress=no_progress)

    others = [apples(0), apples(1)]
    roll(says("Answer: B", "a"), problems=METALS[:1] + others)
    age(tmp_path / "rollout")
    before = (tmp_path / "rollout/routes.jsonl").read_bytes()
    for _ in range(2):  # it is refused again and again
        with pytest.raises(ArtifactError) as caught:
            roll(says("Answer: B", "a"), n=3)
        assert "begun by an older version, which asked m0 without showing its choices" in str(caught.value)
        assert "--force" in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "rollout/routes.jsonl").read_bytes() == before
    roll(says("Answer: B", "a"), problems=others, n=3)  # problems without choices go on
    more = says("Answer: B", "b")
    roll(more)  # a model that was not asked before
    assert len(load(tmp_path / "rollout/routes.jsonl")) == 6 + 2 + 6
    assert all(SHOWN in text for text in prompts(more))


def test_a_teacher_an_evaluation_probes_and_a_plan_are_not_continued_either(tmp_path: Path) -> None:
    write_rows(tmp_path / "sets.jsonl", [RouteSet(id="m0/s", problem_id="m0", kind="balanced", shown=ROUTES)])
    write_rows(tmp_path / "routes.jsonl", [
        Route(id=f"m{i}/x/0", problem_id=f"m{i}", source="x", text="t", steps=STEPS, final_answer="B") for i in range(2)
    ])  # fmt: skip

    def teach(resume: bool = False) -> None:
        stage = stage_in(tmp_path, "distill", resume=resume, distill={"n": 1})
        collect_cots(stage, METALS[: 3 if resume else 1], Guide(says(f"{RIGHT}Answer: B", "t")), no_progress)

    asked = iter("abc")

    def evaluate(resume: bool = False) -> None:
        stage = stage_in(tmp_path, "eval", resume=resume, eval={"bootstrap": 200})
        models = {next(asked): lambda: says("Answer: B")}  # another one each time
        run_eval(stage, METALS, models, None, modes=["bare"], compare=False, progress=no_progress)

    def probe(resume: bool = False) -> None:
        stage = stage_in(tmp_path, "verify", resume=resume)
        problems = {p.id: p for p in METALS[: 2 if resume else 1]}
        run_probes(stage, problems, tmp_path / "routes.jsonl", belief=FakeNll(), mc=None, progress=no_progress)

    def plan(resume: bool = False) -> None:
        stage = stage_in(tmp_path, "train_rl", resume=resume, train_rl={"steps": 2, "eaai_steps": 1})
        run_plan(stage, METALS, tmp_path / "sets.jsonl")

    for name, work in {"distill": teach, "eval": evaluate, "verify": probe, "train_rl": plan}.items():
        work()
        work(resume=True)  # of this version: it goes on
        age(tmp_path / name)
        with pytest.raises(ArtifactError, match=r"an older version, which asked m\d without showing its choices"):
            work(resume=True)
