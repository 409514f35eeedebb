"""Before RL starts: figures by hand, what stops the run and what is only said, through the stage and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeRlTrainer, ScriptedGenerator, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.errors import Alarm
from realm_cli.protocols import Completion, GenRequest, Member, Probe, Scored
from realm_cli.recipe import TrainRlConfig
from realm_cli.records import PlanRow, Sample
from realm_cli.stages.plan import run_plan
from realm_cli.stages.preflight import choose, judge, measure
from realm_cli.stages.train_rl import RlInputs, run_train_rl
from stages.helpers import load
from stages.test_train_rl import DEV, SETS, TRAIN, opened, policy

FINE = {
    "groups": 16.0, "routed": 8.0, "truncated": 0.1, "length_95": 60.0, "dead": 0.5, "all_right": 0.2, "all_wrong": 0.3,
    "spread": 0.3, "form": 0.9, "gap": 1e-5, "ended": 1.0,
}  # fmt: skip


def rows(kinds: str) -> list[PlanRow]:
    """b = a bare row, r = a routed one."""
    return [
        PlanRow(id=f"s{i}", step=i, slot=0, problem_id="p", lam=0.5, p_routed=0.5, routed=kind == "r", messages=[])
        for i, kind in enumerate(kinds)
    ]


def scored(reward: float, advantage: float, *, fmt: float = 1.0, bridge: float = 0.0) -> Scored:
    ids = {"id": "x", "plan_id": "s", "step": 0, "problem_id": "p", "routed": False, "sample": 0}
    rest = {"p_len": 0.0, "p_copy": 0.0, "completion": "t", "n_tokens": 1, "truncated": False}
    parts = {"r_ans": reward, "r_fmt": fmt, "reward": reward, "advantage": advantage, "bridge_weight": bridge}
    return Scored(Sample.model_validate({**ids, **rest, **parts}))


def test_half_of_the_rows_are_routed_where_there_are_as_many() -> None:
    def kinds(plan: str, n: int) -> str:
        return "".join("r" if row.routed else "b" for row in choose(rows(plan), n))

    assert kinds("rrrrbbbb", 4) == "rrbb" and kinds("brbrbrbr", 4) == "brbr"
    assert kinds("bbbb", 3) == "bbb" and kinds("rrr", 8) == "rrr"
    assert kinds("brrrrr", 4) == "brrr" and kinds("rbbbbb", 5) == "rbbbb"


def test_figures_by_hand() -> None:
    done = [Completion("a", n, cut, (1,) * n) for n, cut in ((4, False), (9, True), (6, False), (8, False))]
    groups = [
        [scored(1.0, 0.5), scored(0.0, -0.5, fmt=0.0)],  # teaches
        [scored(0.0, 0.0), scored(0.0, 0.0)],  # all wrong
    ]
    found = measure(rows("br"), groups, Probe([done[:2], done[2:]], 0.01, 0.75))
    assert found == {
        "groups": 2, "routed": 1, "truncated": 0.25, "length_95": 6.0, "dead": 0.5, "all_right": 0.0, "all_wrong": 0.5,
        "spread": 0.25, "form": 0.5, "gap": 0.01, "ended": 0.75,
    }  # fmt: skip
    bridged = [[scored(1.0, 0.0, bridge=1.0)] * 2, [scored(1.0, 0.0)] * 2]
    found = measure(rows("rr"), bridged, Probe([done[1:2], done[1:2]]))
    assert (found["dead"], found["all_right"], found["truncated"]) == (0.5, 1.0, 1.0)
    assert not {"form", "gap", "ended", "length_95"} & set(found)


def test_external_routes_beside_a_group_teach() -> None:
    groups = [[scored(0.0, 0.0)] * 2, [scored(0.0, 0.0)] * 2]
    probe = Probe([[Completion("a", 1, False, (1,))]] * 2)
    found = measure(rows("br"), groups, probe, lambda row, _: () if row.routed else [Member("t", 0, 0.5, whole=True)])
    assert found["dead"] == 0.5


@pytest.mark.parametrize(
    ("change", "dead", "doubtful"),
    [
        ({}, "", ""),
        ({"truncated": 1.0}, "100% of the completions are cut off at 768 tokens (95 % of the complete ones", ""),
        ({"truncated": 0.6}, "", "raise train_rl.max_tokens to 1536, or distill shorter solutions first"),
        (
            {"dead": 1.0, "all_wrong": 1.0},
            "100% of 16 groups teach nothing (20% all right, 100% all wrong); distill",
            "",
        ),
        (
            {"dead": 1.0, "all_right": 0.9, "all_wrong": 0.1},
            "",
            "(90% all right, 10% all wrong); choose harder problems",
        ),
        ({"dead": 0.95, "all_right": 0.9}, "", "choose harder problems (train_rl.bucket_quotas, or --problems)"),
        ({"form": 0.01}, "", "1% of the bare answers have the asked form; distill first, or raise train_rl.reward.w_f"),
        ({"gap": 0.5}, "", "sampler and trainer differ by 0.5 nats a token (limit 0.1); set engine.shared_prefix=off"),
        ({"ended": 0.5}, "50% of the trained rows do not end in a token that ends sampling", ""),
    ],
)
def test_what_is_wrong_and_what_to_change(change: dict[str, float], dead: str, doubtful: str) -> None:
    found = judge({**FINE, **change}, TrainRlConfig())
    for texts, want in zip(found, (dead, doubtful), strict=True):
        assert len(texts) == bool(want) and all(want in text for text in texts)


def test_external_members_teach_where_no_group_has_variance() -> None:
    config = TrainRlConfig(routes_in_group=1.0)
    assert judge({**FINE, "dead": 1.0}, config)[0] == [] and len(judge({**FINE, "dead": 1.0}, config)[1]) == 1


def start(folder: Path, trainer: FakeRlTrainer, *, resume: bool = False, **config: Any) -> list[str]:
    """Run the stage; what it said."""
    write_rows(folder / "sets.jsonl", SETS)
    stage = opened(folder, resume=resume, **config)
    plan = run_plan(stage, TRAIN, folder / "sets.jsonl")
    said: list[str] = []
    inputs = RlInputs(TRAIN, DEV)
    run_train_rl(stage, inputs, plan, trainer, progress=no_progress, resume=resume, say=said.append)
    return said


def always(text: str) -> FakeRlTrainer:
    return FakeRlTrainer(ScriptedGenerator({"*": [text]}))


def test_a_run_that_cannot_learn_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(Alarm) as error:
        start(tmp_path, always("no idea"))
    assert str(error.value).startswith("train-rl: not started: 100% of 8 groups teach nothing (0% all right, 100% all")
    assert str(error.value).endswith(
        ", then rerun with --force (to start all the same: --resume with train_rl.preflight.stop=false)"
    )
    assert not error.value.keep and not (tmp_path / "train_rl" / "samples.jsonl").read_text()
    found = json.loads((tmp_path / "train_rl" / "preflight.json").read_text())
    assert found["dead"] == 1.0 and len(found["stop"]) == 1 and "asked form" in found["warn"][0]
    said = start(tmp_path, always("no idea"), resume=True, preflight={"stop": False})
    assert [text.partition(":")[0] for text in said] == ["pre-flight", "pre-flight"]
    assert load(tmp_path / "train_rl" / "samples.jsonl")


def test_a_sound_start_is_silent_and_tried_once(tmp_path: Path) -> None:
    trainer = FakeRlTrainer(ScriptedGenerator(policy), fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, trainer)
    asked = [request.key for request in trainer.generator.asked]  # type: ignore[attr-defined]
    assert len(asked) > 8 and json.loads((tmp_path / "train_rl" / "preflight.json").read_text())["stop"] == []
    later = FakeRlTrainer(ScriptedGenerator(policy))
    assert start(tmp_path, later, resume=True) == []
    assert len(later.generator.asked) == 2 * 2 + 2  # type: ignore[attr-defined]  # two steps and an evaluation


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    assert start(tmp_path, always("no idea"), preflight={"groups": 0}) == []
    assert not (tmp_path / "train_rl" / "preflight.json").exists()


def test_a_failing_probe_leaves_the_samples_alone(tmp_path: Path) -> None:
    def broken(request: GenRequest, sample: int) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, FakeRlTrainer(ScriptedGenerator(broken)))
    assert start(tmp_path, FakeRlTrainer(ScriptedGenerator(policy)), resume=True) == []
