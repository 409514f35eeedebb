"""The fade before training, reward parts and bridge weights by hand, dev accuracy, going on after Ctrl-C."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeRlTrainer, ScriptedGenerator, no_progress
from realm_cli.artifacts import Appender, write_rows
from realm_cli.errors import Alarm, DataError
from realm_cli.prompts import check_text
from realm_cli.protocols import Completion, GenRequest
from realm_cli.records import PlanRow, RouteSet, Sample, ShownRoute
from realm_cli.run_folder import Stage
from realm_cli.stages.plan import make_plan, plan_summary, run_plan
from realm_cli.stages.summary import Summary
from realm_cli.stages.train_rl import RlInputs, make_evaluator, make_scorer, run_train_rl
from stages.helpers import apples, bare_right, bare_slip, gold, load, right, slip, stage_in, text_of

TRAIN = [apples(i) for i in range(4)]
DEV = [apples(10, "dev", group="x"), apples(11, "dev", group="y")]


def shown(i: int) -> list[ShownRoute]:
    """A right route and a slip at step 1."""
    steps, answer = slip(i, 1)
    return [
        ShownRoute(route_id=f"p{i}/a", steps=right(i), answer=gold(i), label=True),
        ShownRoute(route_id=f"p{i}/b", steps=steps, answer=answer, label=False, first_error=1),
    ]


def route_set(i: int) -> RouteSet:
    return RouteSet(id=f"p{i}/set0", problem_id=f"p{i}", kind="balanced", shown=shown(i))


SETS = [route_set(i) for i in range(4)]


def case(request: GenRequest) -> int:
    found = re.search(r"\(case (\d+)\)", text_of(request.messages))
    assert found
    return int(found.group(1))


def policy(request: GenRequest, sample: int) -> str:
    """Even samples are right in every way, odd ones wrong; dev problem 10 is solved, 11 is not."""
    i = case(request)
    fine = sample % 2 == 0 and i != 11
    solution = bare_right(i) if fine else bare_slip(i)
    if "[Route A]" not in text_of(request.messages):
        return solution
    return f"{check_text([fine, not fine], [None if fine else 1, 1 if fine else None])}\n{solution}"


def opened(folder: Path, *, resume: bool = False, **config: Any) -> Stage:
    """4 steps of 2 groups of 2; routes at steps 0 and 1, none from step 2."""
    reward = {"min_think_words": 6, **config.pop("reward", {})}
    bridge = {"drop_copied": False, **config.pop("bridge", {})}
    blocks = {
        "steps": 4, "eaai_steps": 2, "schedule": "abrupt", "p_max": 1.0, "group_size": 2, "groups_per_step": 2,
        "eval_every": 2, "reward": reward, "bridge": bridge, **config,
    }  # fmt: skip
    return stage_in(folder, "train_rl", resume=resume, train_rl=blocks)


def train(
    folder: Path, *, resume: bool = False, fail_after: int | None = None, **config: Any
) -> tuple[Summary, FakeRlTrainer]:
    write_rows(folder / "sets.jsonl", SETS)
    stage = opened(folder, resume=resume, **config)
    plan = run_plan(stage, TRAIN, folder / "sets.jsonl")
    trainer = FakeRlTrainer(ScriptedGenerator(policy), fail_after=fail_after)
    summary = run_train_rl(stage, RlInputs(TRAIN, DEV), plan, trainer, progress=no_progress, resume=resume)
    return summary, trainer


# ---- the plan


def test_plan_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "sets.jsonl", SETS)
    stage = opened(tmp_path)
    plan = run_plan(stage, TRAIN, tmp_path / "sets.jsonl")
    assert [PlanRow.model_validate(row) for row in load(stage.path("plan.jsonl"))] == plan
    assert [(r.step, r.slot) for r in plan] == [(t, s) for t in range(4) for s in range(2)]
    assert [r.lam for r in plan] == [1.0] * 4 + [0.0] * 4
    assert [r.routed for r in plan] == [True] * 4 + [False] * 4
    for half in (plan[:4], plan[4:]):
        assert {r.problem_id for r in half} == {"p0", "p1", "p2", "p3"}
    for row in plan:
        text, i = text_of(row.messages), int(row.problem_id[1:])
        assert TRAIN[i].question in text
        if row.routed:
            assert (row.set_id, row.shown, row.shown_steps) == (f"p{i}/set0", shown(i), [3, 3])
            assert (row.verdicts, row.first_errors, row.cut) == ([True, False], [None, 1], [False, False])
            assert "[Route A]" in text and "[Route B]" in text
        else:
            assert "[Route" not in text
            assert (row.set_id, row.shown, row.verdicts) == (None, [], [])


def test_spare_rows_and_members_of_bare_groups_are_in_the_plan(tmp_path: Path) -> None:
    plan = make_plan(opened(tmp_path, refill=3, p_max=0.5, token_signal=0.5).recipe, TRAIN, SETS)
    assert [(r.step, r.slot) for r in plan] == [(t, s) for t in range(4) for s in range(5)]
    for row in plan:
        i = int(row.problem_id[1:])
        bare = not row.routed and row.lam > 0
        assert row.members == (shown(i) if bare else [])
        assert row.routed or "[Route" not in text_of(row.messages)
    assert any(row.members for row in plan) and any(row.routed for row in plan)


def test_spares_are_counted_apart(tmp_path: Path) -> None:
    stage = opened(tmp_path, refill=3)
    summary = plan_summary(stage, make_plan(stage.recipe, TRAIN, SETS))
    assert summary.data["rows"] == 8
    assert summary.notes == [
        "4 of 8 groups show routes; none from step 2",
        "12 spare groups, for those without variance",
    ]


def test_spares_members_and_contrast_reach_the_engine(tmp_path: Path) -> None:
    _, trainer = train(tmp_path, refill=1, routes_in_group=1.0, token_signal=0.5, p_max=0.0)
    (job,) = trainer.jobs
    assert [(r.step, r.slot) for r in job.plan] == [(t, s) for t in range(4) for s in range(2)]
    assert {t: [r.slot for r in rows] for t, rows in job.spares.items()} == {t: [2] for t in range(4)}
    row = job.plan[0]
    found = job.members(row, job.score(row, [Completion(bare_slip(int(row.problem_id[1:])), n_tokens=1)]))
    assert [m.weight for m in found] == [pytest.approx(2 / 3), pytest.approx(-1 / 3)]
    contrast = job.contrast(row)
    assert contrast is not None
    i = int(row.problem_id[1:])
    assert right(i)[0] in text_of(contrast.right) and slip(i, 1)[0][0] in text_of(contrast.wrong[0])
    assert contrast.weigh(1.0, [0.0], [[-50.0]]) == [pytest.approx(1.5)]
    assert job.contrast(job.plan[-1]) is None  # lambda is 0: no members


def test_an_interrupted_runs_plan_is_read_not_made_again(tmp_path: Path) -> None:
    write_rows(tmp_path / "sets.jsonl", SETS)
    stage = opened(tmp_path)
    plan = run_plan(stage, TRAIN, tmp_path / "sets.jsonl")
    write_rows(stage.path("plan.jsonl"), plan[:3])
    assert run_plan(stage, TRAIN, None) == plan[:3]


def test_zero_needs_no_sets_and_is_bare_throughout(tmp_path: Path) -> None:
    plan = run_plan(opened(tmp_path, schedule="zero"), TRAIN, None)
    assert len(plan) == 8 and not any(row.routed for row in plan)


def test_missing_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-rl: no route sets; run `realm verify`, give --sets, or use schedule"):
        run_plan(opened(tmp_path / "a"), TRAIN, None)
    write_rows(tmp_path / "sets.jsonl", [route_set(9)])
    with pytest.raises(DataError, match=r"sets\.jsonl: no route set for any training problem"):
        run_plan(opened(tmp_path / "b"), TRAIN, tmp_path / "sets.jsonl")


def test_bucket_weights_choose_the_problems(tmp_path: Path) -> None:
    problems = [apples(0, bucket="sat"), apples(1, bucket="mid"), apples(2, bucket="zero"), apples(3)]
    weights = {"sat": 0.0, "zero": 0.0}
    stage = opened(tmp_path, steps=20, bucket_weights=weights)
    drawn = {row.problem_id for row in make_plan(stage.recipe, problems, SETS)}
    assert drawn == {"p1", "p3"}  # mid and unmeasured keep weight 1


def test_bucket_quotas_are_shares_of_the_groups(tmp_path: Path) -> None:
    problems = [apples(0, bucket="sat"), *(apples(i, bucket="mid") for i in range(1, 4)), apples(4)]
    stage = opened(tmp_path, steps=200, groups_per_step=2, bucket_quotas={"sat": 0.25, "mid": 0.75})
    drawn = Counter(row.problem_id for row in make_plan(stage.recipe, problems, SETS))
    assert "p4" not in drawn and 70 < drawn["p0"] < 140  # a quarter of 400; fewer repeats within a step
    with pytest.raises(DataError, match=r"train_rl.bucket_quotas: no problem is in any of these difficulties"):
        make_plan(opened(tmp_path / "b", bucket_quotas={"hard": 1.0}).recipe, problems, SETS)


def test_routed_dev_accuracy_has_columns_where_it_is_measured(tmp_path: Path) -> None:
    write_rows(tmp_path / "sets.jsonl", SETS)
    stage = opened(tmp_path, dev_routed=2)
    plan = run_plan(stage, TRAIN, tmp_path / "sets.jsonl")
    beside = {"p10": shown(10), "p11": shown(11)}
    trainer = FakeRlTrainer(ScriptedGenerator(policy))
    summary = run_train_rl(stage, RlInputs(TRAIN, DEV, beside), plan, trainer, progress=no_progress)
    (table,) = summary.tables
    assert table.columns == ["step", "lambda", "routed %", "bare dev %", "with routes %", "bare/routed %"]
    assert [row[3:] for row in table.rows] == [["50.0", "50.0", "100.0"]] * 3


def test_plan_summary_counts(tmp_path: Path) -> None:
    write_rows(tmp_path / "sets.jsonl", SETS)
    stage = opened(tmp_path)
    found = plan_summary(stage, run_plan(stage, TRAIN, tmp_path / "sets.jsonl"))
    assert found.data == {"rows": 8, "routed": 4, "steps": 4, "eaai_steps": 2}
    assert found.tables[0].rows == [
        ["0", "1.000", "100.0"], ["1", "1.000", "100.0"], ["2", "0.000", "0.0"], ["3", "0.000", "0.0"]
    ]  # fmt: skip
    assert found.notes == ["4 of 8 groups show routes; none from step 2"]


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"schedule": "none"}, "8 of 8 groups show routes; up to the last step"),
        ({"schedule": "zero"}, "0 of 8 groups show routes; none from step 0"),
    ],
)
def test_plan_summary_tells_where_routes_end(tmp_path: Path, config: dict[str, Any], note: str) -> None:
    write_rows(tmp_path / "sets.jsonl", SETS)
    stage = opened(tmp_path, **config)
    assert plan_summary(stage, run_plan(stage, TRAIN, tmp_path / "sets.jsonl")).notes == [note]


# ---- rewards and bridge


def test_reward_parts_by_hand(tmp_path: Path) -> None:
    _, trainer = train(tmp_path)
    rows = [Sample.model_validate(row) for row in load(tmp_path / "train_rl" / "samples.jsonl")]
    assert len(rows) == 4 * 2 * 2
    for row in rows:
        i = int(row.problem_id[1:])
        parts = (row.r_ans, row.r_ver, row.r_loc, row.r_fmt, row.p_len, row.p_copy)
        if row.routed and row.sample == 0:
            # all 12-grams of the think text stand in route A: 1 + .2 + .1 + .1 - .1
            assert parts == (1.0, 1.0, 1.0, 1.0, 0.0, 1.0)
            assert row.reward == pytest.approx(1.3)
            assert (row.verdicts, row.first_errors, row.answer) == ([True, False], [None, 1], gold(i))
            assert row.bridge_weight == pytest.approx(0.5)
        elif row.routed:
            # both verdicts wrong: TPR + TNR - 1 = -1; B judged right: no localisation; -.2 + .1 - .1
            assert parts == (0.0, -1.0, 0.0, 1.0, 0.0, 1.0)
            assert row.reward == pytest.approx(-0.2)
            assert row.bridge_weight == 0.0
        else:
            assert parts == (1.0 - row.sample, None, None, 1.0, 0.0, 0.0)
            assert row.reward == pytest.approx(1.1 - row.sample)
            assert row.bridge_weight == 0.0
        half = 0.75 if row.routed else 0.5
        assert row.advantage == pytest.approx(half if row.sample == 0 else -half)
        assert row.routed == (row.step < 2)
    solved = [r for r in rows if r.routed and r.sample == 0]
    assert trainer.bridged == [(r.problem_id, bare_right(int(r.problem_id[1:]))) for r in solved]
    assert not any("<check>" in text or "[Route" in text for _, text in trainer.bridged)


def scored(tmp_path: Path, texts: list[str], *, routed: bool = True, **config: Any) -> list[tuple[Sample, str]]:
    recipe = opened(tmp_path, **config).recipe
    row = make_plan(recipe, TRAIN[:1], SETS)[0 if routed else 7]
    found = make_scorer(recipe, {p.id: p for p in TRAIN})(row, [Completion(t, len(t.split())) for t in texts])
    return [(s.sample, s.bridge_text) for s in found]


GOOD = f"{check_text([True, False], [None, 1])}\n{bare_right(0)}"


def test_all_right_groups_are_bridged_with_a_fifth(tmp_path: Path) -> None:
    found = scored(tmp_path, [GOOD, GOOD])
    assert [(s.bridge_weight, text) for s, text in found] == [(0.2, bare_right(0))] * 2
    assert [s.advantage for s, _ in found] == [0.0, 0.0]


def test_copied_solutions_are_left_out_by_default(tmp_path: Path) -> None:
    found = scored(tmp_path, [GOOD, "nothing"], bridge={"drop_copied": True})
    assert [(s.bridge_weight, text) for s, text in found] == [(0.0, ""), (0.0, "")]


def test_beta_zero_switches_the_bridge_off(tmp_path: Path) -> None:
    found = scored(tmp_path, [GOOD, "nothing"], bridge={"beta": 0})
    assert [(s.r_ans, s.bridge_weight, text) for s, text in found] == [(1.0, 0.0, ""), (0.0, 0.0, "")]


def test_bare_groups_are_not_bridged(tmp_path: Path) -> None:
    found = scored(tmp_path, [bare_right(0), "nothing"], routed=False)
    assert [(s.r_ans, s.r_fmt, s.reward, text) for s, text in found] == [(1.0, 1.0, 1.1, ""), (0.0, 0.0, 0.0, "")]


def test_recipe_weights_and_scale_reach_the_reward(tmp_path: Path) -> None:
    reward = {"w_ans": 2.0, "w_ver": 0.5, "w_loc": 0.25, "w_fmt": 0.0, "w_copy": 0.0}
    found = scored(tmp_path, [GOOD, "nothing"], reward=reward, scale_rewards="group")
    rewards = [s.reward for s, _ in found]
    assert rewards == pytest.approx([2.75, -0.5])  # no check block: both verdict lines missing, so r_ver = -1
    deviation = (rewards[0] - rewards[1]) / 2**0.5
    assert [s.advantage for s, _ in found] == pytest.approx([1.625 / (deviation + 1e-4), -1.625 / (deviation + 1e-4)])


def test_overlong_answers_cost(tmp_path: Path) -> None:
    words = len(GOOD.split())
    (sample, _), _ = scored(tmp_path, [GOOD, "x"], max_tokens=words + 10, cache_tokens=20)
    assert sample.p_len == pytest.approx(0.5)
    assert sample.reward == pytest.approx(1.25)


# ---- dev accuracy


def test_dev_accuracy_by_group(tmp_path: Path) -> None:
    recipe = opened(tmp_path, max_tokens=60).recipe
    generator = ScriptedGenerator(policy)
    assert make_evaluator(recipe, DEV)(generator, 0) == {"dev_bare": 0.5, "dev_bare/x": 1.0, "dev_bare/y": 0.0}
    assert (generator.calls[0].temperature, generator.calls[0].max_tokens) == (0.0, 60)
    assert not any("[Route" in text_of(r.messages) for r in generator.asked)


def test_dev_accuracy_reads_the_strict_answer_and_ungrouped_problems(tmp_path: Path) -> None:
    recipe = opened(tmp_path, dev_limit=1).recipe
    generator = ScriptedGenerator({"*": [f"Answer: {gold(12)}"]})
    assert make_evaluator(recipe, [apples(12, "dev"), apples(13, "dev")])(generator, 0) == {"dev_bare": 0.0}
    assert [r.key for r in generator.asked] == ["p12"]


def test_metrics_and_summary(tmp_path: Path) -> None:
    summary, trainer = train(tmp_path)
    rows = load(tmp_path / "train_rl" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row.get("dev_bare") for row in rows] == [0.5, None, 0.5, None, 0.5]
    assert [row["reward"] for row in rows[1:]] == pytest.approx([0.55, 0.55, 0.6, 0.6])
    assert trainer.evaluated == [0, 2, 4]
    assert summary.data["dev_bare"] == [[0, 0.5], [2, 0.5], [4, 0.5]]
    assert (summary.data["steps"], summary.data["eaai_steps"], summary.data["best_step"]) == (4, 2, 4)
    assert summary.data["adapter"] == str(tmp_path / "train_rl" / "adapter")
    assert summary.tables[0].rows == [
        ["0", "1.00", "100.0", "50.0"], ["2", "0.00", "0.0", "50.0"], ["4", "0.00", "-", "50.0"]
    ]  # fmt: skip
    assert (tmp_path / "train_rl" / "adapter" / "adapter_model.safetensors").exists()


# ---- continuing


def test_ctrl_c_keeps_rows_and_resume_completes_without_doubles(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", fail_after=2)
    folder = tmp_path / "cut" / "train_rl"
    kept = (folder / "samples.jsonl").read_bytes()
    assert [row["step"] for row in load(folder / "samples.jsonl")] == [0] * 4 + [1] * 4
    _, trainer = train(tmp_path / "cut", resume=True)
    assert (folder / "samples.jsonl").read_bytes().startswith(kept)
    for file in ("samples.jsonl", "plan.jsonl", "metrics.jsonl"):
        assert (folder / file).read_bytes() == (tmp_path / "whole/train_rl" / file).read_bytes()
    rows = load(folder / "timing.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 2, 3, 4]
    assert sum("resumed_from" in row for row in rows) == 1
    assert trainer.evaluated == [4]


def test_rows_after_the_last_checkpoint_are_made_again_once(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", fail_after=2)
    folder = tmp_path / "cut" / "train_rl"
    ahead = load(tmp_path / "whole" / "train_rl" / "samples.jsonl")[8]
    with Appender(folder / "samples.jsonl") as out:
        out.add(ahead)  # step 3 had begun
    with Appender(folder / "metrics.jsonl") as out:
        out.add({"step": 3, "reward": -9.0})
    with (folder / "samples.jsonl").open("a", encoding="utf-8") as out_file:
        out_file.write('{"id": "cut off in the mid')
    train(tmp_path / "cut", resume=True)
    assert (folder / "samples.jsonl").read_bytes() == (tmp_path / "whole/train_rl/samples.jsonl").read_bytes()
    steps = [(row["step"], row.get("reward")) for row in load(folder / "metrics.jsonl")]
    assert [step for step, _ in steps] == [0, 1, 2, 3, 4]
    assert -9.0 not in [reward for _, reward in steps]


def test_a_run_that_gained_nothing_says_so(tmp_path: Path) -> None:
    summary, trainer = train(tmp_path / "a")
    assert summary.notes == []  # ties go to the later step
    trainer.best = {"dev_bare": 2.0, "best_step": 0}  # no step can be better
    write_rows(tmp_path / "sets.jsonl", SETS)
    stage = opened(tmp_path / "b")
    plan = run_plan(stage, TRAIN, tmp_path / "sets.jsonl")
    summary = run_train_rl(stage, RlInputs(TRAIN, DEV), plan, trainer, progress=no_progress)
    assert summary.notes == ["no step was better on dev than the start: the adapter is the one it began with"]


def test_without_a_checkpoint_all_comes_again(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", fail_after=2)
    folder = tmp_path / "cut" / "train_rl"
    (folder / "fake_state.json").unlink()
    train(tmp_path / "cut", resume=True)
    for file in ("samples.jsonl", "metrics.jsonl"):
        assert (folder / file).read_bytes() == (tmp_path / "whole/train_rl" / file).read_bytes()


def test_alarms_are_said_and_kept_and_stop_the_run(tmp_path: Path) -> None:
    write_rows(tmp_path / "sets.jsonl", SETS)

    def run(folder: Path, resume: bool = False, **alarms: Any) -> tuple[Summary, list[str]]:
        stage = opened(folder, resume=resume, alarms=alarms)
        plan, said = run_plan(stage, TRAIN, tmp_path / "sets.jsonl"), list[str]()
        trainer = FakeRlTrainer(ScriptedGenerator(policy), extra={"truncated": 1.0})
        inputs = RlInputs(TRAIN, DEV)
        done = run_train_rl(stage, inputs, plan, trainer, progress=no_progress, resume=resume, say=said.append)
        return done, said

    summary, said = run(tmp_path / "a", window=2)
    assert len(said) == 1 and said[0].startswith("step 2: 100% of the completions are cut off")
    assert summary.data["alarms"] == said
    with pytest.raises(Alarm, match=r"stopped at step 3, its state is saved: 100% of the completions"):
        run(tmp_path / "b", window=2, patience=1)
    _, again = run(tmp_path / "b", resume=True, window=2, patience=0)  # other alarms are no other recipe
    assert again == []  # what was said before is not said again


BAD = f"{check_text([True, False], [None, 1])}\n{bare_slip(0)}"


def test_wrong_solutions_are_bridged_where_that_is_asked_for(tmp_path: Path) -> None:
    bridge = {"negatives": 0.3, "drop_copied": False}
    found = scored(tmp_path, [GOOD, BAD], bridge=bridge)
    assert [(s.bridge_weight, text) for s, text in found] == [(0.5, bare_right(0)), (-0.15, bare_slip(0))]
    assert [s.bridge_weight for s, _ in scored(tmp_path / "off", [GOOD, BAD])] == [0.5, 0.0]


def test_a_problem_is_credited_up_to_its_quota(tmp_path: Path) -> None:
    recipe = opened(tmp_path, bridge={"quota": 2, "drop_copied": False}).recipe
    rows = [row for row in make_plan(recipe, TRAIN[:2], SETS) if row.routed][:6]
    count: Counter[str] = Counter()
    score = make_scorer(recipe, {p.id: p for p in TRAIN}, count)
    weights: dict[str, list[bool]] = {"p0": [], "p1": []}
    for row in rows:
        i = int(row.problem_id[1:])
        texts = [f"{check_text([True, False], [None, 1])}\n{bare_right(i)}", "nothing"]
        found = score(row, [Completion(text, 5) for text in texts])
        weights[row.problem_id].append(any(s.sample.bridge_weight for s in found))
    for used in weights.values():
        assert used == [True, True, *[False] * (len(used) - 2)]
    assert sum(count.values()) == 4


def test_placebo_labels_reach_the_reward(tmp_path: Path) -> None:
    recipe = opened(tmp_path, reward={"placebo_verdicts": True}).recipe
    problems = {p.id: p for p in TRAIN}
    rows = [row for row in make_plan(recipe, TRAIN, SETS) if row.routed]
    found = []
    for row in rows:
        text = f"{check_text([True, False], [None, 1])}\n{bare_right(int(row.problem_id[1:]))}"
        found += [s.sample.r_ver for s in make_scorer(recipe, problems)(row, [Completion(text, 5)])]
    assert set(found) == {1.0, -1.0}  # right verdicts: rewarded and punished as the labels fall
